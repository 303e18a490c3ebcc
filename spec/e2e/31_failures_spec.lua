-- Services that fail, lie or go away: the client gets a clear answer, and the
-- next request is served.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local OK = "HTTP/1.1 200 OK\r\n"

local REPLIES = {
  ["/garbage"] = "this is not HTTP\r\n\r\n",
  ["/nothing"] = "",
  ["/half-head"] = "HTTP/1.1 200 OK\r\nContent-Le",
  ["/two-lengths"] = OK .. "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
  ["/length-and-chunks"] = OK .. "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" ..
                           "3\r\nabc\r\n0\r\n\r\n",
  ["/odd-coding"] = OK .. "Transfer-Encoding: gzip\r\n\r\nabc",
  ["/bad-length"] = OK .. "Content-Length: -5\r\n\r\nabc",
  ["/bad-header"] = OK .. "no colon here\r\n\r\nabc",
  ["/nul"] = OK .. "X-Nul: a\0b\r\nContent-Length: 0\r\n\r\n",
  ["/huge-head"] = OK .. ("X-Long: " .. ("v"):rep(1000) .. "\r\n"):rep(100) .. "\r\n",
  ["/continue"] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" ..
                  OK .. "Content-Length: 3\r\n\r\nabc",
  ["/to-the-end"] = OK .. "\r\nabc",
  ["/http10"] = "HTTP/1.0 200 OK\r\n\r\nabc",
  ["/no-reason"] = "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc",
  ["/line-feeds"] = "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
  ["/extra"] = { OK .. "Content-Length: 3\r\n\r\nabc" .. OK .. "Content-Length: 4\r\n\r\nevil",
                 "keep" },
  ["/short"] = OK .. "Content-Length: 100\r\n\r\nabc",
  ["/short-chunk"] = OK .. "Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
  ["/bad-chunk"] = OK .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
  ["/late-extra"] = { OK .. "Content-Length: 3\r\n\r\nabc", 0.3,
                      OK .. "Content-Length: 4\r\n\r\nevil", "keep" },
  ["/good"] = { OK .. "Content-Length: 4\r\n\r\ngood", "keep" },
}

local YML = [[
_format_version: "3.0"
services:
  - { name: raw, url: "%s", retries: 0, routes: [ { name: raw, paths: [ / ], strip_path: false } ] }
  - { name: busy, url: "%s", retries: 0, routes: [
      { name: busy, hosts: [ busy ], paths: [ / ], strip_path: false } ] }
  - { name: real, url: "%s", routes: [ { name: real, hosts: [ real ] } ] }
  - { name: refused, url: "http://127.0.0.1:1", routes: [ { name: refused, hosts: [ refused ] } ] }
  - { name: slow, url: "%s", read_timeout: 300, routes: [ { name: slow, hosts: [ slow ] } ] }
  - { name: unknown, url: "http://no-such-name.invalid",
      routes: [ { name: unknown, hosts: [ unknown ] } ] }
]]

-- Nothing else is done meanwhile: what comes lies in the socket.
local BUSY = [[
plugins:
  - { name: pdk-run, route: busy, config: { access:
      'local till = os.clock() + 0.6 repeat until os.clock() > till' } }
]]

describe("a service", function()
  local e, real, raw, w
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    real = upstream.nginx(e)
    raw = upstream.raw(e, REPLIES)
    w = weir.new(e, { yml = YML:format(raw.url, raw.url, real.url, real.url) .. BUSY, conf = {
      workers = 1, plugins = "pdk-run",
      plugin_dir = env.srcdir .. "/plugins," .. env.srcdir .. "/spec/fixtures/plugins" } })
    w:start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local function ask(path, host)
    return assert(fcgi.once(w.unix, { params = { REQUEST_URI = path, HTTP_HOST = host } }))
  end

  local INVALID = '{"message":"An invalid response was received from the upstream server"}'
  local TIMEOUT = '{"message":"The upstream server is timing out"}'

  for _, what in ipairs({ "/garbage", "/nothing", "/half-head", "/two-lengths",
                          "/length-and-chunks", "/odd-coding", "/bad-length", "/bad-header",
                          "/nul", "/huge-head" }) do
    it("that sends " .. what:sub(2) .. " is a 502", function()
      local got = ask(what)
      assert.equal(502, got.status)
      assert.equal(INVALID, got.body)
      w:expect_log("upstream", 1)
      assert.equal("good", ask("/good").body)
    end)
  end

  for path, body in pairs({
    ["/continue"] = "abc", ["/to-the-end"] = "abc", ["/http10"] = "abc", ["/no-reason"] = "abc",
    ["/line-feeds"] = "abc",
  }) do
    it("may send " .. path:sub(2), function()
      local got = ask(path)
      assert.equal(200, got.status)
      assert.equal(body, got.body)
    end)
  end

  it("cannot slip a second response in", function()
    for _ = 1, 3 do
      assert.equal("abc", ask("/extra").body)
      assert.equal("good", ask("/good").body)
    end
  end)

  it("cannot slip one in later, while weir is busy", function()
    for _ = 1, 2 do
      assert.equal("abc", ask("/late-extra").body)
      assert.equal("good", ask("/good", "busy").body)
    end
  end)

  for _, what in ipairs({ "/short", "/short-chunk", "/bad-chunk" }) do
    it("that breaks off (" .. what:sub(2) .. ") leaves the answer open to see", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.request({ params = { REQUEST_URI = what } })))
      local got = c:answer(1, 5)
      -- FastCGI has no word for it: the length does not hold, or the request has failed
      local seen = got and (got.app_status ~= 0 or
                            tonumber(got.headers["content-length"] or -1) > #got.body)
      assert.is_true(got == nil or seen)
      c:close()
      w:expect_log("upstream", 1)
    end)
  end

  it("that nobody runs is a 502", function()
    local got = ask("/", "refused")
    assert.equal(502, got.status)
    assert.equal(INVALID, got.body)
    w:expect_log("upstream", 1)
  end)

  it("without an address is a 503", function()
    local got = ask("/", "unknown")
    assert.equal(503, got.status)
    assert.matches("name resolution failed", got.body)
    w:expect_log("no%-such%-name.invalid", 1)
  end)

  it("that takes too long is a 504", function()
    local began = net.now()
    local got = ask("/delay?ms=3000", "slow")
    assert.equal(504, got.status)
    assert.equal(TIMEOUT, got.body)
    assert.is_true(net.now() - began < 2.5)
    w:expect_log("upstream", 1)
  end)

  it("has not failed when it is the client that takes its time", function()
    local n = modes.bytes(20000000)
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(fcgi.request({ params = { REQUEST_URI = "/bytes?n=" .. n,
                                            HTTP_HOST = "slow" } })))
    net.sleep(1) -- over three times its read_timeout
    assert.equal(n, #assert(c:answer(1, 60)).body)
    c:close()
  end)

  it("that was restarted gets the next request without an error", function()
    for _ = 1, 3 do
      assert.equal("hello\n", ask("/", "real").body)
      real:stop()
      real:start()
      assert.equal("hello\n", ask("/", "real").body)
    end
  end)
end)
