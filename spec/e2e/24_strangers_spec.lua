-- What a stranger on the FastCGI socket, or behind a careless web server, may
-- try: nothing of it brings weir down, fills its memory, or gets past a limit.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local json = require "cjson"

local YML = [[
_format_version: "3.0"
services:
  - name: service
    url: %s
    routes:
      - { name: all, paths: [ / ], strip_path: false }
      - { name: keyed, paths: [ /keyed ], strip_path: false }
    plugins:
      - { name: rate-limiting, config: { hour: 3 } }
      - name: rate-limiting
        route: keyed
        config: { hour: 100, limit_by: header, header_name: X-Key }
]]

describe("a stranger", function()
  local e, w
  local plain_it = it
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    local service = upstream.nginx(e)
    w = weir.new(e, { yml = YML:format(service.url), conf = {
      workers = 1, counter_memory = "256k" } }):start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local function ask(changes, opts)
    opts = opts or {}
    opts.params = changes or {}
    opts.params.REMOTE_ADDR = opts.params.REMOTE_ADDR or env.client()
    return assert(fcgi.once(w.unix, opts))
  end

  local function assert_well()
    assert.equal(200, ask().status)
  end

  it("gets no limit of his own by saying where he comes from", function()
    env.stay_clear(3600)
    local client = env.client()
    for i = 1, 5 do
      local other = env.client()
      local got = ask({ REMOTE_ADDR = client, HTTP_X_FORWARDED_FOR = other, HTTP_X_REAL_IP = other,
                        HTTP_FORWARDED = "for=" .. other, HTTP_REMOTE_ADDR = other })
      assert.equal(i <= 3 and 200 or 429, got.status)
    end
  end)

  it("cannot say what only a web server says", function()
    env.stay_clear(3600)
    local client = env.client()
    for i = 1, 5 do
      local got = ask({ REMOTE_ADDR = client, HTTP_WEIR_ROLE = "authorizer",
                        HTTP_WEIR_REQUEST_ID = "one", HTTP_WEIR_AUTHORIZED = "one",
                        HTTP_WEIR_DENY_STYLE = "variable" })
      assert.equal(i <= 3 and 200 or 429, got.status)
      assert.equal(i <= 3 and "GET /echo\n" or '{"message":"API rate limit exceeded"}', got.body)
    end
  end)

  it("gets messages that are JSON, whatever a parameter is called", function()
    for _, name in ipairs({ 'HTTP_A"B', "HTTP_A\\B", "HTTP_A\nB", "HTTP_A\255",
                            ("HTTP_"):rep(99) }) do
      local got = ask({ [name] = "a\r\nSet-Cookie: b" })
      assert.equal(400, got.status)
      assert.is_nil(got.headers["set-cookie"])
      assert.matches("line break or NUL", json.decode(got.body).message)
    end
    w:expect_log("is answered 400", 5)
  end)

  it("cannot slip a second request in behind a body", function()
    local evil = "xGET /evil HTTP/1.1\r\nHost: x\r\n\r\n"
    for _, params in ipairs({
      { HTTP_TRANSFER_ENCODING = "chunked" },
      { HTTP_TRANSFER_ENCODING = "chunked", CONTENT_LENGTH = #evil },
      { HTTP_CONTENT_LENGTH = 1, CONTENT_LENGTH = #evil },
      { HTTP_CONNECTION = "content-length, transfer-encoding" },
    }) do
      params.REQUEST_METHOD, params.REQUEST_URI = "POST", "/echo-body"
      local got = ask(params, { body = evil })
      assert.equal(200, got.status)
      assert.equal(evil, got.body)
    end
    local got = ask({ REQUEST_METHOD = "POST", REQUEST_URI = "/echo-body", CONTENT_LENGTH = 1 },
                    { body = evil })
    assert.equal(502, got.status)
    w:expect_log("body is longer than announced", 1)
  end)

  plain_it("is asked nothing more until he reads what was answered", function()
    assert_well()
    for name, bytes in pairs({
      ["unknown types"] = fcgi.record(77, 0, ""),
      ["questions"] = fcgi.record(fcgi.GET_VALUES, 0, fcgi.pairs({ { "FCGI_MAX_REQS", "" } })),
      ["refusals"] = fcgi.request({ params = { REQUEST_METHOD = "?" }, keep = true, body = false }),
    }) do
      local before = w:rss_kb()
      local c = assert(fcgi.connect(w.unix, { timeout = 1 }))
      local piece, sent = bytes:rep(math.ceil(32768 / #bytes)), 0
      repeat
        local ok = c:send(piece)
        sent = sent + #piece
      until not ok or sent > modes.bytes(16 * 1024 * 1024)
      assert_well()
      assert.is_true(w:rss_kb() - before < 6000, name)
      c:close()
    end
    w:expect_log("is answered 400", "maybe")
  end)

  it("may begin and give up requests in any order", function()
    for i = 1, 60 do
      local c = assert(fcgi.connect(w.unix))
      local function request(id, path, client)
        return fcgi.request({ id = id, keep = true, params = { REQUEST_URI = path,
                                                               REMOTE_ADDR = client } })
      end
      assert(c:send(request(1, "/delay?ms=" .. i % 5, env.client())))
      net.sleep(i % 7 / 1000)
      assert(c:send(fcgi.record(fcgi.ABORT, 1) .. request(1, "/", env.client())))
      if i % 3 == 0 then
        c:reset()
      elseif i % 3 == 1 then
        c:close()
      else
        local got = assert(c:answer(1))
        if not got.status then -- the end of the one that was given up
          got = assert(c:answer(1))
        end
        assert.equal(200, got.status)
        c:close()
      end
    end
    assert_well()
  end)

  it("may say records that make no sense", function()
    local list = fcgi.params({ REMOTE_ADDR = "127.1.1.1" })
    local params = fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs(list))
    local begin, stdin = fcgi.begin(1, 1, true), fcgi.record(fcgi.STDIN, 1, "")
    for _, case in ipairs({
      { fcgi.begin(0, 1, true), "closed", "has the id 0" },
      { begin .. begin, "closed", "begins while it is in use" },
      { fcgi.record(fcgi.BEGIN, 1, "\0\1"), "closed", "is not 8 bytes long" },
      { fcgi.record(fcgi.STDOUT, 1, "x"), "closed", "only applications send" },
      { begin .. fcgi.record(fcgi.PARAMS, 1, "") .. stdin, 400, "is answered 400" },
      { begin .. fcgi.stream(fcgi.PARAMS, 1, ("\255"):rep(8)) .. stdin, 400, "is answered 400" },
      { begin .. params .. params .. fcgi.record(fcgi.DATA, 1, "x") .. stdin, "answer" },
    }) do
      local bytes, want, line = unpack(case)
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(bytes))
      if want == "closed" then
        assert.is_true(c.conn:wait_closed(5))
      else
        local got = assert(c:answer(1))
        assert.is_true(got.status == want or want == "answer" and got.status ~= nil)
      end
      c:close()
      if line then
        w:expect_log(line, "any")
      end
    end
    assert_well()
  end)

  plain_it("may have any number of names: counters stay bounded, and nobody is refused", function()
    local before = w:rss_kb()
    local c = assert(fcgi.connect(w.unix))
    local names = modes.is_slow() and 2000 or 20000
    for first = 1, names, 200 do
      local batch = {}
      for id = 1, 200 do
        batch[id] = fcgi.request({ id = id, keep = true, role = fcgi.AUTHORIZER, body = false,
          params = { REQUEST_URI = "/keyed", HTTP_X_KEY = "name " .. first + id } })
      end
      assert(c:send(table.concat(batch)))
      for id = 1, 200 do
        local got = assert(c:answer(id))
        assert.equal(200, got.status)
        assert.equal("99", got.headers["ratelimit-remaining"])
      end
    end
    c:close()
    assert.is_true(w:rss_kb() - before < 8000)
    local got = ask({ REQUEST_URI = "/keyed", HTTP_X_KEY = ("k"):rep(20000) })
    assert.equal("99", got.headers["ratelimit-remaining"])
  end)
end)
