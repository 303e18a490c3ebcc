-- response-ratelimiting beside what else happens to a response: many at once, other plugins
-- that wait, fail or answer, clients that leave, services that say strange things or nothing.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local costs = require "lib.costs"
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local function answer(head, body)
  return "HTTP/1.1 200 OK\r\n" .. head .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

local RAW = {
  ["/repeated"] = answer("x-KONG-limit: Videos=1\r\nX-Kong-Limit:\r\nX-Other: 1\r\n"
                         .. "X-KONG-LIMIT:\tVideos = 1 ,\r\nX_Kong_Limit: Videos=1\r\n", "abc"),
  ["/hop"] = answer("Connection: close, X-Kong-Limit\r\nX-Kong-Limit: Videos=1\r\n", "abc"),
  ["/trailer"] = "HTTP/1.1 200 OK\r\nX-Kong-Limit: Videos=1\r\nTrailer: X-Kong-Limit\r\n"
    .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Kong-Limit: Videos=3\r\n\r\n",
  ["/many"] = answer(("X-Kong-Limit: Videos=0\r\n"):rep(70) .. "X-Kong-Limit: Videos=1\r\n", "abc"),
  ["/early"] = "HTTP/1.1 103 Early Hints\r\nX-Kong-Limit: Videos=3\r\n\r\n"
    .. answer("X-Kong-Limit: Videos=1\r\n", "abc"),
  ["/breaks"] = "HTTP/1.1 200 OK\r\nX-Kong-Limit: Videos=1\r\nContent-Length: 100\r\n\r\nabc",
  ["/garbage"] = "X-Kong-Limit: Videos=1\r\n\r\n",
  ["/silent"] = { 0.8 },
}

local LIMITS = "{ limits: { Videos: { hour: 5 } } }"

-- Plugins that stand beside ours, by name.
local HANDLERS = {
  -- they let time pass in header_filter, before and after our own turn
  waits_before = [[
    local H = { PRIORITY = 950, VERSION = "1.0.0" }
    function H:header_filter() require("weir.timer").sleep(0.05) end
    return H
  ]],
  waits_after = [[
    local H = { PRIORITY = 850, VERSION = "1.0.0" }
    function H:header_filter() require("weir.timer").sleep(0.05) end
    return H
  ]],
  fails_before = [[
    local H = { PRIORITY = 950, VERSION = "1.0.0" }
    function H:header_filter() error("on purpose") end
    return H
  ]],
  fails_in_access = [[
    local H = { PRIORITY = 950, VERSION = "1.0.0" }
    function H:access() error("on purpose") end
    return H
  ]],
  exits_before = [[
    local H = { PRIORITY = 950, VERSION = "1.0.0" }
    function H:access()
      return kong.response.exit(203, "mine", { ["X-Kong-Limit"] = "Videos=1" })
    end
    return H
  ]],
  exits_after = [[
    local H = { PRIORITY = 850, VERSION = "1.0.0" }
    function H:access()
      return kong.response.exit(203, "mine", { ["X-Kong-Limit"] = "Videos=1" })
    end
    return H
  ]],
  adds_later = [[
    local H = { PRIORITY = 950, VERSION = "1.0.0" }
    function H:header_filter() kong.response.add_header("X-Kong-Limit", "Videos=1") end
    return H
  ]],
  buffers = [[
    local H = { PRIORITY = 950, VERSION = "1.0.0" }
    function H:response()
      kong.response.set_header("X-Length", #kong.service.response.get_raw_body())
    end
    return H
  ]],
  replaces = [[
    local H = { PRIORITY = 950, VERSION = "1.0.0" }
    function H:response() return kong.response.exit(203, "mine") end
    return H
  ]],
  rewrites = [[
    local H = { PRIORITY = 950, VERSION = "1.0.0" }
    function H:header_filter() kong.response.clear_header("Content-Length") end
    function H:body_filter()
      local body = kong.response.get_raw_body()
      if body and body ~= "" then kong.response.set_raw_body("<" .. body .. ">") end
    end
    return H
  ]],
}

local function yml(url, raw, dead)
  local out = { '_format_version: "3.0"', "services:" }
  local function service(name, where)
    out[#out + 1] = "  - { name: " .. name .. ", url: \"" .. where .. "\", read_timeout: 500, "
      .. "retries: 0 }"
  end
  service("costs", url)
  service("raw", raw)
  service("dead", dead)
  out[#out + 1] = "routes:"
  local function route(name, of, config, other)
    out[#out + 1] = "  - name: " .. name
    out[#out + 1] = "    service: " .. of
    out[#out + 1] = "    paths: [ /" .. name .. " ]"
    out[#out + 1] = "    plugins:"
    out[#out + 1] = "      - { name: response-ratelimiting, config: " .. config .. " }"
    if other then
      out[#out + 1] = "      - { name: " .. other .. " }"
    end
  end
  route("many", "costs", "{ limits: { Videos: { hour: 100 }, Images: { hour: 1000 } } }")
  route("raw", "raw", LIMITS)
  route("dead", "dead", LIMITS)
  for name in pairs(HANDLERS) do
    route(name, "costs", LIMITS, name)
  end
  return table.concat(out, "\n") .. "\n"
end

local LARGE = modes.is_slow() and 20000 or 3000000

describe("response-ratelimiting beside", function()
  local e, w, service
  local once = it -- of what fills pools for many at once: memory grows as long as they do
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    service = costs.nginx(e)
    local dir = weir.plugin_dir(e)
    for name, handler in pairs(HANDLERS) do
      weir.write_plugin(e, name, handler)
    end
    w = weir.new(e, {
      yml = yml(service.url, upstream.raw(e, RAW, 8).url, "http://127.0.0.1:" .. e:port()),
      conf = { workers = 2, plugin_dir = env.srcdir .. "/plugins," .. dir },
    })
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

  local function params_of(target, client, more)
    local all = { REQUEST_URI = target, REMOTE_ADDR = client,
                  QUERY_STRING = target:match("%?(.*)") or "" }
    for name, value in pairs(more or {}) do
      all[name] = value
    end
    return all
  end

  local function assert_hidden(got)
    for _, field in ipairs(got.all) do
      assert.not_equal("x-kong-limit", field[1]:lower())
    end
    return got
  end

  local function ask(target, client, opts)
    opts = opts or {}
    opts.params = params_of(target, client, opts.params)
    return assert_hidden(assert(fcgi.once(w.unix, opts)))
  end

  local function pay(path, cost, client, more)
    return ask(costs.target(path, cost, more), client)
  end

  local function left(got)
    return got.headers["x-ratelimit-remaining-videos-hour"]
  end

  -- How many of each status n parallel clients with several requests each are answered.
  local function ask_at_once(target, client, clients, each)
    local all, statuses = {}, {}
    for i = 1, clients do
      all[i] = assert(fcgi.connect(w.unix))
    end
    for id = 1, each do
      for _, c in ipairs(all) do
        assert(c:send(fcgi.request({ id = id, keep = true, params = params_of(target, client) })))
      end
    end
    for _, c in ipairs(all) do
      for id = 1, each do
        local got = assert_hidden(assert(c:answer(id, 30)))
        statuses[got.status] = (statuses[got.status] or 0) + 1
        if got.status == 429 then
          assert.equal("", got.body)
        end
      end
      c:close()
    end
    return statuses
  end

  once("64 clients at once lets through what the limit says", function()
    for cost, passed in pairs({ ["Videos=1"] = 100, ["Videos=2"] = 50, ["Videos=7"] = 15,
                                ["Videos=1,Images=1"] = 100, ["Images=3,Videos=4"] = 25 }) do
      local client = env.client()
      local statuses = ask_at_once(costs.target("/many", cost), client, 64, 4)
      assert.equal(passed, statuses[200], cost)
      assert.equal(256 - passed, statuses[429], cost)
      local images = tonumber(cost:match("Images=(%d)")) or 0
      assert.equal(tostring(1000 - passed * images),
                   ask("/many", client).headers["x-ratelimit-remaining-images-hour"])
    end
  end)

  once("plugins that wait is exact", function()
    for _, path in ipairs({ "/waits_before", "/waits_after" }) do
      local statuses = ask_at_once(costs.target(path, "Videos=1"), env.client(), 8, 4)
      assert.same({ [200] = 5, [429] = 27 }, statuses)
    end
  end)

  it("plugins that wait sends whole bodies, or none", function()
    for _, path in ipairs({ "/waits_before", "/waits_after" }) do
      for _, more in ipairs({ "bytes=3", "bytes=0", "bytes=" .. LARGE,
                              "chunked=1&bytes=" .. LARGE, "bytes=" .. LARGE / 10 .. "&ms=30" }) do
        local client = env.client()
        local n = tonumber(more:match("bytes=(%d+)"))
        local got = pay(path, "Videos=5", client, more)
        assert.equal(200, got.status)
        assert.equal(n, #got.body)
        assert.equal("0", left(got))
        got = pay(path, "Videos=1", client, more)
        assert.equal(429, got.status)
        assert.equal("", got.body)
      end
    end
  end)

  it("plugins that wait bears clients that leave", function()
    local client = env.client()
    for _, path in ipairs({ "/waits_before", "/waits_after" }) do
      for _, cost in ipairs({ "Videos=1", "Videos=0" }) do
        local c = assert(fcgi.connect(w.unix))
        for id = 1, 10 do
          local target = costs.target(path, cost, "bytes=200000&ms=20")
          assert(c:send(fcgi.request({ id = id, keep = true, params = params_of(target, client) })))
        end
        net.sleep(0.03)
        for id = 1, 5 do
          assert(c:send(fcgi.record(fcgi.ABORT, id)))
        end
        net.sleep(0.04)
        c:close()
      end
    end
    net.sleep(0.2)
    assert.equal(200, pay("/waits_after", "Videos=0", client).status)
  end)

  it("plugins that fail shows nothing of the header", function()
    w:expect_log("on purpose", "any")
    for _, path in ipairs({ "/fails_before", "/fails_in_access" }) do
      local client = env.client()
      for _ = 1, 2 do
        local got = pay(path, "Videos=1", client)
        assert.equal(500, got.status)
        assert.equal('{"message":"An unexpected error occurred"}', got.body)
      end
    end
  end)

  it("plugins that answer counts nothing", function()
    local client = env.client()
    local got = pay("/exits_before", "Videos=1", client)
    assert.equal(203, got.status)
    assert.is_nil(left(got))
    for _ = 1, 2 do
      got = pay("/exits_after", "Videos=1", client)
      assert.equal(203, got.status)
      assert.equal("mine", got.body)
      assert.equal("5", left(got))
    end
  end)

  it("plugins that speak like the service does not listen to them", function()
    local client = env.client()
    for _ = 1, 2 do
      assert.equal("5", left(ask("/adds_later", client)))
    end
  end)

  it("plugins that hold the response back", function()
    local client = env.client()
    local got = pay("/buffers", "Videos=5", client, "bytes=70000")
    assert.equal(200, got.status)
    assert.equal("70000", got.headers["x-length"])
    assert.equal(70000, #got.body)
    assert.equal("0", left(got))
    got = pay("/buffers", "Videos=1", client, "bytes=70000")
    assert.equal(429, got.status)
    assert.equal("", got.body)
    assert.equal("0", got.headers["content-length"])
    client = env.client()
    got = pay("/replaces", "Videos=5", client)
    assert.equal(203, got.status)
    assert.equal("mine", got.body)
    assert.equal("0", left(got))
    got = pay("/replaces", "Videos=1", client)
    assert.equal(429, got.status)
    assert.equal("", got.body)
  end)

  it("plugins that change the body", function()
    local client = env.client()
    local got = pay("/rewrites", "Videos=5", client)
    assert.equal("<xxx>", got.body)
    got = pay("/rewrites", "Videos=1", client)
    assert.equal(429, got.status)
    assert.equal("", got.body)
  end)

  it("services that speak strangely", function()
    local client = env.client()
    assert.equal("3", left(ask("/raw/repeated", client)))
    assert.equal("2", left(ask("/raw/hop", client)))
    assert.equal("1", left(ask("/raw/trailer", client)))
    assert.equal("0", left(ask("/raw/many", client)))
    for _, path in ipairs({ "/raw/repeated", "/raw/hop", "/raw/trailer", "/raw/many" }) do
      local got = ask(path, client)
      assert.equal(429, got.status)
      assert.equal("", got.body)
    end
    local got = ask("/raw/early", env.client())
    assert.equal(200, got.status)
    assert.equal("4", left(got))
  end)

  it("services that break off", function()
    local client = env.client()
    w:expect_log("upstream: the body broke off", 5)
    for i = 1, 5 do
      -- weir hangs up too: a web server must not take it for a whole body
      local got, _, rest = fcgi.once(w.unix, { params = params_of("/raw/breaks", client) })
      assert.is_nil(got)
      assert.matches("Remaining-Videos-Hour: " .. 5 - i, rest, 1, true)
      assert.is_nil(rest:lower():find("x-kong-limit", 1, true))
    end
    for _ = 1, 3 do
      local got = ask("/raw/breaks", client)
      assert.equal(429, got.status)
      assert.equal("", got.body)
    end
  end)

  it("services that do not answer", function()
    w:expect_log("^.*upstream: ", "any")
    local client = env.client()
    for path, status in pairs({ ["/raw/garbage"] = 502, ["/raw/silent"] = 504, ["/dead"] = 502 }) do
      for _ = 1, 2 do
        local got = ask(path, client)
        assert.equal(status, got.status, path)
        assert.equal("5", left(got), path)
      end
    end
  end)

  it("an authorizer's role counts nothing and lets pass", function()
    local client = env.client()
    for _ = 1, 7 do
      local got = ask("/raw/repeated", client, { role = fcgi.AUTHORIZER })
      assert.equal(200, got.status)
      assert.is_nil(left(got))
    end
    assert.equal("3", left(ask("/raw/repeated", client)))
  end)
end)
