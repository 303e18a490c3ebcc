-- response-ratelimiting with the policy local, driven over FastCGI before a real nginx that
-- names the costs: what is counted, what each side is told, what a rejection looks like.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local costs = require "lib.costs"
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local weir = require "lib.weir"

-- name of the route -> the config of its plugin.
local ROUTES = {
  one = "{ limits: { Videos: { hour: 5 } } }",
  windows = "{ limits: { Videos: { minute: 5, hour: 100 } } }",
  two = "{ limits: { Videos: { hour: 10 }, Images: { hour: 2, day: 50 } } }",
  three = "{ limits: { a: { hour: 10 }, b: { hour: 10 }, c: { hour: 1 } } }",
  block = "{ limits: { Videos: { hour: 2 }, Images: { hour: 2 } }, " ..
          "block_on_first_violation: true }",
  hidden = "{ limits: { Videos: { hour: 1 } }, hide_client_headers: true }",
  half = "{ limits: { Videos: { hour: 2.5 } } }",
  named = "{ limits: { Videos: { hour: 1 } }, header_name: X-Price }",
  under = "{ limits: { Videos: { hour: 1 } }, header_name: x_price }",
  byip = "{ limits: { Videos: { hour: 1 } }, limit_by: ip }",
  credential = "{ limits: { Videos: { hour: 1 } }, limit_by: credential }",
  nulls = "{ limits: { Videos: { hour: 1, day: ~ } }, limit_by: ~, policy: ~, header_name: ~ }",
  dry = "{ limits: { Videos: { hour: 1 }, Images: { hour: 5 } }, dry_run: true }",
  drydoor = "{ limits: { Videos: { hour: 1 } }, dry_run: true, block_on_first_violation: true }",
  counters = "{ limits: { Images: { hour: 3, day: 4 }, Videos: { hour: 5 } } }",
  draft = "{ limits: { Videos: { minute: 5, month: 100 }, Images: { hour: 2 } }, " ..
          "draft_headers: true }",
}

-- Answers what operators are told of a client's counters: the plugin's own function.
local COUNTERS = [[
  local conf = { limits = { Images = { hour = 3, day = 4 }, Videos = { hour = 5 } },
                 route_id = kong.router.get_route().id }
  local out = {}
  local plugin = require 'kong.plugins.response-ratelimiting.handler'
  for i, set in ipairs(plugin.counters(conf, kong.client.get_ip())) do
    local used = require('weir.counter').peek(set.store, set.identity, set.windows)
    out[i] = set.name .. ' ' .. table.concat(set.titles, ',') .. ' ' .. used[0]
  end
  kong.response.exit(200, table.concat(out, '; '))
]]

local function yml(url)
  local out = { '_format_version: "3.0"', "services:", "  - name: costs", "    url: " .. url,
                "    routes:" }
  for name, config in pairs(ROUTES) do
    out[#out + 1] = "      - name: " .. name
    out[#out + 1] = "        paths: [ /" .. name .. " ]"
    out[#out + 1] = "        plugins:"
    out[#out + 1] = "          - name: response-ratelimiting"
    out[#out + 1] = "            config: " .. config
    if name == "counters" then
      out[#out + 1] = "          - name: pdk-run"
      out[#out + 1] = "            config: { access: \"if kong.request.get_header('X-Look') then "
        .. COUNTERS:gsub("%s+", " ") .. " end\" }"
    end
  end
  return table.concat(out, "\n") .. "\n"
end

describe("response-ratelimiting", function()
  local e, w, service
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    service = costs.nginx(e)
    w = weir.new(e, { yml = yml(service.url), conf = {
      workers = 2, plugins = "bundled,pdk-run",
      plugin_dir = env.srcdir .. "/plugins," .. env.srcdir .. "/spec/fixtures/plugins",
    } })
    w:start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  before_each(function()
    env.stay_clear(3600)
  end)

  after_each(function()
    e:check()
  end)

  -- An answer; whatever it is, the header of the costs is not in it.
  local function ask(target, client, params)
    local all = { REQUEST_URI = target, REMOTE_ADDR = client,
                  QUERY_STRING = target:match("%?(.*)") or "" }
    for name, value in pairs(params or {}) do
      all[name] = value
    end
    local got = assert(fcgi.once(w.unix, { params = all }))
    for _, field in ipairs(got.all) do
      assert.not_equal("x-kong-limit", field[1]:lower())
    end
    return got
  end

  local function pay(path, cost, client, more)
    return ask(costs.target(path, cost, more), client)
  end

  -- What is left of Videos in the hour when an answer has cost this.
  local function left_after(path, cost, client)
    return pay(path, cost, client).headers["x-ratelimit-remaining-videos-hour"]
  end

  -- What is left of a limit's window, for this client.
  local function left(path, client, name, period)
    return tonumber(ask(path, client).headers["x-ratelimit-remaining-" .. (name or "videos")
                                              .. "-" .. (period or "hour")])
  end

  it("counts what answers cost and says what is left", function()
    local client = env.client()
    for remaining = 4, 0, -1 do
      local got = pay("/one", "Videos=1", client)
      assert.equal(200, got.status)
      assert.equal("xxx", got.body)
      assert.equal("5", got.headers["x-ratelimit-limit-videos-hour"])
      assert.equal(tostring(remaining), got.headers["x-ratelimit-remaining-videos-hour"])
    end
    local got = pay("/one", "Videos=1", client)
    assert.equal(429, got.status)
    assert.equal("", got.body)
    assert.equal("0", got.headers["content-length"])
    assert.equal("5", got.headers["x-ratelimit-limit-videos-hour"])
    assert.equal("0", got.headers["x-ratelimit-remaining-videos-hour"])
    assert.equal(200, pay("/one", "Videos=1", env.client()).status)
  end)

  it("names its headers as the documents do, and sends no others", function()
    local names = {}
    for _, field in ipairs(pay("/windows", "Videos=1", env.client()).all) do
      if field[1]:lower():find("ratelimit", 1, true) or field[1]:lower() == "retry-after" then
        names[#names + 1] = field[1]
      end
    end
    table.sort(names)
    assert.same({ "X-RateLimit-Limit-Videos-Hour", "X-RateLimit-Limit-Videos-Minute",
                  "X-RateLimit-Remaining-Videos-Hour", "X-RateLimit-Remaining-Videos-Minute" },
                names)
  end)

  it("lets what costs nothing pass, always", function()
    local client = env.client()
    assert.equal(200, pay("/one", "Videos=5", client).status)
    assert.equal(429, pay("/one", "Videos=1", client).status)
    local got = ask("/one", client)
    assert.equal(200, got.status)
    assert.equal("0", got.headers["x-ratelimit-remaining-videos-hour"])
    assert.equal(200, pay("/one", "Videos=0", client).status)
  end)

  it("lets an answer overshoot when anything was left", function()
    local client = env.client()
    assert.equal("1", left_after("/one", "Videos=4", client))
    local got = pay("/one", "Videos=1000", client)
    assert.equal(200, got.status)
    assert.equal("0", got.headers["x-ratelimit-remaining-videos-hour"])
    assert.equal(429, pay("/one", "Videos=1", client).status)
  end)

  it("counts a rejected answer in no window", function()
    env.stay_clear(60)
    local client = env.client()
    assert.equal(200, pay("/windows", "Videos=5", client).status)
    for _ = 1, 3 do
      local got = pay("/windows", "Videos=7", client)
      assert.equal(429, got.status)
      assert.equal("95", got.headers["x-ratelimit-remaining-videos-hour"])
      assert.equal("0", got.headers["x-ratelimit-remaining-videos-minute"])
    end
  end)

  it("counts several costs, in one header and in several", function()
    local client = env.client()
    local got = pay("/two", "Videos=2, Images=1", client)
    assert.equal(200, got.status)
    assert.equal("8", got.headers["x-ratelimit-remaining-videos-hour"])
    assert.equal("1", got.headers["x-ratelimit-remaining-images-hour"])
    assert.equal("49", got.headers["x-ratelimit-remaining-images-day"])
    got = pay("/two", { "Videos=1", "Videos=1,Images=1", "Videos=2" }, client)
    assert.equal("4", got.headers["x-ratelimit-remaining-videos-hour"])
    assert.equal("0", got.headers["x-ratelimit-remaining-images-hour"])
    got = pay("/two", "Videos=1,Images=1", client)
    assert.equal(429, got.status)
    assert.equal("4", got.headers["x-ratelimit-remaining-videos-hour"])
    assert.equal("0", got.headers["x-ratelimit-remaining-images-hour"])
    assert.equal("48", got.headers["x-ratelimit-remaining-images-day"])
    assert.equal("3", left_after("/two", "Videos=1", client))
  end)

  it("counts all of an answer or nothing", function()
    local client = env.client()
    assert.equal(200, pay("/three", "a=1,b=2,c=1", client).status)
    for _ = 1, 4 do
      assert.equal(429, pay("/three", "a=3,b=4,c=5", client).status)
    end
    assert.equal(9, left("/three", client, "a"))
    assert.equal(8, left("/three", client, "b"))
    assert.equal(0, left("/three", client, "c"))
  end)

  it("gives units back", function()
    local client = env.client()
    assert.equal("1", left_after("/one", "Videos=4", client))
    assert.equal("3", left_after("/one", "Videos=-2", client))
    assert.equal(3, left("/one", client))
    -- never more than the limit
    assert.equal("5", left_after("/one", "Videos=-70", client))
    assert.equal(5, left("/one", client))
    assert.equal("0", left_after("/one", "Videos=5", client))
    assert.equal(429, pay("/one", "Videos=1", client).status)
    assert.equal(200, pay("/one", "Videos=-1", client).status)
    assert.equal(200, pay("/one", "Videos=1", client).status)
    assert.equal(429, pay("/one", "Videos=1", client).status)
  end)

  it("is harmed by no bad cost", function()
    local client = env.client()
    for _, bad in ipairs({ "Videos", "Videos=", "Videos=1.5", "Videos=-1.5", "Videos=x",
                           "Videos=0x5", "videos=1", "Films=1", "=", "Videos==1", "Videos=1=1",
                           "Videos=inf", "Videos=1000000000001",
                           "Videos=-9999999999999999999999999",
                           "Videos=" .. ("9"):rep(4000), ("\200x"):rep(2000) }) do
      w:expect_log("what is no cost in the service's header x%-kong%-limit: ")
      local got = pay("/one", bad, client)
      assert.equal(200, got.status)
      assert.equal("xxx", got.body)
      assert.equal("5", got.headers["x-ratelimit-remaining-videos-hour"])
      local line = w:wait_log("what is no cost in")
      assert.is_true(line ~= nil and #line < 500)
      assert.is_nil(line:find("[\128-\255]"))
      w:check()
    end
    w:expect_log('%[response%-ratelimiting%] what is no cost .*: "a=b" %(there is no such limit%)'
                 .. ", and 1 more", 1)
    assert.equal("3", pay("/one", { "a=b,Videos=1", "Videos=1,c" }, client)
      .headers["x-ratelimit-remaining-videos-hour"])
  end)

  it("is not brought down by a cost as large as can be", function()
    local client = env.client()
    for _ = 1, 2 do
      assert.equal(200, pay("/one", "Videos=1000000000000", client).status)
      assert.equal(0, left("/one", client))
      assert.equal(429, pay("/one", "Videos=1000000000000", client).status)
      assert.equal(200, pay("/one", "Videos=-1000000000000", client).status)
      assert.equal(5, left("/one", client))
    end
  end)

  -- The headers of the request as the service saw it.
  local function seen(path, client, params)
    local out = {}
    for line in ask(path .. "?seen=1", client, params).body:gmatch("[^\r\n]+") do
      local name, value = line:match("^([^:]+): (.*)$")
      if name then
        assert.is_nil(out[name])
        out[name] = value
      end
    end
    return out
  end

  it("tells the service what is left, whatever the client says", function()
    local client = env.client()
    pay("/two", "Videos=3, Images=1", client)
    local h = seen("/two", client, { ["HTTP_X_RATELIMIT_REMAINING_VIDEOS"] = "1000" })
    assert.equal("7", h["X-RateLimit-Remaining-Videos"])
    assert.equal("1", h["X-RateLimit-Remaining-Images"])
    pay("/two", "Images=100", client)
    assert.equal("0", seen("/two", client)["X-RateLimit-Remaining-Images"])
  end)

  it("can block before the service is asked", function()
    local client = env.client()
    assert.equal(200, pay("/block", "Images=2", client).status)
    local got = pay("/block", "Videos=1", client, "asked=" .. client)
    assert.equal(429, got.status)
    assert.equal('{"message":"API rate limit exceeded for \'Images\'"}', got.body)
    assert.equal("application/json; charset=utf-8", got.headers["content-type"])
    assert.equal("0", got.headers["x-ratelimit-remaining-images-hour"])
    assert.equal("2", got.headers["x-ratelimit-remaining-videos-hour"])
    for _, request in ipairs(service:requests()) do
      assert.is_nil(request[1]:find("asked=" .. client, 1, true))
    end
    assert.equal(200, pay("/block", "Videos=1", env.client()).status)
    -- also after an answer that cost more than was left
    client = env.client()
    assert.equal(200, pay("/block", "Videos=100", client).status)
    got = ask("/block", client, { HTTP_ACCEPT = "text/plain" })
    assert.equal(429, got.status)
    assert.equal("API rate limit exceeded for 'Videos'\n", got.body)
  end)

  it("can hide its headers", function()
    local client = env.client()
    for _, want in ipairs({ 200, 429 }) do
      local got = pay("/hidden", "Videos=1", client)
      assert.equal(want, got.status)
      for _, field in ipairs(got.all) do
        assert.is_nil(field[1]:lower():find("ratelimit", 1, true))
      end
    end
  end)

  it("takes limits that are no integers", function()
    local client = env.client()
    for _, want in ipairs({ { 200, "1" }, { 200, "0" }, { 200, "0" }, { 429, "0" } }) do
      local got = pay("/half", "Videos=1", client)
      assert.equal(want[1], got.status)
      assert.equal("2.5", got.headers["x-ratelimit-limit-videos-hour"])
      assert.equal(want[2], got.headers["x-ratelimit-remaining-videos-hour"])
    end
  end)

  it("reads another header if it is told to", function()
    local client = env.client()
    local got = pay("/named", "Videos=1", client, "name=x-pricE")
    assert.equal(200, got.status)
    assert.equal("0", got.headers["x-ratelimit-remaining-videos-hour"])
    assert.is_nil(got.headers["x-price"])
    assert.equal(429, pay("/named", "Videos=1", client, "name=X-Price").status)
  end)

  it("reads a header whose name is written with _", function()
    for _, name in ipairs({ "X-Price", "X_Price" }) do
      local client = env.client()
      local got = pay("/under", "Videos=1", client, "name=" .. name)
      assert.equal("0", got.headers["x-ratelimit-remaining-videos-hour"])
      assert.is_nil(got.headers[name:lower()])
      assert.equal(429, pay("/under", "Videos=1", client, "name=" .. name).status)
    end
  end)

  it("counts by address, and by what stands in for a consumer or a credential", function()
    for _, path in ipairs({ "/byip", "/credential", "/nulls" }) do
      local client = env.client()
      assert.equal(200, pay(path, "Videos=1", client).status)
      assert.equal(429, pay(path, "Videos=1", client).status)
      assert.equal(200, pay(path, "Videos=1", env.client()).status)
    end
  end)

  it("puts an empty answer in the place of any", function()
    local client = env.client()
    pay("/one", "Videos=5", client)
    for _, more in ipairs({ "bytes=0", "bytes=1", "bytes=200000", "bytes=200000&chunked=1",
                            "bytes=1000000&ms=20", "bytes=1000000&ms=20&chunked=1", "status=204",
                            "status=304", "status=500", "status=404&bytes=10" }) do
      local got = pay("/one", "Videos=1", client, more)
      assert.equal(429, got.status, more)
      assert.equal("", got.body, more)
      assert.equal("0", got.headers["content-length"], more)
      for _, name in ipairs({ "content-type", "etag", "cache-control" }) do
        assert.is_nil(got.headers[name], more)
      end
      assert.equal("kept=1", got.headers["set-cookie"], more)
    end
    local got = ask(costs.target("/one", "Videos=1"), client, { REQUEST_METHOD = "HEAD" })
    assert.equal(429, got.status)
    assert.equal("", got.body)
  end)

  it("does not confuse the next request to the service", function()
    local poor, rich = env.client(), env.client()
    pay("/one", "Videos=5", poor)
    for _, more in ipairs({ "bytes=3", "bytes=70000", "bytes=300000&ms=5&chunked=1" }) do
      assert.equal(429, pay("/one", "Videos=1", poor, more).status)
      for _ = 1, 3 do
        local got = pay("/one", "Videos=0", rich, "bytes=5")
        assert.equal(200, got.status)
        assert.equal("xxxxx", got.body)
      end
    end
  end)

  it("keeps the connection to a service whose small answers it withholds", function()
    local client = env.client()
    pay("/one", "Videos=5", client)
    for _ = 1, 20 do
      assert.equal(429, pay("/one", "Videos=1", client, "kept=" .. client).status)
    end
    local all, n = {}, 0
    net.wait_until(2, function()
      all, n = {}, 0
      for _, request in ipairs(service:requests()) do
        if request[1]:find("kept=" .. client, 1, true) then
          all[request[3]], n = true, n + 1
        end
      end
      return n == 20
    end)
    assert.equal(20, n)
    local connections = 0
    for _ in pairs(all) do
      connections = connections + 1
    end
    assert.is_true(connections <= 4, connections .. " connections") -- of two workers
  end)

  it("counts what failures and heads cost, and hides its header there", function()
    local client = env.client()
    for i, more in ipairs({ "status=500", "status=304", "status=204" }) do
      local got = pay("/one", "Videos=1", client, more)
      assert.equal(tonumber(more:match("%d+")), got.status)
      assert.equal(tostring(5 - i), got.headers["x-ratelimit-remaining-videos-hour"])
    end
    local got = ask(costs.target("/one", "Videos=1"), client, { REQUEST_METHOD = "HEAD" })
    assert.equal(200, got.status)
    assert.equal("1", got.headers["x-ratelimit-remaining-videos-hour"])
  end)

  it("only says what it would deny in a dry run", function()
    local client = env.client()
    local line = "would have been denied: route dry, " .. client .. ", limit 'Videos'"
    assert.equal(200, pay("/dry", "Videos=1", client).status)
    assert.equal(0, w:log_count(line))
    local got = pay("/dry", "Videos=1,Images=1", client)
    assert.equal(200, got.status)
    assert.equal("xxx", got.body)
    assert.equal("0", got.headers["x-ratelimit-remaining-videos-hour"])
    assert.equal("5", got.headers["x-ratelimit-remaining-images-hour"])
    assert.equal(1, w:log_count(line))
    assert.equal("4", pay("/dry", "Images=1", client).headers["x-ratelimit-remaining-images-hour"])
    client = env.client()
    assert.equal(200, pay("/drydoor", "Videos=1", client).status)
    assert.equal(200, pay("/drydoor", "Videos=1", client).status)
    assert.equal(1, w:log_count("would have been denied: route drydoor, " .. client))
  end)

  it("can send the fields of the draft", function()
    env.stay_clear(60)
    local client = env.client()
    local h = pay("/draft", "Videos=2", client).headers
    assert.equal('"Images-hour";q=2;w=3600, "Videos-minute";q=5;w=60, "Videos-month";q=100',
                 h["ratelimit-policy"])
    assert.matches('^"Images%-hour";r=2;t=%d+, "Videos%-minute";r=3;t=%d+, '
                   .. '"Videos%-month";r=98;t=%d+$', h["ratelimit"])
    assert.is_nil(pay("/one", "Videos=2", client).headers["ratelimit-policy"])
  end)

  it("tells operators what is counted", function()
    local client = env.client()
    assert.equal(200, pay("/counters", "Videos=4, Images=2", client).status)
    assert.equal("Images hour,day 2; Videos hour 4",
                 ask("/counters", client, { HTTP_X_LOOK = "1" }).body)
  end)
end)
