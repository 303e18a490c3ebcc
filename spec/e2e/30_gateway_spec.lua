-- weir as a gateway: what passes between a client and a service, both ways,
-- seen by a FastCGI client in front and a real nginx behind.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local YML = [[
_format_version: "3.0"
services:
  - name: service
    url: URL
    routes:
      - name: all
        paths: [ / ]
        strip_path: false
      - name: stripped
        paths: [ /strip ]
      - name: kept
        paths: [ /keep ]
        strip_path: false
      - name: host
        hosts: [ "kept.example", "*.kept.example" ]
        paths: [ / ]
        strip_path: false
        preserve_host: true
  - name: seen
    url: URL/seen
    routes:
      - name: methods
        methods: [ DELETE ]
        paths: [ /only-delete ]
  - name: streamed
    url: URL
    routes: [ { name: streamed, hosts: [ streamed ], paths: [ / ], request_buffering: false } ]
  - name: limited
    url: URL
    routes: [ { name: limited, hosts: [ limited ], paths: [ / ] } ]
    plugins: [ { name: rate-limiting, config: { year: 1 } } ]
  - name: deep
    url: URL/base/path
    routes:
      - name: deep
        paths: [ /deep ]
]]

local MB = 1024 * 1024

describe("the gateway", function()
  local e, service, w
  local plain_it = it
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    w = weir.new(e, { yml = YML:gsub("URL", service.url), conf = {
      workers = 1, client_body_buffer_size = 1.5 * modes.bytes(1 * MB),
    } }):start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local function ask(path, params, opts)
    opts = opts or {}
    opts.params = params or {}
    opts.params.REQUEST_URI = path
    opts.timeout = opts.timeout or 30
    return assert(fcgi.once(w.unix, opts))
  end

  describe("to the service", function()
    it("sends the path and the query as the route says", function()
      for path, seen in pairs({
        ["/strip/x?a=1&b=%20"] = "/x?a=1&b=%20", ["/strip"] = "/", ["/strip/"] = "/",
        ["/keep/x"] = "/keep/x", ["/deep/x?q"] = "/base/path/x?q", ["/deep"] = "/base/path",
      }) do
        local got = ask(path)
        local want = seen == "/" and "hello\n" or "GET " .. seen .. "\n"
        assert.equal(want, got.body)
      end
    end)

    it("matches methods", function()
      assert.equal("DELETE /seen\n", ask("/only-delete", { REQUEST_METHOD = "DELETE" }).body)
      assert.equal("GET /only-delete\n", ask("/only-delete").body)
    end)

    it("sends its own Host unless the route keeps the client's", function()
      local host = service.address:gsub("%p", "%%%0")
      assert.matches("\r\nHost: " .. host .. "\r\n", ask("/headers").body)
      local got = ask("/headers", { HTTP_HOST = "kept.example" })
      assert.matches("\r\nHost: kept.example\r\n", got.body)
      got = ask("/headers", { HTTP_HOST = "a.kept.example:8443" })
      assert.matches("\r\nHost: a.kept.example:8443\r\n", got.body)
    end)

    it("says who asked", function()
      local seen = ask("/headers", {
        REMOTE_ADDR = "192.0.2.7", HTTP_X_FORWARDED_FOR = "198.51.100.1",
        HTTP_X_FORWARDED_PROTO = "https", HTTP_HOST = "front:8080" }).body
      assert.matches("\r\nX%-Forwarded%-For: 198.51.100.1, 192.0.2.7\r\n", seen)
      assert.matches("\r\nX%-Real%-IP: 192.0.2.7\r\n", seen)
      assert.matches("\r\nX%-Forwarded%-Proto: http\r\n", seen) -- nobody trusts 192.0.2.7
      assert.matches("\r\nX%-Forwarded%-Host: front\r\n", seen)
      assert.matches("\r\nX%-Forwarded%-Path: /headers\r\n", seen)
      assert.matches("\r\nVia: 1.1 weir/", seen)
      assert.matches("\r\nX%-Kong%-Request%-Id: %x+\r\n", seen)
    end)

    it("says who asked whatever Connection names", function()
      local seen = ask("/headers", {
        REMOTE_ADDR = "192.0.2.7", HTTP_HOST = "192.0.2.1:8080",
        HTTP_X_FORWARDED_FOR = "198.51.100.1",
        HTTP_CONNECTION = "X-Forwarded-For, X-Real-IP, Via, X-Kong-Request-Id" }).body
      assert.matches("\r\nX%-Forwarded%-For: 192.0.2.7\r\n", seen)
      assert.matches("\r\nX%-Real%-IP: 192.0.2.7\r\n", seen)
      assert.matches("\r\nX%-Forwarded%-Host: 192.0.2.1\r\n", seen)
      assert.matches("\r\nVia: 1.1 weir/", seen)
      assert.matches("\r\nX%-Kong%-Request%-Id: %x+\r\n", seen)
    end)

    it("leaves hop-by-hop headers and traps behind", function()
      local seen = ask("/headers", {
        HTTP_CONNECTION = "keep-alive, X-Private", HTTP_X_PRIVATE = "1", HTTP_KEEP_ALIVE = "5",
        HTTP_TE = "trailers, deflate", HTTP_UPGRADE = "h2c", HTTP_PROXY = "http://evil/",
        HTTP_PROXY_CONNECTION = "close", HTTP_X_PLAIN = "kept",
      }).body:lower()
      assert.matches("\r\nx%-plain: kept\r\n", seen)
      for _, name in ipairs({ "x-private", "keep-alive", "upgrade", "proxy",
                              "proxy-connection" }) do
        assert.is_nil(seen:find("\r\n" .. name .. ":", 1, true), name)
      end
    end)

    it("sends a body with its length", function()
      local body = ("b"):rep(100000)
      local got = ask("/body-length", { REQUEST_METHOD = "POST", CONTENT_LENGTH = #body },
                      { body = body })
      assert.equal("100000 -\n", got.body)
    end)

    -- A body in two parts, with a pause between, for a host.
    local function send_slowly(host)
      local c = assert(fcgi.connect(w.unix))
      local list = fcgi.params({ REQUEST_METHOD = "POST", REQUEST_URI = "/body-length",
                                 HTTP_HOST = host, HTTP_TRANSFER_ENCODING = "chunked" })
      assert(c:send(fcgi.begin(1, 1, false) .. fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs(list)) ..
                    fcgi.record(fcgi.STDIN, 1, ("b"):rep(50000))))
      net.sleep(0.2)
      assert(c:send(fcgi.stream(fcgi.STDIN, 1, ("b"):rep(50000))))
      local body = assert(c:answer()).body
      c:close()
      return body
    end

    it("sends a body of unknown length in chunks, or waits for it", function()
      assert.equal("100000 chunked\n", send_slowly("streamed"))
      assert.equal("100000 -\n", send_slowly("buffered"))
    end)

    it("asks the service when the body is here", function()
      local c = assert(fcgi.connect(w.unix))
      local list = fcgi.params({ REQUEST_METHOD = "POST", REQUEST_URI = "/first-piece",
                                 CONTENT_LENGTH = 10 })
      assert(c:send(fcgi.begin(1, 1, false) .. fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs(list)) ..
                    fcgi.record(fcgi.STDIN, 1, "abc")))
      assert.is_nil((c:record(0.3))) -- it would have said how long the first piece was
      assert(c:send(fcgi.record(fcgi.STDIN, 1, "defghij") .. fcgi.record(fcgi.STDIN, 1, "")))
      assert.matches("\nall 10\n$", assert(c:answer(1)).body)
      c:close()
    end)

    it("lets go of a client that leaves before its body is here", function()
      local c = assert(fcgi.connect(w.unix))
      local list = fcgi.params({ REQUEST_METHOD = "POST", REQUEST_URI = "/", CONTENT_LENGTH = 10 })
      assert(c:send(fcgi.begin(1, 1, false) .. fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs(list)) ..
                    fcgi.record(fcgi.STDIN, 1, "abc")))
      net.sleep(0.1)
      c:close()
      assert.equal("hello\n", ask("/").body)
    end)

    it("sends a large body that nobody announced", function()
      local n = 2 * modes.bytes(1 * MB) -- more than is kept to learn the length
      local got = ask("/body-length", { REQUEST_METHOD = "POST" }, { body = ("b"):rep(n) })
      assert.equal(200, got.status)
      assert.equal(n .. " chunked\n", got.body)
    end)

    it("sends a body on while it is still coming", function()
      local c = assert(fcgi.connect(w.unix))
      local list = fcgi.params({ REQUEST_METHOD = "POST", REQUEST_URI = "/first-piece",
                                 HTTP_HOST = "streamed", CONTENT_LENGTH = 10 })
      assert(c:send(fcgi.begin(1, 1, false) .. fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs(list)) ..
                    fcgi.record(fcgi.STDIN, 1, "abc")))
      local seen = ""
      repeat
        local record = assert(c:record(5), "nothing came back while the body was open")
        seen = seen .. record.content
      until seen:find("first %d\n")
      assert(c:send(fcgi.record(fcgi.STDIN, 1, "defghij") .. fcgi.record(fcgi.STDIN, 1, "")))
      local got = assert(c:answer(1))
      c:close()
      assert.matches("all 10\n", got.raw)
    end)

    it("uses its connections again", function()
      local seen = {}
      for _ = 1, 20 do
        ask("/")
      end
      local lines = service:requests()
      local distinct = 0
      for i = #lines - 19, #lines do
        local connection = lines[i]:match("(%d+)$")
        distinct = distinct + (seen[connection] and 0 or 1)
        seen[connection] = true
      end
      assert.is_true(distinct <= 2, distinct .. " connections for 20 requests")
    end)
  end)

  describe("to the client", function()
    it("keeps the service's headers, and says what weir adds", function()
      local got = ask("/set-headers")
      assert.equal("ok\n", got.body)
      assert.equal("the-service/1", got.headers.server)
      assert.equal("kept", got.headers["x-plain"])
      local cookies = {}
      for _, header in ipairs(got.all) do
        if header[1]:lower() == "set-cookie" then
          cookies[#cookies + 1] = header[2]
        end
      end
      assert.same({ "a=1", "b=2" }, cookies)
      assert.matches("^1.0 before, 1.1 weir/", got.headers.via)
      assert.matches("^%d+$", got.headers["x-kong-upstream-latency"])
      assert.matches("^%d+$", got.headers["x-kong-proxy-latency"])
      assert.matches("^" .. ("%x"):rep(32) .. "$", got.headers["x-kong-request-id"])
    end)

    it("leaves hop-by-hop headers and commands to the web server behind", function()
      local got = ask("/set-headers")
      for _, name in ipairs({ "connection", "keep-alive", "transfer-encoding", "x-accel-redirect",
                              "x-sendfile" }) do
        assert.is_nil(got.headers[name], name)
      end
    end)

    it("says who answers when it answers itself", function()
      local params = { HTTP_HOST = "limited", REMOTE_ADDR = env.client() }
      ask("/", params)
      local got = ask("/", params)
      assert.equal(429, got.status)
      assert.matches("^weir/", got.headers.server)
      assert.matches("^%d+$", got.headers["x-kong-response-latency"])
      assert.equal(tostring(#got.body), got.headers["content-length"])
    end)

    it("keeps the length of a body when the service said it", function()
      local n = modes.bytes(300000)
      local got = ask("/bytes?n=" .. n)
      assert.equal(tostring(n), got.headers["content-length"])
      assert.equal(n, #got.body)
    end)

    it("passes a chunked body on without its chunks", function()
      local n = modes.bytes(300000)
      local got = ask("/bytes?n=" .. n .. "&chunked=1")
      assert.is_nil(got.headers["content-length"])
      assert.equal(n, #got.body)
      assert.equal(("0123456789abcdef"):rep(n / 16), got.body)
    end)

    it("passes pieces on as they come", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.request({ params = { REQUEST_URI = "/stream?n=3&ms=300" } })))
      local began, times, seen = net.now(), {}, ""
      while #times < 3 do
        local record = assert(c:record(5))
        seen = seen .. record.content
        for i = #times + 1, 3 do
          if seen:find("piece " .. i, 1, true) then
            times[i] = net.now() - began
          end
        end
      end
      c:close()
      assert.is_true(times[2] - times[1] > 0.15 and times[3] - times[2] > 0.15)
    end)

    it("answers HEAD without a body and with its length", function()
      local got = ask("/bytes?n=5000", { REQUEST_METHOD = "HEAD" })
      assert.equal(200, got.status)
      assert.equal("5000", got.headers["content-length"])
      assert.equal("", got.body)
    end)

    it("answers 204 and 304 without a body", function()
      for _, code in ipairs({ 204, 304 }) do
        local got = ask("/status?code=" .. code)
        assert.equal(code, got.status)
        assert.equal("", got.body)
        assert.equal("kept", got.headers["x-spec"])
      end
      assert.equal("hello\n", ask("/").body) -- the connection was not spoilt
    end)

    it("passes any status on", function()
      for _, code in ipairs({ 201, 301, 400, 404, 418, 500, 503 }) do
        assert.equal(code, ask("/status?code=" .. code).status)
      end
    end)
  end)

  plain_it("moves 100 MB up and down in little memory", function()
    local n = modes.bytes(100 * MB)
    n = n - n % 32768
    local file = assert(io.open(e:path("www/big.bin"), "wb"))
    file:seek("set", n - 1)
    file:write("\0")
    file:close()
    ask("/")
    local before = w:rss_kb()
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(fcgi.request({ params = { REQUEST_URI = "/files/big.bin" } })))
    local got, most, next_look = 0, before, 0
    repeat
      local record = assert(c:record(30))
      if record.kind == fcgi.STDOUT then
        got = got + #record.content
      end
      if got >= next_look then
        most = math.max(most, w:rss_kb())
        next_look = got + n / 12
      end
    until record.kind == fcgi.END
    c:close()
    assert.is_true(got > n and got < n + 2000)
    c = assert(fcgi.connect(w.unix))
    local list = fcgi.params({ REQUEST_METHOD = "POST", REQUEST_URI = "/body-length",
                               CONTENT_LENGTH = n })
    assert(c:send(fcgi.begin(1, 1, false) .. fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs(list))))
    local piece = fcgi.record(fcgi.STDIN, 1, ("u"):rep(32768))
    for i = 1, n / 32768 do
      assert(c:send(piece))
      if i % 256 == 0 then
        most = math.max(most, w:rss_kb())
      end
    end
    assert(c:send(fcgi.record(fcgi.STDIN, 1, "")))
    assert.equal(n .. " -\n", assert(c:answer(1, 60)).body)
    c:close()
    local bound = env.mode == "asan" and 65536 or 12288
    assert.is_true(most - before < bound, ("memory grew by %d KiB"):format(most - before))
  end)

  plain_it("does not read ahead of a client that does not read", function()
    local before = w:rss_kb()
    local n = modes.bytes(50000000)
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(fcgi.request({ params = { REQUEST_URI = "/bytes?n=" .. n } })))
    net.sleep(1)
    local bound = env.mode == "asan" and 65536 or 8192
    assert.is_true(w:rss_kb() - before < bound)
    assert.equal(n, #assert(c:answer(1, 120)).body)
    c:close()
  end)
end)
