-- The FastCGI server, record by record: what web servers send (each must of
-- their manners), and what the protocol allows though nobody sends it.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local limits = require "lib.limits"
local modes = require "lib.modes"
local net = require "lib.net"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local YML = [[
_format_version: "3.0"
services:
  - name: service
    url: %s
    routes: [ { name: all, paths: [ / ] } ]
    plugins: [ { name: rate-limiting, config: { hour: 100, policy: local } } ]
  - name: slow
    url: %s
    routes: [ { name: slow, hosts: [ slow ], paths: [ / ] } ]
]]

-- What an authorizer call and its answer need beyond the usual.
local function authorize(address, params)
  return fcgi.once(address, { role = fcgi.AUTHORIZER, body = false, params = params })
end

describe("FastCGI", function()
  local e, service, w, tcp
  local it = modes.wrap(it, function() return w end)

  -- A request's parameters for a client that nobody has counted yet.
  local function fresh(changes)
    changes = changes or {}
    changes.REMOTE_ADDR = changes.REMOTE_ADDR or env.client()
    return changes
  end

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    local slow = upstream.raw(e, {
      ["*"] = { 1.5, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nslow\n" } }, 1)
    tcp = "127.0.0.1:" .. e:port()
    w = weir.new(e, {
      yml = YML:format(service.url, slow.url),
      conf = { fastcgi_listen = "unix:" .. e:path("run/weir.sock") .. "," .. tcp, workers = 1 },
    })
    w:start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  describe("Responder", function()
    it("answers with Status as the first header", function()
      local got = assert(fcgi.once(w.unix, { params = fresh() }))
      assert.equal("Status", got.all[1][1])
      assert.equal(200, got.status)
      assert.equal(fcgi.COMPLETE, got.protocol_status)
      assert.equal(0, got.app_status)
      assert.is_true(got.stdout_closed)
      assert.equal("", got.stderr)
    end)

    it("sends a small response in one STDOUT record", function()
      local c, params = assert(fcgi.connect(w.unix)), fresh()
      local got
      for _ = 1, 101 do
        assert(c:send(fcgi.request({ params = params, keep = true })))
        got = assert(c:answer())
      end
      c:close()
      assert.equal(429, got.status)
      assert.same({ #got.raw, 0 }, got.sizes)
    end)

    it("closes when it is not asked to keep the connection", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.request({ params = fresh() })))
      assert(c:answer())
      assert.is_true(c.conn:wait_closed(5))
      c:close()
    end)

    it("serves 25 requests on a kept connection", function()
      local c, params = assert(fcgi.connect(w.unix)), fresh()
      for i = 1, 25 do
        assert(c:send(fcgi.request({ params = params, keep = true })))
        local got = assert(c:answer())
        assert.equal(200, got.status)
        assert.equal(tostring(100 - i), got.headers["ratelimit-remaining"])
      end
      c:close()
    end)

    it("takes a request that begins again before it is whole, as lighttpd's may, once", function()
      local client = env.client()
      local fresh_one = fcgi.request({ params = fresh({ REMOTE_ADDR = client }), body = false })
      local left_over = fcgi.request({ params = fresh({ REMOTE_ADDR = client }) })
      for left = 99, 98, -1 do
        local c = assert(fcgi.connect(w.unix))
        assert(c:send(fresh_one .. left_over))
        local got = assert(c:answer())
        assert.equal(200, got.status)
        assert.equal(tostring(left), got.headers["ratelimit-remaining"])
        assert.is_true(c.conn:wait_closed(5))
        c:close()
      end
    end)

    it("takes parameters in four records", function()
      local list = fcgi.params(fresh({ HTTP_X_LONG = ("v"):rep(300) }))
      local size = math.ceil(#fcgi.pairs(list) / 4)
      local got = assert(fcgi.once(w.unix, { list = list, split = size }))
      assert.equal(200, got.status)
    end)

    it("takes parameters in records of one byte", function()
      local got = assert(fcgi.once(w.unix, { params = fresh(), split = 1 }))
      assert.equal(200, got.status)
    end)

    it("takes any padding", function()
      for _, padding in ipairs({ 1, 2, 3, 4, 5, 6, 7, 8, 255 }) do
        local got = assert(fcgi.once(w.unix, { params = fresh(), padding = padding }))
        assert.equal(200, got.status)
      end
    end)

    it("takes bytes one by one", function()
      local c = assert(fcgi.connect(w.unix))
      for byte in fcgi.request({ params = fresh(), keep = true, padding = 3 }):gmatch(".") do
        assert(c:send(byte))
      end
      assert.equal(200, assert(c:answer()).status)
      c:close()
    end)

    it("takes records of 65,535 bytes with 255 of padding", function()
      local body = ("0123456789abcde"):rep(2 * 65535 / 15)
      local got = assert(fcgi.once(w.unix, {
        params = fresh({ REQUEST_METHOD = "POST", REQUEST_URI = "/echo-body",
                         CONTENT_LENGTH = #body }),
        body = body, padding = 255, timeout = 30 }))
      assert.equal(200, got.status)
      assert.is_true(got.body == body)
    end)

    it("joins repeated headers, and takes the last of other parameters", function()
      local got = assert(fcgi.once(w.unix, {
        list = fcgi.params(fresh({ REQUEST_URI = "/nowhere" }), {
          { "REQUEST_URI", "/headers" }, { "HTTP_X_TWICE", "a" }, { "HTTP_X_TWICE", "b" },
          { "HTTP_COOKIE", "c=1" }, { "HTTP_COOKIE", "d=2" } }) }))
      assert.equal(200, got.status)
      assert.matches("[Xx]%-[Tt]wice: a, b\r\n", got.body)
      assert.matches("[Cc]ookie: c=1; d=2\r\n", got.body)
    end)

    it("takes a body of which nobody said how long it is", function()
      local got = assert(fcgi.once(w.unix, {
        params = fresh({ REQUEST_METHOD = "POST", REQUEST_URI = "/echo-body",
                         CONTENT_LENGTH = "" }),
        body = "some bytes" }))
      assert.equal(200, got.status)
      assert.equal("some bytes", got.body)
    end)

    it("answers over TCP without the delays of small packets", function()
      local c, params = assert(fcgi.connect(tcp)), fresh()
      local began = net.now()
      for _ = 1, 100 do
        assert(c:send(fcgi.request({ params = params, keep = true })))
        assert(c:answer())
      end
      -- a delayed acknowledgement in each would make it 4 s
      assert.is_true(net.now() - began < (modes.is_slow() and 3.5 or 2))
      c:close()
    end)
  end)

  describe("Authorizer", function()
    it("does not wait for STDIN", function()
      local got = assert(authorize(w.unix, fresh()))
      assert.equal("Status", got.all[1][1])
      assert.equal(200, got.status)
      assert.equal("99", got.headers["ratelimit-remaining"])
      assert.equal("", got.body)
    end)

    it("does not wait for the body that CONTENT_LENGTH announces", function()
      local got = assert(fcgi.once(w.unix, {
        body = false,
        params = fresh({ WEIR_ROLE = "authorizer", REQUEST_METHOD = "POST",
                         CONTENT_LENGTH = 10 }) }))
      assert.equal(200, got.status)
      assert.equal("99", got.headers["ratelimit-remaining"])
    end)

    it("takes an empty STDIN", function()
      local got = assert(fcgi.once(w.unix, { role = fcgi.AUTHORIZER, params = fresh() }))
      assert.equal(200, got.status)
    end)

    it("never asks the service", function()
      for _ = 1, 3 do
        assert(authorize(w.unix, fresh({ REQUEST_URI = "/for-its-eyes" })))
      end
      -- who is asked behind it finds its line in the log behind theirs
      assert(fcgi.once(w.unix, { params = fresh({ REQUEST_URI = "/last" }) }))
      assert(net.wait_until(5, function()
        return table.concat(service:requests(), "\n"):find("/last", 1, true)
      end))
      assert.is_nil(table.concat(service:requests(), "\n"):find("/for-its-eyes", 1, true))
    end)

    it("shows the limits as variables too, but not in a refusal", function()
      local params = fresh({ HTTP_HOST = "localhost" })
      local got
      for _ = 1, 101 do
        got = assert(authorize(w.unix, params))
        if got.status == 200 then
          assert.equal(got.headers["ratelimit-remaining"],
                       got.headers["variable-weir_header_ratelimit_remaining"])
        end
      end
      assert.equal(429, got.status)
      assert.equal(limits.DENIED, got.body)
      assert.is_not_nil(got.headers["retry-after"])
      assert.is_nil(got.raw:find("Variable-", 1, true))
      -- mod_authnz_fcgi takes the body only from the record of the head
      assert.same({ #got.raw, 0 }, got.sizes)
    end)

    it("shows variables to nobody who would only pass them on", function()
      local params = fresh({ WEIR_DENY_STYLE = "variable" }) -- mod_fcgid
      local got = assert(authorize(w.unix, params))
      assert.equal("99", got.headers["ratelimit-remaining"])
      local variables = {}
      for name in got.raw:gmatch("Variable%-([^:]+):") do
        variables[#variables + 1] = name
      end
      assert.same({ "WEIR_AUTHORIZED" }, variables)
      params = fresh({ WEIR_ROLE = "authorizer" }) -- nginx
      got = assert(fcgi.once(w.unix, { body = false, params = params }))
      assert.equal("99", got.headers["ratelimit-remaining"])
      assert.is_nil(got.raw:find("Variable-", 1, true))
    end)

    it("denies nginx and mod_fcgid in words that they know", function()
      local params = fresh()
      for _ = 1, 100 do
        assert(authorize(w.unix, params))
      end
      params.WEIR_DENY_STYLE = "nginx"
      local got = assert(authorize(w.unix, params))
      assert.equal(403, got.status)
      assert.equal("429", got.headers["x-weir-status"])
      assert.is_not_nil(got.headers["retry-after"])
      params.WEIR_DENY_STYLE = "variable"
      got = assert(authorize(w.unix, params))
      assert.equal(200, got.status)
      assert.equal("429", got.headers["variable-weir_status"])
    end)

    it("counts nginx's second call for a request once", function()
      local params = fresh({ WEIR_ROLE = "authorizer", WEIR_REQUEST_ID = "id" .. env.client() })
      for _ = 1, 2 do
        local got = assert(fcgi.once(w.unix, { body = false, params = params }))
        assert.equal(200, got.status)
        assert.equal("99", got.headers["ratelimit-remaining"])
      end
      params.WEIR_REQUEST_ID = "id" .. env.client()
      local got = assert(fcgi.once(w.unix, { body = false, params = params }))
      assert.equal("98", got.headers["ratelimit-remaining"])
    end)

    it("counts Apache's second call for a request once", function()
      local params = fresh()
      local got = assert(authorize(w.unix, params))
      assert.equal("99", got.headers["ratelimit-remaining"])
      local again = { REMOTE_ADDR = params.REMOTE_ADDR, SERVER_PROTOCOL = "INCLUDED" }
      for _, header in ipairs(got.all) do -- Apache makes variables of them
        local name = header[1]:match("^Variable%-(.+)$")
        if name then
          again[name] = header[2]
        end
      end
      got = assert(authorize(w.unix, again))
      assert.equal(200, got.status)
      got = assert(authorize(w.unix, params))
      assert.equal("98", got.headers["ratelimit-remaining"])
    end)

    it("counts whoever only claims to be Apache's second call", function()
      local params = fresh({ SERVER_PROTOCOL = "INCLUDED" })
      for remaining = 99, 98, -1 do
        local got = assert(authorize(w.unix, params))
        assert.equal(tostring(remaining), got.headers["ratelimit-remaining"])
      end
    end)
  end)

  describe("management", function()
    it("answers FCGI_GET_VALUES honestly", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.record(fcgi.GET_VALUES, 0, fcgi.pairs({
        { "FCGI_MPXS_CONNS", "" }, { "FCGI_MAX_CONNS", "" }, { "FCGI_MAX_REQS", "" },
        { "FCGI_OTHER", "" } }))))
      local got = assert(c:record())
      assert.equal(fcgi.GET_VALUES_RESULT, got.kind)
      assert.equal(0, got.id)
      local values = fcgi.unpairs(got.content)
      assert.equal("1", values.FCGI_MPXS_CONNS)
      assert.matches("^%d+$", values.FCGI_MAX_CONNS)
      assert.matches("^%d+$", values.FCGI_MAX_REQS)
      assert.is_nil(values.FCGI_OTHER)
      c:close()
    end)

    it("answers FCGI_UNKNOWN_TYPE to a type that it does not know", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.record(77, 0, "whatever")))
      local got = assert(c:record())
      assert.equal(fcgi.UNKNOWN_TYPE, got.kind)
      assert.equal(77, got.content:byte(1))
      assert(c:send(fcgi.request({ params = fresh(), keep = true })))
      assert.equal(200, assert(c:answer()).status)
      c:close()
    end)

    it("answers a role that it does not play with a real response", function()
      for _, role in ipairs({ fcgi.FILTER, 4, 0, 65535 }) do
        local got = assert(fcgi.once(w.unix, { role = role, params = fresh() }))
        assert.equal(500, got.status)
        assert.equal(fcgi.UNKNOWN_ROLE, got.protocol_status)
      end
      w:expect_log("role", 4)
    end)
  end)

  describe("many requests on one connection", function()
    it("takes interleaved records", function()
      local c, one, two = assert(fcgi.connect(w.unix)), fresh(), fresh()
      local a, b = fcgi.pairs(fcgi.params(one)), fcgi.pairs(fcgi.params(two))
      assert(c:send(fcgi.begin(7, 1, true) .. fcgi.begin(300, 1, true)))
      for at = 1, math.max(#a, #b), 20 do
        for id, text in pairs({ [7] = a, [300] = b }) do
          local piece = text:sub(at, at + 19)
          if piece ~= "" then
            assert(c:send(fcgi.record(fcgi.PARAMS, id, piece)))
          end
        end
      end
      for _, id in ipairs({ 300, 7 }) do
        assert(c:send(fcgi.record(fcgi.PARAMS, id, "") .. fcgi.record(fcgi.STDIN, id, "")))
      end
      assert.equal(200, assert(c:answer(7)).status)
      assert.equal(200, assert(c:answer(300)).status)
      c:close()
    end)

    it("answers a fast one before a slow one", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.request({ id = 1, keep = true, params = fresh({
        REQUEST_URI = "/delay?ms=300", QUERY_STRING = "ms=300" }) })))
      assert(c:send(fcgi.request({ id = 2, keep = true, params = fresh() })))
      local order = {}
      while #order < 2 do
        local record = assert(c:record())
        if record.kind == fcgi.END then
          order[#order + 1] = record.id
        end
      end
      assert.same({ 2, 1 }, order)
      c:close()
    end)

    it("has 200 in flight at once", function()
      local c = assert(fcgi.connect(w.unix))
      for id = 1, 200 do
        assert(c:send(fcgi.request({ id = id, keep = true, params = fresh({
          REQUEST_URI = "/delay?ms=100" }) })))
      end
      for id = 1, 200 do
        assert.equal("late\n", assert(c:answer(id, 30)).body)
      end
      c:close()
    end)

    it("lets an upload that stands still wait alone", function()
      local c = assert(fcgi.connect(w.unix))
      local list = fcgi.params(fresh({ REQUEST_METHOD = "POST", REQUEST_URI = "/echo-body",
                                       CONTENT_LENGTH = 6 }))
      assert(c:send(fcgi.begin(1, 1, true) .. fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs(list)) ..
                    fcgi.record(fcgi.STDIN, 1, "abc")))
      for _ = 1, 5 do
        assert(c:send(fcgi.request({ id = 2, keep = true, params = fresh() })))
        assert.equal(200, assert(c:answer(2)).status)
      end
      assert(c:send(fcgi.record(fcgi.STDIN, 1, "def") .. fcgi.record(fcgi.STDIN, 1, "")))
      assert.equal("abcdef", assert(c:answer(1)).body)
      c:close()
    end)

    it("lets an upload to a slow service wait alone", function()
      local c = assert(fcgi.connect(w.unix))
      local list = fcgi.params(fresh({ REQUEST_METHOD = "POST", HTTP_HOST = "slow",
                                       CONTENT_LENGTH = 800000 }))
      assert(c:send(fcgi.begin(1, 1, true) .. fcgi.stream(fcgi.PARAMS, 1, fcgi.pairs(list))))
      assert(c:send(fcgi.stream(fcgi.STDIN, 1, ("x"):rep(800000))))
      assert(c:send(fcgi.request({ id = 2, keep = true, params = fresh() })))
      assert.equal(200, assert(c:answer(2, 1)).status)
      assert.equal("slow\n", assert(c:answer(1)).body)
      c:close()
    end)

    it("keeps neighbours of a reader that is slow on another connection", function()
      local slow = assert(fcgi.connect(w.unix))
      local n = modes.bytes(20000000)
      assert(slow:send(fcgi.request({ params = fresh({ REQUEST_URI = "/bytes?n=" .. n }) })))
      net.sleep(0.3)
      for _ = 1, 10 do
        local began = net.now()
        assert.equal(200, assert(fcgi.once(w.unix, { params = fresh() })).status)
        assert.is_true(net.now() - began < 1)
      end
      local got = assert(slow:answer(1, 60))
      assert.equal(n, #got.body)
      slow:close()
    end)

    it("forgets an aborted request", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.request({ id = 1, keep = true, params = fresh({
        REQUEST_URI = "/delay?ms=3000" }) })))
      net.sleep(0.1)
      local began = net.now()
      assert(c:send(fcgi.record(fcgi.ABORT, 1)))
      assert(c:answer(1))
      assert.is_true(net.now() - began < 2)
      assert(c:send(fcgi.request({ id = 1, keep = true, params = fresh() })))
      assert.equal(200, assert(c:answer(1)).status)
      c:close()
    end)

    it("forgets a request that is aborted before its parameters end", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.begin(1, 1, true) .. fcgi.record(fcgi.PARAMS, 1, "\5")))
      assert(c:send(fcgi.record(fcgi.ABORT, 1)))
      assert(c:answer(1))
      assert(c:send(fcgi.request({ id = 2, keep = true, params = fresh() })))
      assert.equal(200, assert(c:answer(2)).status)
      c:close()
    end)

    it("ignores records of requests that it does not know", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.record(fcgi.STDIN, 9, "old") .. fcgi.record(fcgi.PARAMS, 9, "old") ..
                    fcgi.record(fcgi.ABORT, 9)))
      assert(c:send(fcgi.request({ id = 1, keep = true, params = fresh() })))
      assert.equal(200, assert(c:answer(1)).status)
      c:close()
    end)
  end)

  describe("a web server that goes away", function()
    it("in the middle of a record", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.request({ params = fresh() }):sub(1, 100)))
      c:close()
    end)

    it("before it has read the answer", function()
      for _ = 1, 5 do
        local c = assert(fcgi.connect(tcp))
        assert(c:send(fcgi.request({ params = fresh({ REQUEST_URI = "/bytes?n=1000000" }) })))
        assert(c:record())
        c:reset()
      end
      assert.equal(200, assert(fcgi.once(w.unix, { params = fresh() })).status)
    end)

    it("as soon as it has an authorizer's headers", function()
      for _ = 1, 20 do
        local c = assert(fcgi.connect(tcp))
        assert(c:send(fcgi.request({ role = fcgi.AUTHORIZER, body = false, params = fresh() })))
        assert(c.conn:recv(5, 20))
        c:reset()
      end
      assert.equal(200, assert(fcgi.once(tcp, { params = fresh() })).status)
    end)

    it("while the service works, and takes the work with it", function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.request({ params = fresh({ REQUEST_URI = "/delay?ms=60000" }) })))
      net.sleep(0.1)
      local before = w:open_files()
      c:close()
      assert(net.wait_until(3, function()
        return w:open_files() <= before - 2 -- the connection, and that to the service
      end), "the connection to the service is still open")
    end)
  end)

  it("closes a connection that does not speak FastCGI", function()
    local other_version = "\2\1\0\1\0\8\0\0" .. ("\0"):rep(8)
    for _, bytes in ipairs({ "GET / HTTP/1.1\r\nHost: x\r\n\r\n", other_version,
                             ("\255"):rep(64) }) do
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(bytes))
      assert.is_true(c.conn:wait_closed(5))
      c:close()
    end
    w:expect_log("fastcgi: .*closing the connection", 3)
  end)
end)
