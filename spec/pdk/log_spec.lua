-- kong.log inside real requests: lines, inspect, serialize; and kong.table.
local json = require "weir.json"
local lab = require "lab"

describe("kong.log", function()
  local l = lab.new()

  local lines = l:route([[
    kong.log("a ", 1, nil, true)
    kong.log.notice("line")
    kong.log.info("of info")
    kong.log.debug("of ", "debug")
    kong.log.inspect({ a = { 1, "two" } })
    kong.log.inspect.off()
    kong.log.inspect("silent")
    kong.log.inspect.on()
    kong.log.notice("two\nlines")
    kong.response.exit(200, "")
  ]])
  local bad = l:route([[
    kong.log.err("of err")
    kong.log.deprecation("old", { after = "1.0", removal = "2.0" })
    kong.log.deprecation("older ", "still")
    kong.response.exit(200, "")
  ]])
  local serialize = l:route({ access = [[
    kong.log.set_serialize_value("my.tag", "x")
    kong.log.set_serialize_value("request.method", "other", { mode = "add" })
    kong.log.set_serialize_value("request.uri", nil)
    kong.log.set_serialize_value("no.such", 1, { mode = "replace" })
    kong.log.set_serialize_value("source", "here", { mode = "replace" })
  ]], log = [[
    local line = kong.log.serialize()
    kong.log.notice("serialized ", require("weir.json").encode(line))
  ]] })
  local misuse = l:route([[
    local said = {}
    said[1] = select(2, pcall(kong.log.set_serialize_value, 1, 1))
    said[2] = select(2, pcall(kong.log.set_serialize_value, "a", print))
    said[3] = select(2, pcall(kong.log.set_serialize_value, "a", 1, { mode = "x" }))
    said[4] = select(2, pcall(kong.table.merge, 1))
    said[5] = kong.table.merge({ a = 1, b = 1 }, { b = 2 }).b
    said[6] = kong.table.merge(nil, { b = 3 }).b
    local t = kong.table.new(3, 3)
    t[1], t.a = 1, 2
    kong.table.clear(t)
    said[7] = next(t) == nil
    local loop = {}
    loop.loop = loop
    said[8] = select(2, pcall(kong.log.set_serialize_value, "a", { { print } }))
    said[9] = select(2, pcall(kong.log.set_serialize_value, "a", loop))
    said[10] = pcall(kong.log.set_serialize_value, "a", { t, t, b = true })
    kong.response.exit(200, said)
  ]])

  setup(function()
    l:start()
  end)
  teardown(function()
    l:stop()
  end)
  after_each(function()
    l:check()
  end)

  it("writes lines with level and plugin", function()
    l:ask(lines)
    for _, want in ipairs({
      "%[notice%].*%[pdk%-run%] a 1niltrue$", "%[notice%].*%[pdk%-run%] line$",
      "%[info%].*%[pdk%-run%] of info$", "%[debug%].*%[pdk%-run%] of debug$",
      "%[debug%].*%[pdk%-run%] access:5: {",
      "%[notice%].*%[pdk%-run%] two.+lines$",
    }) do
      assert.is_truthy(l.weir:wait_log(want), want)
    end
    assert.equal(0, l.weir:log_count("silent"))
  end)

  it("writes errors and deprecations", function()
    l.weir:expect_log("%[error%].*%[pdk%-run%] of err$")
    l.weir:expect_log("%[warn%].*%[pdk%-run%] old %(deprecated after 1%.0, scheduled for removal "
                      .. "in 2%.0%)$")
    l.weir:expect_log("%[warn%].*%[pdk%-run%] older still$")
    assert.equal(200, l:ask(bad).status)
  end)

  it("serializes a request", function()
    local got = l:ask(serialize .. "?a=1", { HTTP_AUTHORIZATION = "Basic eDp5",
                                             HTTP_X_ONE = "1", REMOTE_ADDR = "192.0.2.9",
                                             HTTP_HOST = "Example.COM:8080",
                                             SERVER_PORT = "8081" })
    local line = assert(l.weir:wait_log("serialized"))
    local value = assert(json.decode(line:match("serialized (.*)$")))
    assert.equal("GET", value.request.method)
    assert.is_nil(value.request.uri)
    assert.equal("http://example.com:8081" .. serialize .. "?a=1", value.request.url)
    assert.same({ a = "1" }, value.request.querystring)
    assert.equal("REDACTED", value.request.headers.authorization)
    assert.equal("1", value.request.headers["x-one"])
    assert.equal(got.headers["x-kong-request-id"], value.request.id)
    assert.equal(200, value.response.status)
    assert.equal(#got.body, value.response.size)
    assert.equal("192.0.2.9", value.client_ip)
    assert.equal("x", value.my.tag)
    assert.equal("here", value.source)
    assert.is_nil(value.no)
    assert.equal("200", value.upstream_status)
    assert.is_string(value.route.name)
    assert.is_string(value.service.name)
    assert.same({ id = value.service.id }, value.route.service)
    for _, name in ipairs({ "request", "kong", "proxy", "receive" }) do
      assert.is_true(value.latencies[name] >= 0 and value.latencies[name] < 60000, name)
    end
    assert.is_true(math.abs(value.started_at / 1000 - os.time()) < 30)
  end)

  it("checks arguments; kong.table works", function()
    local said = l:json(misuse)
    assert.matches("key must be a string", said[1], 1, true)
    for _, i in ipairs({ 2, 8, 9 }) do
      assert.matches("value must be nil, a number, string, boolean or a non-self-referencial table "
                     .. "containing numbers, string and booleans", said[i], 1, true)
    end
    assert.is_true(said[10])
    assert.matches("mode must be 'set', 'add' or 'replace'", said[3], 1, true)
    assert.matches("t1 must be a table or nil", said[4], 1, true)
    assert.equal(2, said[5])
    assert.equal(3, said[6])
    assert.is_true(said[7])
  end)
end)
