-- kong.response inside real requests: headers, exits, errors, body filters.
local lab = require "lab"
local fcgi = require "lib.fcgi" -- found once the lab has set the path

-- All values of a header in an answer, in their order.
local function values(got, name)
  local out = {}
  for _, field in ipairs(got.all) do
    if field[1]:lower() == name then
      out[#out + 1] = field[2]
    end
  end
  return out
end

describe("kong.response", function()
  local l = lab.new()

  local set = l:route({ to = "/set-headers", access = [[
    local r = kong.response
    r.set_header("X-Text", "one")
    r.set_header("X-Number", 17)
    r.set_header("X-Switch", true)
    r.set_header("X-List", { "a", "b", 3 })
    r.set_header("X-Gone", "x")
    r.clear_header("x-gone")
    r.set_header("X-None", {})
    r.set_header("X-Plain", "mine")
    r.add_header("X-More", "1")
    r.add_header("X-More", { 2, "3" })
    r.set_headers({ ["X-All-1"] = "1", ["X-All-2"] = { "2", "3" } })
    r.set_header("X-Bytes", "a\r\nX-Evil: 1\0")
    r.set_header("Transfer-Encoding", "chunked")
  ]] })
  local filter = l:route({ to = "/set-headers", header_filter = [[
    local r = kong.response
    r.set_status(202)
    r.set_header("X-Plain", (r.get_header("x_plain")) .. " and more")
    r.add_header("Set-Cookie", "c=3")
    r.clear_header("ETag")
    r.set_header("X-Source", r.get_source())
    local all = r.get_headers()
    r.set_header("X-Cookies", type(all["set-cookie"]) == "table" and #all["set-cookie"] or 0)
    r.set_header("X-From-Service", kong.service.response.get_header("X-Plain"))
    r.set_header("X-Service-Status", kong.service.response.get_status())
    r.set_header("X-Status", r.get_status())
    r.set_header("X_Under", "1")
    r.set_header("X-Seen", tostring(r.get_header("x_under")) .. tostring(r.get_headers().X_UNDER)
      .. tostring(r.get_header("x-under")))
  ]] })
  local misuse = l:route([[
    local r, said = kong.response, {}
    local function try(fn, ...)
      said[#said + 1] = select(2, pcall(fn, ...))
    end
    try(r.set_header, 127001, "x") try(r.set_header, "foo", print) try(r.set_header, "foo")
    try(r.set_header, "foo", { print }) try(r.set_headers) try(r.set_headers, { "x" })
    try(r.clear_header) try(r.set_status, "x") try(r.set_status, 99) try(r.exit, "x")
    try(r.exit, 600) try(r.exit, 200, print) try(r.exit, 200, "", "x") try(r.error, 399)
    try(r.set_header, "bad name", "x") try(r.error, 600) try(r.exit, 99)
    r.exit(200, said)
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

  it("sets headers before the upstream answers, and they stay", function()
    l.weir:expect_log("%[pdk%-run%] the header Transfer%-Encoding cannot be set")
    local got = l:ask(set)
    assert.equal(200, got.status)
    assert.equal("ok\n", got.body)
    local h = got.headers
    assert.equal("one", h["x-text"])
    assert.equal("17", h["x-number"])
    assert.equal("true", h["x-switch"])
    assert.same({ "a", "b", "3" }, values(got, "x-list"))
    assert.is_nil(h["x-gone"])
    assert.is_nil(h["x-none"])
    assert.same({ "mine" }, values(got, "x-plain"))
    assert.same({ "1", "2", "3" }, values(got, "x-more"))
    assert.equal("1", h["x-all-1"])
    assert.same({ "2", "3" }, values(got, "x-all-2"))
    assert.equal("a%0D%0AX-Evil: 1%00", h["x-bytes"])
    assert.is_nil(h["x-evil"])
    assert.is_nil(h["transfer-encoding"])
  end)

  it("changes the upstream's head in header_filter", function()
    local got = l:ask(filter)
    assert.equal(202, got.status)
    local h = got.headers
    assert.same({ "kept and more" }, values(got, "x-plain"))
    assert.same({ "a=1", "b=2", "c=3" }, values(got, "set-cookie"))
    assert.equal("service", h["x-source"])
    assert.equal("3", h["x-cookies"])
    assert.equal("kept", h["x-from-service"])
    assert.equal("200", h["x-service-status"])
    assert.equal("202", h["x-status"])
    assert.equal("11nil", h["x-seen"])
  end)

  it("says what is wrong with an argument", function()
    local said = l:json(misuse)
    for i, want in ipairs({
      'invalid header name "127001": got number, expected string',
      'invalid header value for "foo": got function, expected array of string, string, number '
        .. 'or boolean',
      'invalid header value for "foo": got nil, expected array of string, string, number '
        .. 'or boolean',
      'invalid header value in array "foo": got function, expected string',
      "headers must be a table", 'invalid header name "1": got number, expected string',
      "header must be a string", "code must be a number",
      "code must be a number between 100 and 599",
      "code must be a number", "code must be a number between 100 and 599",
      "body must be a nil, string or table", "headers must be a nil or table",
      "code must be a number between 400 and 599", 'invalid header name "bad name"',
      "code must be a number between 400 and 599", "code must be a number between 100 and 599",
    }) do
      assert.is_truthy(tostring(said[i]):find(want, 1, true), i .. ": " .. tostring(said[i]))
    end
  end)
end)

describe("kong.response.exit", function()
  local l = lab.new()

  local as_table = l:route([[kong.response.exit(418, { message = "tea/pot" }, { ["X-A"] = "b" })]])
  local as_text = l:route([[kong.response.exit(200, "text", { ["Content-Type"] = "text/x" })]])
  local own_type = l:route([[
    kong.response.exit(200, { a = 1 }, { ["content-type"] = "application/x+json" })
  ]])
  local empty = l:route([[kong.response.exit(204)]])
  local bare = l:route([[kong.response.exit(404)]])
  local behind = l:route({ access = [[
    local function deeper() return kong.response.exit(200, "first") end
    deeper()
    kong.response.exit(500, "second")
  ]], header_filter = [[kong.response.set_header("X-Source", kong.response.get_source())]],
    log = [[kong.log.notice("logged ", kong.response.get_status())]] })
  local caught = l:route([[
    local ok, err = pcall(kong.response.exit, 200, "caught")
    assert(not ok and tostring(err):find("kong.response.exit", 1, true))
    error(err)
  ]])
  local in_filter = l:route({ to = "/set-headers", header_filter = [[
    local ok, err = pcall(kong.response.exit, 200, "body")
    kong.response.exit(299, nil, { ["X-Err"] = err })
    kong.response.set_header("X-Behind", "yes")
  ]] })
  local failing = l:route([[error("broken plugin")]])

  setup(function()
    l:start()
  end)
  teardown(function()
    l:stop()
  end)
  after_each(function()
    l:check()
  end)

  it("writes a table as compact JSON", function()
    local got = l:ask(as_table)
    assert.equal(418, got.status)
    assert.equal('{"message":"tea/pot"}', got.body)
    assert.equal("application/json; charset=utf-8", got.headers["content-type"])
    assert.equal("21", got.headers["content-length"])
    assert.equal("b", got.headers["x-a"])
    assert.same({ "application/x+json" }, values(l:ask(own_type), "content-type"))
  end)

  it("writes text as it is, and nothing as nothing", function()
    local got = l:ask(as_text)
    assert.equal("text", got.body)
    assert.same({ "text/x" }, values(got, "content-type"))
    assert.equal(204, l:ask(empty).status)
    got = l:ask(bare)
    assert.equal(404, got.status)
    assert.equal("", got.body)
  end)

  it("ends the phase; the phases of the response follow", function()
    local got = l:ask(behind)
    assert.equal(200, got.status)
    assert.equal("first", got.body)
    assert.equal("exit", got.headers["x-source"])
    assert.is_truthy(l.weir:wait_log("%[pdk%-run%] logged 200"))
  end)

  it("explains itself to a pcall", function()
    local got = l:ask(caught)
    assert.equal(200, got.status)
    assert.equal("caught", got.body)
  end)

  it("changes only the head in header_filter", function()
    local got = l:ask(in_filter)
    assert.equal(299, got.status)
    assert.equal("ok\n", got.body)
    assert.matches("body must be nil in header_filter", got.headers["x-err"], 1, true)
    assert.equal("yes", got.headers["x-behind"])
  end)

  it("is not needed for a plugin's own error to be a 500", function()
    l.weir:expect_log("%[pdk%-run%] access phase.*broken plugin")
    local got = l:ask(failing)
    assert.equal(500, got.status)
    assert.equal('{"message":"An unexpected error occurred"}', got.body)
    l.weir:expect_log("%[pdk%-run%] access phase.*broken plugin")
    got = l:ask(failing, { HTTP_ACCEPT = "text/html" })
    assert.equal('{"message":"An unexpected error occurred"}', got.body)
    assert.equal("application/json; charset=utf-8", got.headers["content-type"])
  end)
end)

for _, with_id in ipairs({ "off", "on" }) do
  describe("kong.response.error, error_request_id = " .. with_id, function()
    local l = lab.new({ conf = { error_request_id = with_id } })
    local plain = l:route([[kong.response.error(429, "API rate limit exceeded")]])
    local default = l:route([[kong.response.error(403)]])
    local typed = l:route([[kong.response.error(400, "no", { ["Content-Type"] = "text/plain" })]])
    local as_table = l:route([[kong.response.error(401, { exp = "token expired" })]])

    setup(function()
      l:start()
    end)
    teardown(function()
      l:stop()
    end)

    local function json_of(message, got)
      if with_id == "off" then
        return '{"message":"' .. message .. '"}'
      end
      return '{\n  "message":"' .. message .. '",\n  "request_id":"'
             .. got.headers["x-kong-request-id"] .. '"\n}'
    end

    it("has JSON by default", function()
      for _, accept in ipairs({ false, "*/*", "image/png", "application/json" }) do
        local got = l:ask(plain, accept and { HTTP_ACCEPT = accept })
        assert.equal(429, got.status)
        assert.equal(json_of("API rate limit exceeded", got), got.body)
        assert.same({ "application/json; charset=utf-8" }, values(got, "content-type"))
      end
    end)

    it("has the type that the client accepts", function()
      local got = l:ask(plain, { HTTP_ACCEPT = "text/plain" })
      assert.equal("text/plain; charset=utf-8", got.headers["content-type"])
      assert.equal(with_id == "off" and "API rate limit exceeded\n"
                   or "API rate limit exceeded\nrequest_id: " .. got.headers["x-kong-request-id"]
                      .. "\n", got.body)
      got = l:ask(plain, { HTTP_ACCEPT = "text/html,*/*;q=0.8" })
      assert.equal("text/html; charset=utf-8", got.headers["content-type"])
      assert.matches("<p>API rate limit exceeded.</p>", got.body, 1, true)
    end)

    it("has the type that the plugin gave", function()
      local got = l:ask(typed, { HTTP_ACCEPT = "text/html" })
      assert.same({ "text/plain; charset=utf-8" }, values(got, "content-type"))
      assert.matches("^no\n", got.body)
    end)

    it("knows the usual messages, and bodies of the plugin's own", function()
      local got = l:ask(default)
      assert.equal(json_of("Forbidden", got), got.body)
      assert.equal('{"exp":"token expired"}', l:ask(as_table).body)
    end)
  end)
end

describe("kong.response in body_filter", function()
  local l = lab.new()

  local whole = l:route({ to = "/bytes?n=200000", body_filter = [[
    local body = kong.response.get_raw_body()
    if body then
      kong.ctx.plugin.calls = (kong.ctx.plugin.calls or 0) + 1
      kong.response.set_raw_body(#body .. " bytes, call " .. kong.ctx.plugin.calls)
    else
      kong.ctx.plugin.pieces = (kong.ctx.plugin.pieces or 0) + 1
    end
  ]], header_filter = [[kong.response.clear_header("Content-Length")]] })
  local untouched = l:route({ to = "/bytes?n=200000&chunked=1", body_filter = [[
    kong.response.get_raw_body()
  ]] })
  local early = l:route({ to = "/bytes?n=200000&chunked=1", body_filter = [[
    kong.response.set_raw_body("short")
  ]] })
  local emptied = l:route({ to = "/bytes?n=10&chunked=1", body_filter = [[
    if kong.response.get_raw_body() then kong.response.set_raw_body("") end
  ]] })
  local longer = l:route({ to = "/bytes?n=10", body_filter = [[
    local body = kong.response.get_raw_body()
    if body then kong.response.set_raw_body(body .. " and more") end
  ]] })
  local exited = l:route({ access = [[kong.response.exit(200, "made here")]], body_filter = [[
    local body = kong.response.get_raw_body()
    if body then kong.response.set_raw_body(body:upper()) end
  ]] })

  setup(function()
    l:start()
  end)
  teardown(function()
    l:stop()
  end)
  after_each(function()
    l:check()
  end)

  it("announces no length that the filters may change", function()
    local got = l:ask(longer)
    assert.is_nil(got.headers["content-length"])
    assert.equal("0123456789 and more", got.body)
    got = l:ask(longer, { REQUEST_METHOD = "HEAD" })
    assert.is_nil(got.headers["content-length"])
    assert.equal("", got.body)
  end)

  it("collects the body and replaces it", function()
    assert.equal("200000 bytes, call 1", l:ask(whole).body)
  end)

  it("sends what it collected when nobody replaces it", function()
    local body = l:ask(untouched).body
    assert.equal(200000, #body)
    assert.equal(("0123456789abcdef"):rep(12500), body)
  end)

  it("drops the rest once the body is replaced", function()
    assert.equal("short", l:ask(early).body)
  end)

  it("writes a line feed for an empty body", function()
    assert.equal("\n", l:ask(emptied).body)
  end)

  it("sees the bodies of exits too", function()
    local got = l:ask(exited)
    assert.equal("MADE HERE", got.body)
    assert.equal("9", got.headers["content-length"])
    assert.equal(fcgi.COMPLETE, got.protocol_status)
  end)
end)
