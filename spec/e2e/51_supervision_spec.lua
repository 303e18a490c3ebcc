-- The master as a supervisor: what its environment, a pause of the whole machine
-- or a stop in the middle of an upgrade must not do to it.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local limits = require "lib.limits"
local modes = require "lib.modes"
local net = require "lib.net"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local signal = require "posix.signal"

local it = modes.first_without_jit(it)

-- Runs what follows with SIGCHLD ignored and others blocked, as some that start services do.
local DEAF = [[
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGQUIT, signal.SIGALRM])
os.execv(sys.argv[1], sys.argv[1:])
]]

describe("the master", function()
  local e, service, w

  before_each(function()
    e = env.new()
    service = upstream.nginx(e)
  end)

  after_each(function()
    local ok, err = pcall(e.check, e)
    if w.proc then
      w:stop()
    else
      w:command("stop")
    end
    proc.sweep(w.conf_path)
    e:destroy()
    assert(ok, err)
  end)

  local function make(conf)
    w = weir.new(e, { yml = limits.sample_yml(service.url), conf = conf })
  end

  it("blames no worker when everything was stopped", function()
    make({ heartbeat_timeout = "2s" })
    w:start()
    local before = w:workers()
    local all = { w.master, unpack(before) }
    for _, number in ipairs({ signal.SIGSTOP, signal.SIGCONT }) do
      for _, pid in ipairs(all) do
        signal.kill(pid, number)
      end
      net.sleep(number == signal.SIGSTOP and 5 or 1)
    end
    assert.same(before, w:workers())
    assert.equal(200, assert(fcgi.once(w.unix)).status)
  end)

  it("hears of dead workers and stops, whatever signals it was started without", function()
    make()
    local vars = weir.mode_environment()
    local p = e:spawn({ "python3", "-c", DEAF, weir.bin, "start", "--foreground", "-c",
                        w.conf_path }, { env = vars })
    assert(w:wait_log("generation 1 serves", 20))
    w.master = p.pid
    local victim = w:workers()[1]
    net.sleep(1.1) -- one that lived for less comes back later
    w:expect_log("died by signal 9", 1)
    signal.kill(victim, signal.SIGKILL)
    assert(net.wait_until(5, function()
      local workers = w:workers()
      return #workers == 2 and workers[1] ~= victim and workers[2] ~= victim
    end), "no worker in its place")
    local _, code = w:command("quit")
    assert.equal(0, code)
    assert.equal(0, w:log_count("did not stop in time"))
    assert.equal(0, p:wait(1))
  end)

  it("pauses between workers that never get ready, however long they take", function()
    weir.write_plugin(e, "dying", ([[
      return { VERSION = "1.0.0", PRIORITY = 1, init_worker = function()
        if io.open("%s") then
          local ffi = require "ffi"
          ffi.cdef("int usleep(unsigned); int raise(int);")
          ffi.C.usleep(999999)
          ffi.C.usleep(200000)
          ffi.C.raise(9)
        end
      end }
    ]]):format(e:path("run/dying")))
    make({ workers = 1, plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) })
    w:start()
    e:write("run/dying", "")
    net.sleep(1.1)
    w:expect_log("died by signal 9", "any")
    w:expect_log("cannot start: it died before it was ready", "any")
    w:expect_log("did not get ready, it comes back in", "any")
    signal.kill(w:workers()[1], signal.SIGKILL)
    assert(w:wait_log("did not get ready, it comes back in 2 s", 20))
    os.remove(e:path("run/dying"))
    assert(net.wait_until(10, function()
      return fcgi.once(w.unix)
    end))
  end)

  it("names the plugin that keeps a worker from starting", function()
    local keys = { plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) }
    make(keys)
    w:start()
    weir.write_plugin(e, "stuck", [[
      return { VERSION = "1.0.0", PRIORITY = 1, init_worker = function() while true do end end }
    ]])
    w:write_yml(limits.sample_yml(service.url) .. "plugins:\n  - name: stuck\n")
    local why = "worker %d: not ready within 30 s; it was in %[stuck%] init_worker phase\n?$"
    w:expect_log("reload failed, .*" .. why, 1)
    local said, code = w:command("reload", { timeout = 60 })
    assert.equal(1, code, said)
    assert.matches(why, said)
    assert(net.wait_until(10, function()
      return #w:workers() == 2
    end), "those that could not start are left")
  end)

  it("lets a reload give way to an upgrade, which opens the new sockets", function()
    make()
    w:start()
    local address, unix = "127.0.0.1:" .. e:port(), e:path("run/new.sock")
    w:write_conf({ fastcgi_listen = w.unix .. "," .. address .. ",unix:" .. unix })
    signal.kill(w.master, signal.SIGHUP)
    signal.kill(w.master, signal.SIGUSR2)
    assert(w:wait_log("upgrade: took over from pid " .. w.master, 20))
    assert(net.wait_until(10, function()
      return not w.proc:alive()
    end), "the old master is still there")
    for _, where in ipairs({ w.unix, address, "unix:" .. unix }) do
      assert.equal(200, assert(fcgi.once(where)).status)
    end
    w.proc = nil
  end)

  it("that is starting is not taken for one that was killed", function()
    weir.write_plugin(e, "slow", ([[
      if io.open("%s") then
        local ffi = require "ffi"
        ffi.cdef("int usleep(unsigned);")
        for _ = 1, 3 do
          ffi.C.usleep(999999)
        end
      end
      return { VERSION = "1.0.0", PRIORITY = 1, access = function() end }
    ]]):format(e:path("run/slow")))
    make({ plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) })
    w:write_yml(limits.sample_yml(service.url) .. "plugins:\n  - name: slow\n")
    w:start()
    assert(w:reload())
    local killed = w.master
    w.proc:kill(signal.SIGKILL)
    assert(net.wait_until(10, function()
      return #proc.belonging_to(w.conf_path) == 0
    end), "workers outlive their master")
    e:write("run/slow", "")
    local start = w:command_beside("start")
    assert(net.wait_until(10, function()
      local pid = e:read("run/weir.pid"):match("%d+")
      return pid and tonumber(pid) ~= killed
    end))
    for _, verb in ipairs({ "reload", "status", "upgrade" }) do
      local text, code = w:command(verb)
      assert.equal(1, code, text)
      assert.matches("^weir: weir, pid %d+, does not serve yet", text)
    end
    assert.equal(0, start:wait(30))
    w.proc = nil
  end)

  it("takes a trial that never ends with it when it is killed", function()
    local keys = { plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) }
    make(keys)
    local p = e:spawn({ "python3", "-c", DEAF, weir.bin, "start", "--foreground", "-c",
                        w.conf_path }, { env = weir.mode_environment() })
    assert(w:wait_log("generation 1 serves", 20))
    weir.write_plugin(e, "endless", "while true do end")
    signal.kill(p.pid, signal.SIGHUP)
    assert(net.wait_until(10, function()
      return #proc.children(p.pid) == 3
    end))
    net.sleep(0.5) -- it asks for the signal
    p:kill(signal.SIGKILL)
    assert(net.wait_until(5, function()
      return #proc.belonging_to(w.conf_path) == 0
    end), "a process outlives its master")
  end)

  -- system() ignores SIGQUIT.
  local function start_deaf()
    weir.write_plugin(e, "deaf", [[
      return { VERSION = "1.0.0", PRIORITY = 1, access = function() os.execute("sleep 1") end }
    ]])
    make({ workers = 1, plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) })
    w:write_yml(limits.sample_yml(service.url) .. "plugins:\n  - name: deaf\n")
    w:start()
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(fcgi.request({})))
    net.sleep(0.3)
    return c
  end

  it("is obeyed by a worker that hears no signal just then", function()
    local c = start_deaf()
    local before = w:workers()[1]
    assert.equal(0, select(2, w:command("reload")))
    assert.equal(200, assert(c:answer()).status)
    assert(net.wait_until(4, function()
      return not proc.is_alive(before)
    end), "it goes on beside the new one")
    c:close()
  end)

  it("takes a worker with it that hears no signal just then", function()
    local c = start_deaf()
    w.proc:kill(signal.SIGKILL)
    assert.equal(200, assert(c:answer()).status)
    assert(net.wait_until(5, function()
      return #proc.belonging_to(w.conf_path) == 0
    end), "a process outlives its master")
    c:close()
    w.proc = nil
  end)

  it("ends a new binary that it has started, when it is stopped itself", function()
    e:write("plugins/vaults/slow/schema.lua", [[
      return { name = "slow", fields = require("weir.schema.vault").fields({}) }
    ]])
    e:write("plugins/vaults/slow/init.lua", [[
      return { VERSION = "1.0.0", get = function()
        require("weir.timer").sleep(3)
        return "1"
      end }
    ]])
    local keys = { plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) }
    make(keys)
    for _, verb in ipairs({ "stop", "quit" }) do
      w:write_conf(keys)
      w:start()
      w:write_conf({ plugin_dir = keys.plugin_dir, workers = "{vault://slow/workers}" })
      signal.kill(w.master, signal.SIGUSR2)
      assert(w:wait_log("upgrade: .* is starting", 5))
      net.sleep(0.5)
      local _, code = w:command(verb)
      assert.equal(0, code)
      assert.equal(0, w.proc:wait(1))
      w.proc = nil
      assert.same({}, proc.belonging_to(w.conf_path))
      assert.equal("", e:read("run/weir.pid"))
      e:check() -- a log of its own for each
    end
  end)
end)
