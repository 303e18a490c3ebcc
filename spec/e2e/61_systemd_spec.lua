-- What weir tells systemd: the datagrams of sd_notify(3) on $NOTIFY_SOCKET, in the order
-- that Type=notify and a reload want them.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local limits = require "lib.limits"
local net = require "lib.net"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local poll = require "posix.poll"
local signal = require "posix.signal"
local socket = require "posix.sys.socket"
local stdlib = require "posix.stdlib"
local time = require "posix.time"
local unistd = require "posix.unistd"

describe("$NOTIFY_SOCKET", function()
  local e, w, fd

  setup(function()
    e = env.new()
    local path = e:path("notify.sock")
    fd = assert(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM, 0))
    assert(socket.bind(fd, { family = socket.AF_UNIX, path = path }))
    w = weir.new(e, { yml = limits.sample_yml(upstream.nginx(e).url) })
    stdlib.setenv("NOTIFY_SOCKET", path)
    stdlib.setenv("WATCHDOG_USEC", "200000")
    w:start()
    stdlib.setenv("NOTIFY_SOCKET", nil)
    stdlib.setenv("WATCHDOG_USEC", nil)
  end)

  teardown(function()
    unistd.close(fd)
    e:destroy()
  end)

  before_each(function()
    e:check()
  end)

  -- The next datagram that is not only a sign of life; nil if none comes.
  local function heard(wanted)
    return net.wait_until(5, function()
      if poll.rpoll(fd, 0) ~= 1 then
        return nil
      end
      local text = socket.recv(fd, 4096)
      local alive = text == "WATCHDOG=1"
      return alive == (wanted == "watchdog") and text or nil
    end)
  end

  local function now_us()
    local t = time.clock_gettime(time.CLOCK_MONOTONIC)
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3
  end

  it("hears of the start, with the master's process id", function()
    local text = heard()
    assert.truthy(text:find("^READY=1\n"), text)
    assert.truthy(text:find("\nMAINPID=" .. w.master .. "\n", 1, true), text)
  end)

  it("hears signs of life", function()
    assert.equal("WATCHDOG=1", heard("watchdog"))
    assert.equal("WATCHDOG=1", heard("watchdog"))
  end)

  it("hears of a reload, when it begins and when it is done", function()
    local before = now_us()
    assert.is_true(w:reload())
    local text = heard()
    local at = tonumber(text:match("^RELOADING=1\nMONOTONIC_USEC=(%d+)$"))
    assert.is_truthy(at, text)
    assert.is_true(at >= before and at <= now_us())
    assert.truthy(heard():find("^READY=1\n"))
  end)

  it("hears that a reload failed, and that weir is ready nevertheless", function()
    w:write_yml("services: [")
    w:expect_log("reload failed")
    assert.is_false(w:reload())
    assert.truthy(heard():find("^RELOADING=1\n"))
    local text = heard()
    assert.truthy(text:find("^READY=1\n"), text)
    assert.truthy(text:find("reload failed", 1, true), text)
  end)

  it("hears of the end", function()
    signal.kill(w.master, signal.SIGQUIT)
    assert.equal("STOPPING=1", heard())
  end)
end)
