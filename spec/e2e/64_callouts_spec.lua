-- Calling out over HTTP (lua/weir/http.lua): a plugin asks servers that are good,
-- slow, broken or malicious, and weir serves on.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local callouts = require "lib.callouts"
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local signal = require "posix.signal"
local upstream = require "lib.upstream"

local OK = "HTTP/1.1 200 OK\r\n"

local function lines(line, n)
  return OK .. line:rep(n) .. "Content-Length: 0\r\n\r\n"
end

local REPLIES = {
  ["/good"] = { OK .. "Content-Length: 4\r\n\r\ngood", "keep" },
  ["/garbage"] = "this is not HTTP\r\n\r\n",
  ["/nothing"] = "",
  ["/half-head"] = OK .. "Content-Le",
  ["/short"] = OK .. "Content-Length: 100\r\n\r\nabc",
  ["/short-chunk"] = OK .. "Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
  ["/bad-chunk"] = OK .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
  ["/chunks"] = { OK .. "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n", 0.05,
                  "3\r\ndef\r\n0\r\nX-T: 1\r\n\r\n", "keep" },
  ["/interim"] = "HTTP/1.1 100 Continue\r\nX-No: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
                 .. "Link: </x>\r\n\r\n" .. OK .. "Content-Length: 3\r\n\r\nabc",
  ["/to-the-end"] = OK .. "\r\nabc",
  ["/no-colon"] = OK .. "no colon here\r\nContent-Length: 0\r\n\r\n",
  ["/many-fields"] = lines("X-A: b\r\n", 300),
  ["/some-fields"] = lines("X-A: b\r\n", 200),
  ["/large-head"] = lines("X-A: " .. ("v"):rep(1000) .. "\r\n", 80),
  ["/large-field"] = lines("X-A: " .. ("v"):rep(200000) .. "\r\n", 1),
  ["/reset"] = { OK .. "Content-Length: 100\r\n\r\nabc", "reset" },
  ["/no-content"] = { "HTTP/1.1 204 No Content\r\n\r\n", "keep" },
  ["/not-modified"] = { "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", "keep" },
  ["/redirect"] = { "HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 0\r\n\r\n", "keep" },
  ["/cookie"] = { OK .. "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n", "keep" },
  ["/silent"] = { 3 },
  ["/endless-interim"] = ("HTTP/1.1 100 Continue\r\n\r\n"):rep(5000),
}

describe("a plugin that calls out", function()
  local e, w, real, raw, tls

  setup(function()
    e = env.new()
    real = upstream.nginx(e)
    raw = upstream.raw(e, REPLIES, 4)
    tls = callouts.tls(e)
    w = callouts.weir(e, { lua_ssl_trusted_certificate = tls.dir .. "/ca.crt" })
    e:write("run/at-start", real.url .. "/hello.txt")
    w:start()
  end)

  teardown(function()
    assert.is_nil(w:log():match("[^\n]*secret[^\n]*"))
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local it = modes.wrap(it, function()
    return w
  end)

  local function good(options, where)
    local got = callouts.ask(w, options, where)
    assert.is_nil(got.raised)
    assert.is_nil(got.err)
    return got.response
  end

  local function refused(options, where)
    local got = callouts.ask(w, options, where)
    assert.is_nil(got.raised)
    assert.is_nil(got.response)
    return got.err
  end

  local function misused(options, where)
    return (assert(callouts.ask(w, options, where).raised))
  end

  it("is given status, headers and body", function()
    local got = good({ url = real.url .. "/set-headers?x=1" })
    assert.equal(200, got.status)
    assert.equal("ok\n", got.body)
    assert.equal("kept", got.headers["x-plain"])
    assert.equal("a=1, b=2", got.headers["set-cookie"])
  end)

  it("sends what it says and little else", function()
    local got = good({ url = real.url .. "/headers?a=%20b", method = "LIST",
                       headers = { ["X-Token"] = "t", ["X-Empty"] = "",
                                   ["X-Two"] = { "1", "2" } } })
    local head = got.body:gsub("\r", "")
    local port = real.port
    assert.equal("LIST /headers?a=%20b HTTP/1.1\n", head:match("^.-\n"))
    local fields = {}
    for line in head:gmatch("\n([^\n]+)") do
      fields[#fields + 1] = line
    end
    table.sort(fields)
    assert.same({ "Accept: */*", "Host: 127.0.0.1:" .. port, "User-Agent: weir/" ..
                  fields[3]:match("weir/(.*)"), "X-Empty:", "X-Token: t", "X-Two: 1", "X-Two: 2" },
                fields)
  end)

  it("sends bodies", function()
    local body = ("0123456789abcdef"):rep(modes.bytes(2000000) / 16)
    local got = good({ url = real.url .. "/echo-body", method = "PUT", body = "{}" })
    assert.equal("{}", got.body)
    got = good({ url = real.url .. "/body-length", method = "POST" })
    assert.equal("0 -\n", got.body)
    -- a header of the request cannot carry it, so the plugin is told less
    assert.equal(modes.bytes(2000000), #body)
  end)

  it("is told what came of servers that break off, or are none", function()
    assert.equal("cannot connect to 127.0.0.1:1: Connection refused",
                 refused({ url = "http://127.0.0.1:1/?secret=1" }))
    assert.equal(raw.address .. " does not speak HTTP", refused({ url = raw.url .. "/garbage" }))
    local closed = raw.address .. " closed the connection before the end of its response"
    for _, path in ipairs({ "/nothing", "/half-head", "/short", "/short-chunk" }) do
      assert.equal(closed, refused({ url = raw.url .. path .. "?secret" }))
    end
  end)

  it("is given what is not a plain response, too", function()
    assert.equal("good", good({ url = raw.url .. "/good" }).body)
    assert.equal("abcdef", good({ url = raw.url .. "/chunks" }).body)
    assert.equal("abc", good({ url = raw.url .. "/to-the-end" }).body)
    local interim = good({ url = raw.url .. "/interim" })
    assert.equal(200, interim.status)
    assert.is_nil(interim.headers.link)
    assert.equal(204, good({ url = raw.url .. "/no-content" }).status)
    assert.equal(304, good({ url = raw.url .. "/not-modified" }).status)
    local redirect = good({ url = raw.url .. "/redirect" })
    assert.same({ 302, "/good" }, { redirect.status, redirect.headers.location })
    assert.equal("a=1, b=2", good({ url = raw.url .. "/cookie" }).headers["set-cookie"])
    assert.equal("", good({ url = real.url .. "/hello.txt", method = "HEAD" }).body)
    assert.equal(403, good({ url = real.url .. "/status?code=403&length=0" }).status)
  end)

  it("is told what is too much", function()
    local many = "more than 256 header fields, or 65536 bytes of them"
    for _, path in ipairs({ "/many-fields", "/large-head", "/endless-interim" }) do
      assert.equal(many, refused({ url = raw.url .. path }))
    end
    assert.equal("b, b", good({ url = raw.url .. "/some-fields" }).headers["x-a"]:sub(1, 4))
    assert.equal("more than 99 bytes",
                 refused({ url = real.url .. "/bytes?n=100", max_bytes = 99 }))
    assert.equal("more than 99 bytes",
                 refused({ url = real.url .. "/bytes?n=100&chunked=1", max_bytes = 99 }))
    assert.equal(100, #good({ url = real.url .. "/bytes?n=100", max_bytes = 100 }).body)
    assert.equal("more than 1048576 bytes", refused({ url = real.url .. "/bytes?n=1048577" }))
    local n = modes.bytes(1048576)
    assert.equal(n, #good({ url = real.url .. "/bytes?n=" .. n, timeout_ms = 60000 }).body)
  end)

  it("waits no longer than it wants", function()
    local begun = net.now()
    assert.equal("timeout", refused({ url = raw.url .. "/silent?secret", timeout_ms = 150 }))
    assert.equal("timeout", refused({ url = real.url .. "/stream?n=100&ms=20", timeout_ms = 150 }))
    assert.is_true(net.now() - begun < 2)
    assert.equal("late\n", good({ url = real.url .. "/delay?ms=100" }).body)
  end)

  it("may do so in a timer and at the worker's start", function()
    assert.equal("hello\n", good({ url = real.url .. "/hello.txt" }, "timer").body)
    assert.equal("timeout",
                 refused({ url = real.url .. "/delay?ms=2000", timeout_ms = 50 }, "timer"))
    assert.equal("hello\n", good({}, "start").body)
  end)

  it("is told of its own mistakes where it made them", function()
    local needs = "weir.http.request needs a table with a url"
    for where, text in pairs({
      ["nothing"] = needs, ["a function"] = needs,
      ["a header that is a function"] = "headers must be a map from names to strings",
      ["a number for a name"] = "headers must be a map from names to strings",
    }) do
      assert.matches(text, misused({}, where), 1, true)
    end
    assert.matches("knows no option 'timeout'",
                   misused({ url = "http://a/", timeout = 1 }), 1, true)
    assert.matches("timeout_ms must be a number", misused({ url = "http://a/", timeout_ms = "1" }))
    assert.matches("body must be a string", misused({ url = "http://a/", body = {} }))
    assert.matches("headers must be a table", misused({ url = "http://a/", headers = "a" }))
    assert.matches("proxy must be a URL", misused({ url = "http://a/", proxy = 1 }))
    assert.matches("ssl_verify must be a boolean",
                   misused({ url = "http://a/", ssl_verify = "no" }))
  end)

  it("is told of values that cannot be", function()
    assert.equal("the URL is invalid", refused({ url = "http://" }))
    assert.equal("the URL is neither http nor https", refused({ url = "127.0.0.1:1/secret" }))
    assert.equal("the URL is neither http nor https", refused({ url = "file:///etc/secret" }))
    assert.equal("the URL has a user in it", refused({ url = "http://u:secret@127.0.0.1:1/" }))
    assert.equal("url is invalid", refused({}, "bytes"))
    assert.equal("url is out of bounds", refused({ url = "http://a/" .. ("x"):rep(20000) }))
    assert.equal("timeout_ms is out of bounds", refused({}, "not a number"))
    assert.equal("timeout_ms is out of bounds", refused({ url = "http://a/", timeout_ms = -1 }))
    assert.equal("max_bytes is out of bounds", refused({ url = "http://a/", max_bytes = 1e9 }))
    assert.equal("header X-A is invalid",
                 refused({ url = "http://a/", headers = { ["X-A"] = "secret\nX-B: 1" } }))
    assert.equal("header Content-Length is invalid",
                 refused({ url = "http://a/", headers = { ["Content-Length"] = "1" } }))
    assert.equal("method is invalid", refused({ url = "http://a/", method = "A B" }))
    assert.equal("method is invalid", refused({ url = "http://a/", method = "CONNECT" }))
    assert.equal("unix_socket is out of bounds",
                 refused({ url = "http://a/", unix_socket = "/" .. ("x"):rep(200) }))
  end)

  it("trusts the authorities of weir.conf, or those that it names", function()
    local url = ("https://localhost:%d/?secret"):format(tls.port)
    assert.matches("^localhost|localhost:", good({ url = url }).body)
    assert.matches("^localhost|", good({ url = url, ca_file = tls.dir .. "/ca.crt" }).body)
    assert.equal(("certificate of localhost:%d: unable to get local issuer certificate")
                   :format(tls.port), refused({ url = url, ca_file = tls.dir .. "/other.crt" }))
    assert.matches("^localhost|",
                   good({ url = url, ca_file = tls.dir .. "/other.crt", ssl_verify = false }).body)
    assert.equal("certificate authorities cannot be read: /nowhere/ca.crt",
                 refused({ url = url, ca_file = "/nowhere/ca.crt" }))
  end)

  it("trusts a certificate for its name alone", function()
    local refusal = "certificate of " .. tls.address .. ": "
    assert.equal(refusal .. "no alternative certificate subject name matches target host name"
                 .. " '127.0.0.1'", refused({ url = tls.url }))
    assert.equal("vault.example|" .. tls.address,
                 good({ url = tls.url, server_name = "vault.example" }).body:match("^[^|]*|[^|]*"))
    assert.matches("host name 'other.example'", refused({ url = tls.url,
                                                          server_name = "other.example" }))
    assert.equal("invalid server name", refused({ url = tls.url, server_name = "a b" }))
    assert.equal("|own.example|",
                 good({ url = tls.url, ssl_verify = false, headers = { Host = "own.example" } })
                   .body:match("^[^|]*|[^|]*|"))
  end)

  it("shows its own certificate", function()
    local function subject(cert, key)
      return good({ url = tls.url, server_name = "vault.example",
                    cert_file = cert and tls.dir .. "/" .. cert,
                    key_file = key and tls.dir .. "/" .. key }).body:match("^[^|]*|[^|]*|([^|]*)|")
    end
    assert.equal("CN=client", subject("client.crt", "client.key"))
    assert.equal("CN=client", subject("both.pem"))
    assert.equal("", subject())
    assert.matches("^certificate [^ ]*/tls/other.crt cannot be used: ",
                   refused({ url = tls.url, cert_file = tls.dir .. "/other.crt",
                             key_file = tls.dir .. "/client.key" }))
    assert.matches("^certificate /nowhere cannot be used: ",
                   refused({ url = tls.url, cert_file = "/nowhere" }))
  end)

  it("is told what is wrong with TLS", function()
    assert.matches("^TLS with 127%.0%.0%.1:%d+ failed: .*protocol",
                   refused({ url = tls.old_url .. "/?secret", ssl_verify = false }))
    assert.matches("^TLS with 127%.0%.0%.1:%d+ failed: .*wrong version number",
                   refused({ url = "https://" .. real.address .. "/?secret" }))
    assert.equal("cannot connect to " .. raw.address .. ": timeout", -- it is silent
                 refused({ url = "https://" .. raw.address .. "/?secret",
                           connect_timeout_ms = 200 }))
  end)

  it("uses a kept connection again", function()
    local function number(options)
      options.server_name = "vault.example"
      options.url = tls.url
      return good(options).body:match("|(%d+)$")
    end
    local first = number({})
    assert.equal(first, number({ method = "POST", body = "b" }))
    -- but not one that showed another certificate, or trusts others
    assert.not_equal(first, number({ cert_file = tls.dir .. "/both.pem" }))
    assert.not_equal(first, number({ ssl_verify = false }))
  end)

  it("goes through unix sockets and to IPv6", function()
    assert.equal("|some.where|", good({ url = "http://some.where/", unix_socket = tls.socket })
                                   .body:match("^[^|]*|[^|]*|"))
    assert.equal("cannot connect to unix:/nowhere: No such file or directory",
                 refused({ url = "http://some.where/", unix_socket = "/nowhere" }))
    assert.equal("cannot connect to [::1]:1: Connection refused",
                 refused({ url = "http://[::1]:1/" }))
  end)

  it("does so for many requests at once", function()
    local clients, n = {}, modes.is_slow() and 80 or 300
    for i = 1, n do
      clients[i] = assert(fcgi.connect(w.unix))
      assert(clients[i]:send(fcgi.request(callouts.request({
        url = real.url .. "/delay?ms=100", timeout_ms = 20000,
      }))))
    end
    for i = 1, n do
      assert.equal("late\n", callouts.result(clients[i]:answer(1, 20)).response.body)
      clients[i]:close()
    end
  end)

  it("cannot do so where Lua cannot wait, and is told", function()
    local got = assert(fcgi.once(w.unix, { params = { HTTP_X_IN = "sort",
                                                      HTTP_X_URL = real.url .. "/" } }))
    assert.matches('^%["[^"]*attempt to yield[^"]*","[^"]*attempt to yield', got.body)
    assert.equal("hello\n", good({ url = real.url .. "/hello.txt" }).body)
  end)

  it("is let go when the client leaves", function()
    local before = w:open_files()
    for _ = 1, 20 do
      local client = assert(fcgi.connect(w.unix))
      assert(client:send(fcgi.request(callouts.request({
        url = real.url .. "/delay?ms=4000", timeout_ms = 20000,
      }))))
      net.sleep(0.01)
      client:close()
    end
    assert.is_true(net.wait_until(3, function()
      return w:open_files() <= before
    end))
    assert.equal("hello\n", good({ url = real.url .. "/hello.txt" }).body)
  end)
end)

describe("weir's end", function()
  local e, w, real

  before_each(function()
    e = env.new()
    real = upstream.nginx(e)
    w = callouts.weir(e)
    w:start()
  end)

  after_each(function()
    e:destroy()
  end)

  local function begin(n, ms)
    local clients = {}
    for i = 1, n do
      clients[i] = assert(fcgi.connect(w.unix))
      assert(clients[i]:send(fcgi.request(callouts.request({
        url = real.url .. "/delay?ms=" .. ms, timeout_ms = 20000,
      }, i % 4 == 0 and "timer" or nil))))
    end
    assert(net.wait_until(10, function()
      return #real:requests() > 0 or w:open_files() > n
    end))
    net.sleep(0.2)
    return clients
  end

  it("breaks off what is under way, and leaks nothing", function()
    begin(100, 10000)
    local begun = net.now()
    w:stop(signal.SIGTERM)
    assert.is_true(net.now() - begun < 3)
    e:check()
  end)

  it("comes after what is under way if it is graceful", function()
    local clients = begin(8, 700)
    w.proc:kill(signal.SIGQUIT)
    for i = 1, 8 do
      assert.equal("late\n", callouts.result(clients[i]:answer(1, 20)).response.body)
    end
    w:stop()
    e:check()
  end)
end)
