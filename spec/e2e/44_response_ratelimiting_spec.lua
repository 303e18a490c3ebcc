-- What the document of response-ratelimiting promises, in its order and with its own numbers:
-- real web servers in front, a real service behind that says what its answers cost.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local costs = require "lib.costs"
local env = require "lib.env"
local fronts = require "lib.fronts"
local http = require "lib.http"
local modes = require "lib.modes"
local net = require "lib.net"
local nodes = require "lib.nodes"
local stores = require "lib.stores"
local weir = require "lib.weir"

local NAME = "response-ratelimiting"

-- path of a route -> the config of its plugin. Lasting windows, but where the document has none.
local CONFIGS = {
  ["/minute"] = "limits: { Videos: { minute: 10 } }",
  ["/both"] = "limits: { Videos: { second: 5, minute: 10 } }",
  ["/periods"] = "limits: { V: { second: 6, minute: 6, hour: 6, day: 6, month: 6, year: 6 } }",
  ["/quota"] = "limits: { Videos: { hour: 4 }, Images: { hour: 2 } }",
  ["/named"] = "limits: { Videos: { hour: 4 } }, header_name: X-Price",
}

local function yml(url)
  local list = {}
  for path, config in pairs(CONFIGS) do
    list[#list + 1] = { path, NAME, config }
  end
  return stores.yml(url, list)
end

local function ask(address, path, cost, opts)
  opts = opts or {}
  opts.path = costs.target(path, cost, opts.more)
  local got = assert(http.request(address, opts))
  assert.is_nil(got.headers["x-kong-limit"])
  return got
end

-- The fields about limits, as "Name: value", sorted.
local function shown(got)
  local out = {}
  for _, field in ipairs(got.all) do
    if field[1]:lower():find("ratelimit", 1, true) then
      out[#out + 1] = field[1] .. ": " .. field[2]
    end
  end
  table.sort(out)
  return out
end

local function assert_denied(got)
  assert.equal(429, got.status)
  assert.equal("Too Many Requests", got.reason)
  assert.equal("", got.body)
  assert.equal("0", got.headers["content-length"])
  assert.is_nil(got.headers["retry-after"])
end

for _, kind in ipairs({ "lighttpd", "nginx" }) do
  describe("response-ratelimiting through " .. kind, function()
    local e, w, front, address
    local it = modes.wrap(it, function() return w end)

    setup(function()
      e = env.new()
      w = weir.new(e, { yml = yml(costs.nginx(e).url),
                        conf = { workers = 2, trusted_ips = "127.0.0.1/32" } })
      w:start()
      front = fronts[kind](e, { sample = kind .. "/responder.conf", weir = w })
      address = front.address
    end)

    teardown(function()
      front:stop()
      w:stop()
      e:destroy()
    end)

    before_each(function()
      env.stay_clear(3600, 30)
      env.stay_clear(60, 10)
    end)

    after_each(function()
      e:check()
    end)

    it("says what is left of a limit", function()
      local source = env.client()
      assert.same({ "X-RateLimit-Limit-Videos-Minute: 10",
                    "X-RateLimit-Remaining-Videos-Minute: 9" },
                  shown(ask(address, "/minute", "Videos=1", { source = source })))
      for left = 8, 0, -1 do
        local got = ask(address, "/minute", "Videos=1", { source = source })
        assert.equal(200, got.status)
        assert.equal("xxx", got.body)
        assert.equal(tostring(left), got.headers["x-ratelimit-remaining-videos-minute"])
      end
      local got = ask(address, "/minute", "Videos=1", { source = source })
      assert_denied(got)
      assert.same({ "X-RateLimit-Limit-Videos-Minute: 10",
                    "X-RateLimit-Remaining-Videos-Minute: 0" }, shown(got))
      assert.equal(200, ask(address, "/minute", "Videos=1", { source = env.client() }).status)
    end)

    it("says it of several windows", function()
      local source = env.client()
      assert.same({ "X-RateLimit-Limit-Videos-Minute: 10", "X-RateLimit-Limit-Videos-Second: 5",
                    "X-RateLimit-Remaining-Videos-Minute: 10",
                    "X-RateLimit-Remaining-Videos-Second: 5" },
                  shown(ask(address, "/both", "Videos=0", { source = source })))
      assert.equal(200, ask(address, "/both", "Videos=5", { source = source }).status)
      net.sleep(1.05) -- a new second, with the same minute
      local got = ask(address, "/both", "Videos=1", { source = source })
      assert.same({ "X-RateLimit-Limit-Videos-Minute: 10", "X-RateLimit-Limit-Videos-Second: 5",
                    "X-RateLimit-Remaining-Videos-Minute: 4",
                    "X-RateLimit-Remaining-Videos-Second: 4" }, shown(got))
    end)

    it("knows seconds, minutes, hours, days, months and years", function()
      local got = ask(address, "/periods", "V=2", { source = env.client() })
      for _, period in ipairs({ "Second", "Minute", "Hour", "Day", "Month", "Year" }) do
        assert.equal("6", got.headers["x-ratelimit-limit-v-" .. period:lower()])
        assert.equal("4", got.headers["x-ratelimit-remaining-v-" .. period:lower()])
      end
    end)

    it("counts several limits by one header, and gives units back", function()
      local source = env.client()
      local got = ask(address, "/quota", "Videos=2, Images=2", { source = source })
      assert.equal("2", got.headers["x-ratelimit-remaining-videos-hour"])
      assert.equal("0", got.headers["x-ratelimit-remaining-images-hour"])
      assert_denied(ask(address, "/quota", "Videos=1,Images=1", { source = source }))
      got = ask(address, "/quota", "Videos=1 ,Images=-1", { source = source })
      assert.equal("1", got.headers["x-ratelimit-remaining-videos-hour"])
      assert.equal("1", got.headers["x-ratelimit-remaining-images-hour"])
    end)

    it("reads the header that it is told to read", function()
      local source = env.client()
      local got = ask(address, "/named", "Videos=4", { source = source, more = "name=X-Price" })
      assert.equal("0", got.headers["x-ratelimit-remaining-videos-hour"])
      assert.is_nil(got.headers["x-price"])
      assert_denied(ask(address, "/named", "Videos=1", { source = source, more = "name=X-Price" }))
    end)

    it("tells the service what is left", function()
      local source = env.client()
      local function seen()
        local body = ask(address, "/quota", "Videos=0", { source = source, more = "seen=1" }).body
        local out = {}
        for name, value in body:gmatch("\n(X%-RateLimit%S+): (%d+)") do
          out[name] = value
        end
        return out
      end
      assert.same({ ["X-RateLimit-Remaining-Videos"] = "4",
                    ["X-RateLimit-Remaining-Images"] = "2" }, seen())
      ask(address, "/quota", "Videos=1,Images=2", { source = source })
      assert.same({ ["X-RateLimit-Remaining-Videos"] = "3",
                    ["X-RateLimit-Remaining-Images"] = "0" }, seen())
    end)

    it("counts by the address that a trusted proxy names", function()
      local function by(ip)
        return ask(address, "/quota", "Images=2", { headers = { { "X-Real-IP", ip } } })
      end
      local one, other = env.client(), env.client()
      assert.equal(200, by(one).status)
      assert_denied(by(one))
      assert.equal(200, by(other).status)
    end)

    it("drops bodies of any size and form, and confuses no connection by that", function()
      local poor, rich = env.client(), env.client()
      -- lighttpd closes a kept connection after five idle seconds: the other answer comes before
      local size = env.mode == "slow-io" and 2000 or modes.is_slow() and 10000 or 1000000
      assert.equal(200, ask(address, "/quota", "Videos=4", { source = poor }).status)
      local c = assert(http.connect(address, { source = poor }))
      for _, more in ipairs({ "bytes=0", "bytes=3", "bytes=" .. size, "chunked=1&bytes=" .. size,
                              "status=500", "status=304" }) do
        assert_denied(assert(c:request({ keep = true,
                                         path = costs.target("/quota", "Videos=1", more) })))
        local got = ask(address, "/quota", "Videos=0", { source = rich, more = "bytes=" .. size })
        assert.equal(200, got.status)
        assert.equal(size, #got.body)
      end
      c:close()
    end)
  end)
end

describe("response-ratelimiting on three nodes", function()
  local e, service

  setup(function()
    e = env.new()
    service = costs.nginx(e)
  end)

  teardown(function()
    e:destroy()
  end)

  local function count_down(name, yml_fields, store)
    env.stay_clear(3600, 30)
    local n = nodes.new(e, { name = name, conf = store and store.conf, yml = stores.yml(
      service.url, { { "/media", NAME, "limits: { Videos: { hour: 5 } }, " .. yml_fields } }) })
    if store then
      stores.migrate(store, n[1])
    end
    n:start()
    local statuses, left, source = {}, {}, env.client()
    for i = 1, 12 do
      local got = ask(n.address, "/media", "Videos=1", { source = source })
      statuses[got.status] = (statuses[got.status] or 0) + 1
      left[i] = tonumber(got.headers["x-ratelimit-remaining-videos-hour"])
    end
    e:check()
    n:stop()
    e.checks = {}
    table.sort(left, function(a, b) return a > b end) -- whose turn it is, the front says
    return statuses, left
  end

  it("diverges with the policy local", function()
    local statuses, left = count_down("local", "policy: local")
    assert.same({ [200] = 12 }, statuses)
    assert.same({ 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1 }, left)
  end)

  for name, names in pairs({ redis = { "redis", "redis Cluster" },
                             cluster = { "postgres", "sqlite" } }) do
    for _, store_name in ipairs(names) do
      it("counts together with the policy " .. name .. ": " .. store_name, function()
        local store = stores.start(e, store_name)
        local statuses, left = count_down(store_name:gsub(" ", "") .. "-", stores.fields(store),
                                          store)
        assert.same({ [200] = 5, [429] = 7 }, statuses)
        assert.same({ 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0 }, left)
      end)
    end
  end
end)
