-- What a reload, an upgrade and a graceful stop owe to connections: those that
-- wait to be accepted are served, also when their listener goes away; those
-- that never ask anything keep nobody waiting.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local limits = require "lib.limits"
local net = require "lib.net"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local signal = require "posix.signal"
local stat = require "posix.sys.stat"

local WAITING = 50 -- more than a worker accepts in one turn

describe("in a drain", function()
  local e, service, w, second

  before_each(function()
    e = env.new()
    service = upstream.nginx(e)
    second = e:path("run/second.sock")
  end)

  after_each(function()
    local ok, err = pcall(e.check, e)
    e:destroy()
    assert(ok, err)
  end)

  local function start(conf)
    conf.workers = 1
    w = weir.new(e, { yml = limits.yml(service.url, "{ hour: 1000, policy: local }"), conf = conf })
    w:start()
  end

  -- Connections with a request each that the only worker, which is stopped, has not seen.
  local function wait_in_queue(address)
    local waiting = {}
    signal.kill(w:workers()[1], signal.SIGSTOP)
    for i = 1, WAITING do
      waiting[i] = assert(fcgi.connect(address))
      assert(waiting[i]:send(fcgi.request({})))
    end
    return waiting, w:workers()[1]
  end

  local function assert_all_answered(waiting)
    for i, c in ipairs(waiting) do
      local got, err = c:answer()
      assert(got, ("connection %d of %d: %s"):format(i, #waiting, tostring(err)))
      assert.equal(200, got.status)
      c:close()
    end
  end

  local function assert_gone(address, path)
    assert(net.wait_until(5, function()
      return not net.connect(address)
    end), address .. " is still there")
    assert.is_falsy(path and stat.stat(path))
  end

  local function start_with_second(address)
    start({ fastcgi_listen = "unix:" .. e:path("run/weir.sock") .. "," .. address })
  end

  it("a reload is done when the old generation takes no connections any more", function()
    start({})
    local old = w:workers()[1]
    signal.kill(old, signal.SIGSTOP)
    signal.kill(w.master, signal.SIGHUP)
    assert(net.wait_until(10, function()
      return #w:workers() == 2
    end))
    net.sleep(0.5)
    assert.equal(0, w:log_count("generation 2 serves"))
    signal.kill(old, signal.SIGCONT)
    assert(w:wait_log("generation 2 serves"))
  end)

  for _, kind in ipairs({ "unix", "TCP" }) do
    it("of a reload what waits at a " .. kind .. " listener that goes away is served", function()
      local address = kind == "unix" and "unix:" .. second or "127.0.0.1:" .. e:port()
      start_with_second(address)
      local waiting, old = wait_in_queue(address)
      w:write_conf({ workers = 1 })
      assert(w:reload())
      signal.kill(old, signal.SIGCONT)
      assert_all_answered(waiting)
      assert_gone(address, kind == "unix" and second)
      assert.equal(200, assert(fcgi.once(w.unix)).status)
      w:stop()
    end)
  end

  it("of an upgrade what waits at a listener that goes away is served", function()
    start_with_second("unix:" .. second)
    local waiting, old = wait_in_queue("unix:" .. second)
    w:write_conf({ workers = 1 })
    local before = w.master
    signal.kill(before, signal.SIGUSR2)
    assert(w:wait_log("took over from pid", 20))
    w.master = assert(tonumber(e:read("run/weir.pid"):match("%d+")))
    assert.is_not.equal(before, w.master)
    signal.kill(old, signal.SIGCONT)
    assert_all_answered(waiting)
    assert_gone("unix:" .. second, second)
    assert.equal(200, assert(fcgi.once(w.unix)).status)
    signal.kill(w.master, signal.SIGTERM)
    assert(net.wait_until(10, function()
      return #proc.belonging_to(w.conf_path) == 0
    end))
    w.proc = nil
  end)

  it("of a graceful stop what waits is served", function()
    start({})
    local waiting, old = wait_in_queue(w.unix)
    w.proc:kill(signal.SIGQUIT)
    net.sleep(0.3)
    signal.kill(old, signal.SIGCONT)
    assert_all_answered(waiting)
    assert.equal(0, w.proc:wait(10))
    w.proc = nil
  end)

  it("a connection that never asks anything keeps nobody waiting", function()
    start({ drain_timeout = "60s" })
    local silent, kept = assert(fcgi.connect(w.unix)), assert(fcgi.connect(w.unix))
    assert(kept:send(fcgi.request({ keep = true })))
    assert.equal(200, assert(kept:answer()).status)
    local begun = net.now()
    w.proc:kill(signal.SIGQUIT)
    assert.equal(0, w.proc:wait(20))
    assert.is_true(net.now() - begun < 15, "the drain took " .. net.now() - begun .. " s")
    silent:close()
    kept:close()
    w.proc = nil
  end)

  it("a connection whose request is on its way is served", function()
    start({ drain_timeout = "60s" })
    local late, slow = assert(fcgi.connect(w.unix)), assert(fcgi.connect(w.unix))
    net.sleep(0.2)
    w.proc:kill(signal.SIGQUIT)
    net.sleep(0.1)
    local bytes = fcgi.request({})
    assert(late:send(bytes))
    -- each piece grants another grace, all together they take longer than one
    for i = 1, 8 do
      assert(slow:send(bytes:sub(i, i)))
      net.sleep(0.2)
    end
    assert.equal(200, assert(late:answer()).status)
    assert(slow:send(bytes:sub(9)))
    assert.equal(200, assert(slow:answer()).status)
    late:close()
    slow:close()
    assert.equal(0, w.proc:wait(10))
    w.proc = nil
  end)
end)
