-- What strangers may not do: each bound has its own answer, over FastCGI in
-- full, and one line in the log; the connection's other requests go on.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local limits = require "lib.limits"
local modes = require "lib.modes"
local net = require "lib.net"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

describe("a bound", function()
  local e, service, w
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    w = weir.new(e, {
      -- what of a body has come must go up at once: see what is said while it is incomplete
      yml = limits.yml(service.url):gsub("paths: %[ / %]", "%0\n        request_buffering: false"),
      conf = {
        workers = 1, fastcgi_max_params_bytes = "16k", max_header_count = 20,
        max_header_bytes = "4k", client_max_body_size = "100k", max_requests = 8,
        request_timeout = modes.is_slow() and "2s" or "500ms",
      },
    }):start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local function assert_refused(status, opts, pattern)
    opts.keep = true
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(fcgi.request(opts)))
    local got = assert(c:answer(opts.id, 5))
    assert.equal("Status", got.all[1][1])
    assert.equal(status, got.status)
    assert.matches("^{\"message\":\".+\"}", got.body)
    assert.is_true(got.stdout_closed)
    -- nothing but this request is lost
    assert(c:send(fcgi.request({ id = 2, keep = true })))
    assert.equal(200, assert(c:answer(2)).status)
    c:close()
    w:expect_log(pattern, 1)
  end

  it("on all parameters: 431", function()
    assert_refused(431, { extra = { { "SOME_VARIABLE", ("v"):rep(17 * 1024) } } },
      "a request is answered 431")
  end)

  it("on the number of headers: 431", function()
    local extra = {}
    for i = 1, 21 do
      extra[i] = { "HTTP_X_" .. i, "v" }
    end
    assert_refused(431, { extra = extra }, "431")
  end)

  it("on the size of headers: 431", function()
    assert_refused(431, { extra = { { "HTTP_X_LONG", ("v"):rep(5000) } } }, "431")
  end)

  it("on the announced size of a body: 413", function()
    assert_refused(413, { params = { REQUEST_METHOD = "POST", CONTENT_LENGTH = 200000 },
                          body = ("x"):rep(200000) }, "413")
  end)

  it("on the size of a body that nobody announced: 413", function()
    assert_refused(413, { params = { REQUEST_METHOD = "POST", CONTENT_LENGTH = false },
                          body = ("x"):rep(200000) }, "413")
  end)

  it("on what a request is: 400", function()
    for _, params in ipairs({
      { REQUEST_METHOD = "GE T" }, { REQUEST_METHOD = "" }, { REQUEST_URI = "no-slash" },
      { CONTENT_LENGTH = "-1" }, { CONTENT_LENGTH = "12x" }, { REQUEST_URI = "/a b" },
      { HTTP_X_LINE = "a\r\nX-Smuggled: b" },
    }) do
      assert_refused(400, { params = params }, "400")
    end
  end)

  it("on parameters that do not fit their record: 400", function()
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(fcgi.begin(1, 1, true) .. fcgi.stream(fcgi.PARAMS, 1, "\200\0\0") ..
                  fcgi.record(fcgi.STDIN, 1, "")))
    assert.equal(400, assert(c:answer()).status)
    c:close()
    w:expect_log("400", 1)
  end)

  it("on the time between the pieces of parameters: 408", function()
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(fcgi.begin(1, 1, true) .. fcgi.record(fcgi.PARAMS, 1, "\4")))
    assert.equal(408, assert(c:answer(1, 10)).status)
    c:close()
    w:expect_log("408", 1)
  end)

  it("on the time between the pieces of a body: 408", function()
    local c = assert(fcgi.connect(w.unix))
    local list = fcgi.params({ REQUEST_METHOD = "POST", REQUEST_URI = "/echo-body",
                               CONTENT_LENGTH = 10 })
    assert(c:send(fcgi.begin(1, 1, true) .. fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs(list)) ..
                  fcgi.record(fcgi.STDIN, 1, "abc")))
    assert.equal(408, assert(c:answer(1, 10)).status)
    c:close()
    w:expect_log("408", 1)
  end)

  it("on that time whatever its neighbours on the connection do", function()
    local c = assert(fcgi.connect(w.unix))
    local list = fcgi.params({ REQUEST_METHOD = "POST", REQUEST_URI = "/echo-body",
                               CONTENT_LENGTH = 10 })
    assert(c:send(fcgi.begin(1, 1, true) .. fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs(list)) ..
                  fcgi.record(fcgi.STDIN, 1, "abc")))
    local till = net.now() + (modes.is_slow() and 6 or 2)
    while net.now() < till and not (c.answers[1] and c.answers[1].ended) do
      assert(c:send(fcgi.request({ id = 2, keep = true })))
      assert.equal(200, assert(c:answer(2)).status)
      net.sleep(0.05)
    end
    assert.equal(408, assert(c:answer(1, 0.1)).status)
    c:close()
    w:expect_log("408", 1)
  end)

  it("on the time between the pieces of a body that is being answered: the answer breaks off",
     function()
    local function begin(c, id)
      local list = fcgi.params({ REQUEST_METHOD = "POST", REQUEST_URI = "/first-piece",
                                 CONTENT_LENGTH = 10 })
      assert(c:send(fcgi.begin(id, 1, true) .. fcgi.stream(fcgi.PARAMS, id, fcgi.pairs(list)) ..
                    fcgi.record(fcgi.STDIN, id, "abc")))
    end
    local c = assert(fcgi.connect(w.unix))
    begin(c, 1)
    local _, why, raw = c:answer(1, 10)
    assert.equal("closed", why)
    assert.matches("first %d\n", raw)
    c:close()
    c = assert(fcgi.connect(w.unix))
    begin(c, 1)
    net.sleep(0.1) -- so that it is the first whose time is over
    assert(c:send(fcgi.begin(2, 1, true)))
    local got = assert(c:answer(1, 10))
    assert.equal(1, got.app_status)
    assert.matches("first %d\n", got.body)
    assert.equal(408, assert(c:answer(2, 10)).status)
    assert(c:send(fcgi.request({ id = 3, keep = true }))) -- its neighbours go on
    assert.equal(200, assert(c:answer(3)).status)
    c:close()
    w:expect_log("408", 3)
  end)

  it("on requests at once: 503", function()
    local c = assert(fcgi.connect(w.unix))
    for id = 1, 8 do
      assert(c:send(fcgi.request({ id = id, keep = true,
                                   params = { REQUEST_URI = "/delay?ms=700" } })))
    end
    net.sleep(0.2)
    assert(c:send(fcgi.request({ id = 9, keep = true })))
    local got = assert(c:answer(9, 5))
    assert.equal(503, got.status)
    assert.matches("^{\"message\":\".+\"}", got.body)
    assert.is_not.equal(fcgi.COMPLETE + 99, got.protocol_status)
    local refused = assert(fcgi.once(w.unix, { role = fcgi.AUTHORIZER, body = false }))
    assert.equal(503, refused.status) -- lighttpd would let a bare END_REQUEST through
    for id = 1, 8 do
      assert.equal(200, assert(c:answer(id, 10)).status)
    end
    c:close()
    w:expect_log("503", "any")
  end)
end)
