-- kong.service: what reaches the upstream, and what a plugin sees of its answer.
-- The upstream answers with the request's head as it got it, unless said otherwise.
local lab = require "lab"

-- The fields of the request's head that the upstream got: lower-case name -> values.
local function head_of(got)
  local out = { line = got.body:match("^(.-)\r?\n") }
  for name, value in got.body:gmatch("\n([^:\r\n]+):%s*([^\r\n]*)") do
    local key = name:lower()
    out[key] = out[key] and out[key] .. "|" .. value or value
  end
  return out
end

describe("kong.service.request", function()
  local l = lab.new()

  local headers = l:route([[
    local r = kong.service.request
    r.set_header("X-Text", "one")
    r.set_header("X-Number", 17)
    r.set_header("X-List", { "a", "b" })
    r.add_header("X-From-Client", "more")
    r.clear_header("X-Secret")
    r.set_headers({ ["X-All"] = true })
    r.set_header("X-Bytes", "a\r\nX-Evil: 1")
    r.set_header("Host", "other.example")
  ]])
  local line = l:route({ to = "/", access = [[
    local r = kong.service.request
    r.set_path("/headers")
    r.set_method("DELETE")
    r.set_query({ b = { "2", true }, a = "x y" })
  ]] })
  local raw_query = l:route([[kong.service.request.set_raw_query("a=%41&b c\r\nd")]])
  local clear_arg = l:route([[kong.service.request.clear_query_arg("apikey")]])
  local body = l:route({ to = "/echo-body", access = [[
    kong.service.request.set_raw_body("other body")
  ]] })
  local json_body = l:route({ to = "/echo-body", access = [[
    assert(kong.service.request.set_body({ a = "1" }, "application/json"))
  ]] })
  local form_body = l:route({ to = "/echo-body", access = [[
    local args = assert(kong.request.get_body())
    args.added = "yes"
    assert(kong.service.request.set_body(args))
  ]] })
  local target = l:route([[
    kong.service.request.set_scheme("http")
    kong.service.set_target("127.0.0.1", tonumber(kong.request.get_header("x-port")))
    kong.service.set_retries(0)
    kong.service.set_timeouts(1000, 1000, 1000)
  ]])
  local slow = l:route({ to = "/delay", access = [[kong.service.set_timeouts(1000, 1000, 50)]] })
  local misuse = l:route([[
    local s, r, said = kong.service, kong.service.request, {}
    local function try(fn, ...)
      said[#said + 1] = select(2, pcall(fn, ...))
    end
    try(r.set_scheme) try(r.set_scheme, "ftp") try(r.set_path) try(r.set_path, "x")
    try(r.set_raw_query) try(r.set_method) try(r.set_method, "get") try(r.set_query)
    try(r.set_query, { a = print }) try(r.set_header, "a") try(r.set_headers) try(r.set_raw_body)
    try(r.set_body) try(r.set_body, {}, 1) try(s.set_target) try(s.set_target, "h", 65536)
    try(s.set_target, "h", 1.5) try(s.set_retries, -1) try(s.set_timeouts, 0, 1, 1)
    try(s.set_timeouts, 1, 1)
    said[#said + 1] = select(2, r.set_body({}))
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

  it("changes headers", function()
    local got = head_of(l:ask(headers, { HTTP_X_FROM_CLIENT = "here", HTTP_X_SECRET = "s" }))
    assert.equal("one", got["x-text"])
    assert.equal("17", got["x-number"])
    assert.equal("a|b", got["x-list"])
    assert.equal("here|more", got["x-from-client"])
    assert.is_nil(got["x-secret"])
    assert.equal("true", got["x-all"])
    assert.equal("a%0D%0AX-Evil: 1", got["x-bytes"])
    assert.is_nil(got["x-evil"])
    assert.equal("other.example", got.host)
  end)

  it("changes the request line", function()
    assert.equal("DELETE /headers?a=x%20y&b=2&b HTTP/1.1", head_of(l:ask(line .. "?z=1")).line)
    assert.equal("GET /headers?a=%41&b%20c%0D%0Ad HTTP/1.1", head_of(l:ask(raw_query)).line)
    assert.equal("GET /headers?a=%41&b HTTP/1.1",
                 head_of(l:ask(clear_arg .. "?a=%41&apikey=x&b&api%6bey")).line)
  end)

  it("replaces the body", function()
    assert.equal("other body", l:ask(body).body)
    local post = { REQUEST_METHOD = "POST", CONTENT_TYPE = "application/x-www-form-urlencoded" }
    assert.equal("other body", l:ask(body, post, { body = ("x"):rep(5000) }).body)
    assert.equal('{"a":"1"}', l:ask(json_body, post, { body = "b=2" }).body)
    assert.equal("a=1&added=yes", l:ask(form_body, post, { body = "a=1" }).body)
  end)

  it("goes to another target", function()
    local port = tostring(l.service.port)
    assert.matches("^GET /headers HTTP/1.1", l:ask(target, { HTTP_X_PORT = port }).body)
    l.weir:expect_log("upstream: ")
    assert.equal(502, l:ask(target, { HTTP_X_PORT = tostring(l.env:port()) }).status)
  end)

  it("sets timeouts", function()
    l.weir:expect_log("upstream: ")
    assert.equal(504, l:ask(slow .. "?ms=2000").status)
  end)

  it("says what is wrong with an argument", function()
    local said = l:json(misuse)
    for i, want in ipairs({
      "scheme must be a string", "invalid scheme: ftp", "path must be a string",
      "path must start with /", "query must be a string", "method must be a string",
      "invalid method: get", "args must be a table", "invalid value for argument 'a'",
      'invalid header value for "a"', "headers must be a table", "body must be a string",
      "args must be a table", "mime must be a string", "host must be a string",
      "port must be an integer between 0 and 65535: given 65536", "port must be an integer",
      "retries must be an integer between 0 and 32767: given -1",
      "connect_timeout must be an integer between 1 and 2147483646: given 0",
      "read_timeout must be an integer",
      "content type was neither explicitly given as an argument or received as a header",
    }) do
      assert.is_truthy(tostring(said[i]):find(want, 1, true), i .. ": " .. tostring(said[i]))
    end
  end)
end)

describe("kong.service.response", function()
  local l = lab.new()

  local buffered = l:route({ to = "/headers", access = [[
    kong.service.request.enable_buffering()
  ]], header_filter = [[
    local r = kong.service.response
    kong.response.set_header("X-Length", #r.get_raw_body())
    local value, err, mime = r.get_body()
    kong.response.set_header("X-Err", tostring(err))
  ]] })
  local unbuffered = l:route({ header_filter = [[
    local ok, err = pcall(kong.service.response.get_raw_body)
    kong.response.set_header("X-Err", err)
    kong.response.set_header("X-Own", "1")
    kong.response.set_header("X-Seen", tostring(kong.service.response.get_header("X-Own")))
    kong.response.set_header("X-All", tostring(kong.service.response.get_headers()["x-own"]))
  ]] })
  local made = l:route({ access = "kong.response.exit(200)", header_filter = [[
    kong.response.set_header("X-Status", tostring(kong.service.response.get_status()))
    kong.response.set_header("X-Type", tostring(kong.service.response.get_header("content-type")))
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

  it("reads a buffered body", function()
    local got = l:ask(buffered)
    assert.equal(200, got.status)
    assert.equal(tostring(#got.body), got.headers["x-length"])
    assert.matches("unsupported content type", got.headers["x-err"], 1, true)
  end)

  it("has no body that was not buffered, and only the upstream's headers", function()
    local got = l:ask(unbuffered)
    assert.matches("service body is only available with buffered proxying",
                   got.headers["x-err"], 1, true)
    assert.equal("nil", got.headers["x-seen"])
    assert.equal("nil", got.headers["x-all"])
  end)

  it("is empty when no upstream answered", function()
    local got = l:ask(made)
    assert.equal("nil", got.headers["x-status"])
    assert.equal("nil", got.headers["x-type"])
  end)
end)
