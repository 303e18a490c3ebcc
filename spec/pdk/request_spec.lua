-- kong.request, kong.client, kong.router, kong.ctx and kong.configuration inside
-- real requests.
local lab = require "lab"

describe("kong.request", function()
  local l = lab.new()

  local all = l:route([[
    local r = kong.request
    kong.response.exit(200, {
      scheme = r.get_scheme(), host = r.get_host(), port = r.get_port(),
      forwarded_scheme = r.get_forwarded_scheme(), forwarded_host = r.get_forwarded_host(),
      forwarded_port = r.get_forwarded_port(), forwarded_path = r.get_forwarded_path(),
      forwarded_prefix = r.get_forwarded_prefix(), version = r.get_http_version(),
      method = r.get_method(), path = r.get_path(), raw_path = r.get_raw_path(),
      path_with_query = r.get_path_with_query(), raw_query = r.get_raw_query(),
      arg = r.get_query_arg("a"), none = r.get_query_arg("none") == nil,
      start = r.get_start_time(),
    })
  ]])
  local query = l:route([[
    local args, err = kong.request.get_query()
    local few, few_err = kong.request.get_query(1)
    kong.response.exit(200, { args = args, err = err, few = few, few_err = few_err })
  ]])
  local headers = l:route([[
    local r = kong.request
    local all, err = r.get_headers()
    local few, few_err = r.get_headers(1)
    local n = 0
    for _ in pairs(few) do n = n + 1 end
    kong.response.exit(200, {
      one = r.get_header("X-One"), low = r.get_header("x_one"),
      none = r.get_header("x-none") == nil,
      all = all["x-one"], any_case = all["X-ONE"], underscore = all.x_one, err = err,
      few = n, few_err = few_err,
    })
  ]])
  local misuse = l:route([[
    local r, said = kong.request, {}
    local function try(fn, ...)
      said[#said + 1] = select(2, pcall(fn, ...))
    end
    try(r.get_header) try(r.get_header, 1) try(r.get_headers, "x") try(r.get_headers, 0)
    try(r.get_headers, 1001) try(r.get_query, 0) try(r.get_query_arg)
    kong.response.exit(200, said)
  ]])
  local body = l:route([[
    local text, err = kong.request.get_raw_body()
    local value, value_err, mime = kong.request.get_body()
    kong.response.exit(200, { text = text, err = err, value = value, value_err = value_err,
                              mime = mime })
  ]])
  local as_json = l:route([[
    local value, err, mime = kong.request.get_body("application/json")
    kong.response.exit(200, { value = value, err = err, mime = mime })
  ]])
  local own_body = l:route([[
    kong.service.request.set_raw_body("a=1")
    local text = kong.request.get_raw_body()
    kong.service.request.set_body({ b = 2 }, "application/json")
    kong.response.exit(200, { text = text, value = (kong.request.get_body()),
                              length = kong.request.get_header("Content-Length") })
  ]])
  local captures = l:route({ access = [[
    kong.response.exit(200, kong.request.get_uri_captures())
  ]], paths = [[        paths: [ "~/re/(?<id>\\d+)/(x)" ] ]] })
  local no_captures = l:route("kong.response.exit(200, kong.request.get_uri_captures())")

  setup(function()
    l.opts.conf = { client_body_buffer_size = "64k" }
    l:start()
  end)
  teardown(function()
    l:stop()
  end)
  after_each(function()
    l:check()
  end)

  it("tells of the request line and the connection", function()
    local got = l:json(all, {
      REQUEST_URI = all .. "/%2e/b%2Fc?a=1&a=2", HTTP_HOST = "Example.COM:8080",
      SERVER_PORT = "8081", REQUEST_METHOD = "PUT", HTTPS = "on", REQUEST_SCHEME = "https",
      SERVER_PROTOCOL = "HTTP/2.0",
    })
    assert.equal("https", got.scheme)
    assert.equal("example.com", got.host)
    assert.equal(8081, got.port)
    assert.equal("https", got.forwarded_scheme)
    assert.equal("example.com", got.forwarded_host)
    assert.equal(8081, got.forwarded_port)
    assert.equal(all .. "/%2e/b%2Fc", got.forwarded_path)
    assert.equal(all, got.forwarded_prefix)
    assert.equal(2, got.version)
    assert.equal("PUT", got.method)
    assert.equal(all .. "/%2e/b%2Fc", got.raw_path)
    assert.equal(all .. "/%2e/b%2Fc?a=1&a=2", got.path_with_query)
    assert.equal("a=1&a=2", got.raw_query)
    assert.equal("1", got.arg)
    assert.is_true(got.none)
    assert.is_true(math.abs(got.start / 1000 - os.time()) < 30)
    assert.equal(0, got.path:find(all .. "/b", 1, true) - 1)
  end)

  it("does not believe X-Forwarded-* of strangers", function()
    local got = l:json(all, {
      HTTP_X_FORWARDED_PROTO = "https", HTTP_X_FORWARDED_HOST = "evil.example",
      HTTP_X_FORWARDED_PORT = "1", HTTP_X_FORWARDED_PATH = "/evil",
      HTTP_X_FORWARDED_PREFIX = "/evil",
    })
    assert.equal("http", got.forwarded_scheme)
    assert.equal("localhost", got.forwarded_host)
    assert.equal(80, got.forwarded_port)
    assert.equal(all, got.forwarded_path)
    assert.equal(all, got.forwarded_prefix)
  end)

  it("reads the query", function()
    local got = l:json(query .. "?a=1&b&c=x%20y&a=2")
    assert.same({ a = { "1", "2" }, b = true, c = "x y" }, got.args)
    assert.is_nil(got.err)
    assert.same({ a = "1" }, got.few)
    assert.equal("truncated", got.few_err)
    assert.same({}, l:json(query).args)
  end)

  it("reads headers in any case, with _ for -", function()
    local got = l:json(headers, { HTTP_X_ONE = "eins" })
    for _, key in ipairs({ "one", "low", "all", "any_case", "underscore" }) do
      assert.equal("eins", got[key], key)
    end
    assert.is_true(got.none)
    assert.is_nil(got.err)
    assert.equal(1, got.few)
    assert.equal("truncated", got.few_err)
  end)

  it("says what is wrong with an argument", function()
    local said = l:json(misuse)
    for i, want in ipairs({ "header name must be a string", "header name must be a string",
                            "max_headers must be a number", "max_headers must be >= 1",
                            "max_headers must be <= 1000", "max_args must be >= 1",
                            "query argument name must be a string" }) do
      assert.matches(want, said[i], 1, true)
    end
  end)

  it("reads a body, also one that comes in pieces", function()
    local got = l:json(body, { REQUEST_METHOD = "POST",
                               CONTENT_TYPE = "application/x-www-form-urlencoded" },
                       { body = "a=1&b=2", split = 2 })
    assert.equal("a=1&b=2", got.text)
    assert.same({ a = "1", b = "2" }, got.value)
    assert.equal("application/x-www-form-urlencoded", got.mime)
    got = l:json(body, { REQUEST_METHOD = "POST", CONTENT_TYPE = "application/json" },
                 { body = '{"a":[]}' })
    assert.same({ a = {} }, got.value)
    got = l:json(body, { REQUEST_METHOD = "POST", CONTENT_TYPE = "application/json" },
                 { body = "{" })
    assert.equal("invalid json body", got.value_err)
  end)

  it("has an empty body where there is none", function()
    local got = l:json(body)
    assert.equal("", got.text)
    assert.equal("missing content type", got.value_err)
    got = l:json(body, { REQUEST_METHOD = "POST", CONTENT_TYPE = "text/csv" }, { body = "x" })
    assert.equal("unsupported content type 'text/csv'", got.value_err)
  end)

  it("reads a body as what the plugin says it is", function()
    local got = l:json(as_json, { REQUEST_METHOD = "POST", CONTENT_TYPE = "text/plain" },
                       { body = '{"a":1}' })
    assert.same({ a = 1 }, got.value)
  end)

  it("does not read a body beyond client_body_buffer_size", function()
    local got = l:json(body, { REQUEST_METHOD = "POST", CONTENT_TYPE = "text/plain" },
                       { body = ("x"):rep(1000000) })
    assert.is_nil(got.text)
    assert.equal("request body did not fit into client body buffer, "
                 .. "consider raising 'client_body_buffer_size'", got.err)
    got = l:json(body, { REQUEST_METHOD = "POST", CONTENT_TYPE = "application/json; x=y" },
                 { body = ("x"):rep(1000000) })
    assert.equal(got.err, got.value_err)
    assert.equal("application/json", got.mime)
  end)

  it("reads what a plugin has put in the body's place", function()
    local got = l:json(own_body, { REQUEST_METHOD = "POST" }, { body = "old" })
    assert.same({ text = "a=1", value = { b = 2 }, length = "7" }, got)
    got = l:json(own_body, { REQUEST_METHOD = "POST" }, { body = ("x"):rep(1000000) })
    assert.same({ text = "a=1", value = { b = 2 }, length = "7" }, got)
  end)

  it("shows what the route's expression took", function()
    assert.is_string(captures)
    local got = l:json("/re/17/x")
    assert.same({ id = "17" }, got.named)
    assert.same({ "17", "x" }, got.unnamed)
    assert.same({ named = {}, unnamed = {} }, l:json(no_captures))
  end)
end)

local CLIENT = [[
  local c, r = kong.client, kong.request
  kong.response.exit(200, {
    ip = c.get_ip(), forwarded_ip = c.get_forwarded_ip(), port = c.get_port(),
    forwarded_port = c.get_forwarded_port(), protocol = c.get_protocol(),
    terminated = c.get_protocol(true), scheme = r.get_forwarded_scheme(),
    host = r.get_forwarded_host(), server_port = r.get_forwarded_port(),
    path = r.get_forwarded_path(), prefix = r.get_forwarded_prefix(),
  })
]]

describe("kong.client without trusted_ips", function()
  local l = lab.new()
  local path = l:route(CLIENT)
  local https_only = l:route({ access = CLIENT, more = { "protocols: [ https ]" } })

  setup(function()
    l:start()
  end)
  teardown(function()
    l:stop()
  end)

  it("knows the peer only", function()
    local got = l:json(path, { REMOTE_ADDR = "192.0.2.1", REMOTE_PORT = "1234",
                               HTTP_X_REAL_IP = "203.0.113.9" })
    assert.equal("192.0.2.1", got.ip)
    assert.equal("192.0.2.1", got.forwarded_ip)
    assert.equal(1234, got.port)
    assert.equal(1234, got.forwarded_port)
    assert.equal("http", got.protocol)
  end)

  it("takes a route's single protocol", function()
    local got = l:ask(https_only, { HTTPS = "on", REQUEST_SCHEME = "https" })
    assert.matches('"protocol":"https"', got.body, 1, true)
  end)
end)

describe("kong.client behind a trusted peer", function()
  local l = lab.new({ conf = { trusted_ips = "10.0.0.0/8,::1" } })
  local path = l:route(CLIENT)

  setup(function()
    l:start()
  end)
  teardown(function()
    l:stop()
  end)

  it("believes real_ip_header, with or without a port", function()
    local got = l:json(path, { REMOTE_ADDR = "10.1.2.3", HTTP_X_REAL_IP = "203.0.113.9" })
    assert.equal("10.1.2.3", got.ip)
    assert.equal("203.0.113.9", got.forwarded_ip)
    assert.equal(0, got.forwarded_port)
    got = l:json(path, { REMOTE_ADDR = "::1", HTTP_X_REAL_IP = "[2001:db8::1]:99" })
    assert.equal("2001:db8::1", got.forwarded_ip)
    assert.equal(99, got.forwarded_port)
  end)

  it("keeps the peer when the header says nothing of use", function()
    for _, value in ipairs({ "unknown", "1.2.3", "", "10.0.0.1.2" }) do
      local got = l:json(path, { REMOTE_ADDR = "10.1.2.3", HTTP_X_REAL_IP = value })
      assert.equal("10.1.2.3", got.forwarded_ip, value)
    end
    assert.equal("10.1.2.3", l:json(path, { REMOTE_ADDR = "10.1.2.3" }).forwarded_ip)
  end)

  it("does not believe others", function()
    local got = l:json(path, { REMOTE_ADDR = "11.0.0.1", HTTP_X_REAL_IP = "203.0.113.9" })
    assert.equal("11.0.0.1", got.forwarded_ip)
  end)

  it("believes X-Forwarded-*", function()
    local got = l:json(path, {
      REMOTE_ADDR = "10.1.2.3", HTTP_X_FORWARDED_PROTO = "HTTPS, http",
      HTTP_X_FORWARDED_HOST = "Front.Example:8443", HTTP_X_FORWARDED_PATH = "/front/x",
      HTTP_X_FORWARDED_PREFIX = "/front",
    })
    assert.equal("https", got.scheme)
    assert.equal("front.example", got.host)
    assert.equal(8443, got.server_port)
    assert.equal("/front/x", got.path)
    assert.equal("/front", got.prefix)
    assert.equal("http", got.protocol)
    assert.equal("https", got.terminated)
    got = l:json(path, { REMOTE_ADDR = "10.1.2.3", HTTP_X_FORWARDED_PORT = "444",
                         HTTP_X_FORWARDED_HOST = "h:8443" })
    assert.equal(444, got.server_port)
  end)
end)

describe("kong.client with X-Forwarded-For", function()
  for mode, want in pairs({ on = "203.0.113.1", off = "10.0.0.2" }) do
    describe("and real_ip_recursive " .. mode, function()
      local l = lab.new({ conf = { trusted_ips = "10.0.0.0/8", real_ip_recursive = mode,
                                   real_ip_header = "X-Forwarded-For" } })
      local path = l:route(CLIENT)

      setup(function()
        l:start()
      end)
      teardown(function()
        l:stop()
      end)

      it("takes the right address of the list", function()
        local got = l:json(path, {
          REMOTE_ADDR = "10.0.0.1",
          HTTP_X_FORWARDED_FOR = "198.51.100.66, 203.0.113.1, 10.0.0.3, 10.0.0.2",
        })
        assert.equal(want, got.forwarded_ip)
      end)

      it("takes the first when all are trusted", function()
        local got = l:json(path, { REMOTE_ADDR = "10.0.0.1",
                                   HTTP_X_FORWARDED_FOR = "10.0.0.9,10.0.0.2" })
        assert.equal(mode == "on" and "10.0.0.9" or "10.0.0.2", got.forwarded_ip)
      end)
    end)
  end
end)

describe("kong.router, kong.ctx and kong.configuration", function()
  local l = lab.new({ global = { log = [[
    kong.log.notice("shared is ", kong.ctx.shared.word, ", plugin is ", kong.ctx.plugin.word)
  ]] } })
  local entities = l:route([[
    local route, service = kong.router.get_route(), kong.router.get_service()
    kong.response.exit(200, { route = route.name, service = service.name })
  ]])
  local ctx = l:route({ access = [[
    local said = {}
    kong.ctx.shared.word = "one"
    kong.ctx.plugin.word = "two"
    said[1] = select(2, pcall(function() kong.ctx.shared = 1 end))
    said[2] = kong.ctx.other == nil
    kong.ctx.plugin = { word = "three" }
    kong.response.exit(200, said)
  ]], log = [[
    kong.log.notice("shared is ", kong.ctx.shared.word, ", plugin is ", kong.ctx.plugin.word)
  ]] })
  local conf = l:route([[
    local c = kong.configuration
    kong.response.exit(200, {
      text = c.log_level, database = c.database, number = c.workers,
      switch = c.real_ip_recursive, list = c.trusted_ips,
      unset = c.lua_package_path == nil, none = c.no_such_key == nil,
      write = select(2, pcall(function() c.workers = 2 end)),
      version = kong.version, version_num = kong.version_num,
    })
  ]])

  setup(function()
    l.opts.conf = { trusted_ips = "10.0.0.0/8,::1", database = "off" }
    l:start()
  end)
  teardown(function()
    l:stop()
  end)
  after_each(function()
    l:check()
  end)

  it("tell what was matched", function()
    local n = entities:match("%d+")
    assert.same({ route = "r" .. n, service = "s" .. n }, l:json(entities))
  end)

  it("keep tables for the request", function()
    local said = l:json(ctx)
    assert.matches("access:4: kong.ctx.shared must be a table", said[1], 1, true)
    assert.is_true(said[2])
    assert.is_truthy(l.weir:wait_log("%[pdk%-run%] shared is one, plugin is three"))
  end)

  it("show weir.conf and cannot change it", function()
    local got = l:json(conf)
    assert.equal("debug", got.text)
    assert.equal("off", got.database)
    assert.equal(1, got.number)
    assert.is_false(got.switch)
    assert.same({ "10.0.0.0/8", "::1" }, got.list)
    assert.is_true(got.unset)
    assert.is_true(got.none)
    assert.matches("cannot write to configuration", got.write)
    assert.equal("3.10.0", got.version)
    assert.equal(3010000, got.version_num)
  end)
end)
