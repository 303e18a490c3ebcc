-- Where answers, clients and services are at the edge of what they may be: heads longer than a
-- record, clients that leave or do not read, answers without a body.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local IDLE_S = 2
local LONG_BYTES = 8000000 -- more than any socket takes; see YML
local HALF_BYTES = 230000 -- two are more than a socket takes, and less than waits for its reader

-- Without a body_filter: the service's length is the response's.
local TO_HEAD = [[
return { PRIORITY = 1, VERSION = "1.0.0",
         access = function() kong.service.request.set_method("HEAD") end }
]]
local TO_200 = [[
return { PRIORITY = 1, VERSION = "1.0.0",
         header_filter = function() kong.response.set_status(200) end }
]]
local SCHEMA = [[
return { name = "%s", fields = { { config = { type = "record", fields = {} } } } }
]]

-- What is beyond a plugin's means, but for this one: a failure of weir's own Lua half.
local BREAKS = [[
local Breaks = { PRIORITY = 1, VERSION = "1.0.0" }

function Breaks:body_filter()
  require("weir.respond").recover = error
  require("weir.wait").ctx.body_chunk = true
end

return Breaks
]]

local YML = [[
_format_version: "3.0"
services:
  - { name: service, url: "%s", routes: [
      { name: waits, hosts: [ waits ] }, { name: streams, hosts: [ streams ] },
      { name: buffers, hosts: [ buffers ] },
      { name: becomes-head, hosts: [ becomes-head ] }, { name: breaks, hosts: [ breaks ] } ] }
  - { name: not-modified, url: "%s", routes: [
      { name: not-modified, hosts: [ not-modified ] } ] }
  - { name: halves, url: "%s", routes: [ { name: halves, hosts: [ halves ] } ] }
routes:
  - { name: head, hosts: [ head ] }
  - { name: long, hosts: [ long ] }
  - { name: late, hosts: [ late ] }
plugins:
  - { name: pdk-run, route: waits, config: { access: 'require("weir.timer").sleep(0.5)' } }
  - { name: pdk-run, route: buffers, config: {
      access: 'kong.service.request.enable_buffering()' } }
  - { name: to-head, route: becomes-head }
  - { name: breaks, route: breaks }
  - { name: to-200, route: not-modified }
  - name: pdk-run
    route: head
    config:
      access: |
        for i = 1, 70 do
          kong.response.set_header("X-Long-" .. i, ("v"):rep(1000))
        end
        kong.response.exit(200, "the body")
  - { name: pdk-run, route: long, config: {
      access: 'kong.response.exit(200, ("x"):rep(8000000))' } }
  - { name: pdk-run, route: late, config: { access:
      'require("weir.timer").sleep(0.1) kong.response.exit(200, ("x"):rep(8000000))' } }
]]

describe("at the edges", function()
  local e, service, w
  local it = modes.wrap(it, function() return w end)
  local plain_it = modes.waiting(it)

  local function request(host, changes)
    changes = changes or {}
    changes.HTTP_HOST, changes.REQUEST_URI = host, changes.REQUEST_URI or "/hello.txt"
    return fcgi.request({ params = changes, keep = true })
  end

  local function ask(host, changes)
    changes = changes or {}
    changes.HTTP_HOST, changes.REQUEST_URI = host, changes.REQUEST_URI or "/hello.txt"
    return assert(fcgi.once(w.unix, { params = changes }))
  end

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    e:write("www/long.bin", ("x"):rep(LONG_BYTES))
    for name, handler in pairs({ ["to-head"] = TO_HEAD, ["to-200"] = TO_200, breaks = BREAKS }) do
      e:write("plugins/" .. name .. "/handler.lua", handler)
      e:write("plugins/" .. name .. "/schema.lua", SCHEMA:format(name))
    end
    local unchanged = upstream.raw(e, {
      ["*"] = "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n" })
    local halves = upstream.raw(e, {
      ["*"] = { "HTTP/1.1 200 OK\r\nContent-Length: " .. 2 * HALF_BYTES .. "\r\n\r\n",
                ("x"):rep(HALF_BYTES), 0.2, ("x"):rep(HALF_BYTES) } })
    w = weir.new(e, { yml = YML:format(service.url, unchanged.url, halves.url), conf = {
      workers = 1, plugins = "pdk-run,to-head,to-200,breaks", idle_timeout = IDLE_S .. "s",
      plugin_dir = env.srcdir .. "/spec/fixtures/plugins," .. e:path("plugins"),
    } })
    w:start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  it("a head that is longer than a record stays whole", function()
    local got = ask("head")
    assert.equal(200, got.status)
    for i = 1, 70 do
      assert.equal(("v"):rep(1000), got.headers["x-long-" .. i])
    end
    assert.equal("the body", got.body)
  end)

  plain_it("the idle timeout does not run while there is an answer to read", function()
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(request("buffers")))
    assert(c:answer())
    net.sleep(0.6 * IDLE_S)
    assert(c:send(request("long")))
    net.sleep(0.6 * IDLE_S)
    local got = assert(c:answer(1, 60))
    c:close()
    assert.equal(LONG_BYTES, #got.body)
  end)

  -- at once, in two pieces, the second of which comes when the first one has filled the socket, and
  -- with a service that waits to tell the rest
  for host, uri in pairs { late = "/", halves = "/", streams = "/long.bin" } do
    plain_it("a front that does not read an answer on is let go of: " .. host, function()
      local before = w:open_files()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(request(host, { REQUEST_URI = uri })))
      assert(net.wait_until(2, function() return w:open_files() > before end))
      assert(net.wait_until(4 * IDLE_S, function() return w:open_files() <= before end))
      c:close()
    end)
  end

  for host, uri in pairs { late = "/", streams = "/long.bin" } do
    plain_it("a front that reads slowly is not: " .. host, function()
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(request(host, { REQUEST_URI = uri })))
      for _ = 1, 5 do
        net.sleep(0.7 * IDLE_S)
        c.rest = c.rest .. assert(c.conn:recv(1)) -- less than makes room for more
      end
      assert.equal(LONG_BYTES, #assert(c:answer(1, 60)).body)
      c:close()
    end)
  end

  it("a service is not asked for a client that left while a plugin waited", function()
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(request("waits", { REQUEST_URI = "/left" })))
    net.sleep(0.2)
    c:close()
    net.sleep(0.6)
    assert.equal(200, ask("waits").status)
    for i, line in ipairs(service:requests()) do
      assert.is_nil(line:find("/left", 1, true), i)
    end
  end)

  it("HEAD of a response that is held back says no length that is not the body's", function()
    local got = ask("buffers", { REQUEST_METHOD = "HEAD" })
    assert.equal(200, got.status)
    assert.not_equal("0", got.headers["content-length"])
  end)

  it("a GET that becomes HEAD is answered without a body, and says so", function()
    local got = ask("becomes-head")
    assert.equal(200, got.status)
    assert.equal("", got.body)
    assert.not_equal("6", got.headers["content-length"])
  end)

  it("a response without a body that becomes one with a body has none, and says so", function()
    local got = ask("not-modified")
    assert.equal(200, got.status)
    assert.equal("", got.body)
    assert.not_equal("6", got.headers["content-length"])
  end)

  -- The last one: the worker is not to be trusted any more.
  it("a failure of weir's own breaks the answer off", function()
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(request("breaks")))
    local got, why = c:answer()
    c:close()
    assert.is_nil(got)
    assert.equal("closed", why)
    w:expect_log("a coroutine of weir itself failed", "any")
    w:expect_log("%[weir%]", "any")
  end)
end)
