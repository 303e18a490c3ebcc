-- Reload, upgrade and sudden death under load: requests go on, and the count
-- stays exact.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fronts = require "lib.fronts"
local http = require "lib.http"
local limits = require "lib.limits"
local load = require "lib.load"
local modes = require "lib.modes"
local net = require "lib.net"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local signal = require "posix.signal"

local SECONDS = tonumber(os.getenv("WEIR_SURVIVAL_SECONDS") or "6")
local PARALLEL = modes.is_slow() and 4 or 16
local LIMIT = modes.is_slow() and 50 or 1000

describe("under load, weir", function()
  local e, service, w, front, nginx

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
  end)

  teardown(function()
    e:destroy()
  end)

  before_each(function()
    w = weir.new(e, {
      name = "w" .. env.client():gsub("%.", "-"),
      socket = e:path("run/weir.sock"),
      yml = limits.yml(service.url, ("{ hour: %d, policy: local }"):format(LIMIT)),
      conf = { workers = 3, drain_timeout = "20s" },
    }):start()
    front = fronts.lighttpd(e, { sample = "lighttpd/responder.conf", weir = w })
    nginx = fronts.nginx(e, { sample = "nginx/responder.conf", weir = w })
  end)

  after_each(function()
    front:stop()
    nginx:stop()
    local ok, err = pcall(e.check, e)
    e.checks = {}
    pcall(w.stop, w)
    proc.sweep(w.conf_path) -- a new master is not our child
    assert(ok, err)
  end)

  -- Does act every pause seconds while lighttpd and nginx are asked by one client; both results.
  local function disturb(pause, act)
    env.stay_clear(3600, 60)
    local source = env.client()
    local opts = { parallel = PARALLEL, seconds = SECONDS, source = source }
    local one = load.start(e, front.address, opts)
    opts.keep = true
    local two = load.start(e, nginx.address, opts)
    local till = net.now() + SECONDS
    local times = 0
    while net.now() < till do
      act()
      times = times + 1
      net.sleep(pause)
    end
    return one(), two(), times, source
  end

  local function total(a, b, status)
    return (a.status[status] or 0) + (b.status[status] or 0)
  end

  local function assert_all_answered(a, b)
    for _, got in ipairs({ a, b }) do
      assert.equal(0, got.failed, got.text)
      assert.equal(got.sent, (got.status[200] or 0) + (got.status[429] or 0), got.text)
      assert.is_true(got.sent > 100, got.text)
    end
  end

  it("loses no request by SIGHUP every 200 ms", function()
    local a, b, times = disturb(0.2, function()
      signal.kill(w.master, signal.SIGHUP)
    end)
    assert.is_true(times > SECONDS * 2)
    assert_all_answered(a, b)
    assert.equal(LIMIT, total(a, b, 200), a.text .. b.text)
    assert.is_true(w:log_count("generation") >= 3)
  end)

  it("loses no request by SIGUSR2", function()
    local first = w.master
    local a, b = disturb(SECONDS / 3, function()
      local before = w.master
      signal.kill(w.master, signal.SIGUSR2)
      assert(net.wait_until(15, function()
        local pid = tonumber(e:read("run/weir.pid"):match("%d+"))
        w.master = pid ~= before and pid or w.master
        return pid ~= nil and pid ~= before and #w:workers() >= 3
      end), "no new master:\n" .. w:log())
    end)
    assert_all_answered(a, b)
    assert.equal(LIMIT, total(a, b, 200), a.text .. b.text)
    assert.is_not.equal(first, w.master)
    -- the old master has gone; the new one ends when it is asked
    assert(net.wait_until(25, function()
      return not w.proc:alive()
    end), "the old master is still there")
    signal.kill(w.master, signal.SIGTERM)
    assert(net.wait_until(10, function()
      return not proc.is_alive(w.master)
    end))
    w.proc = nil
  end)

  it("loses by kill -9 only what the killed worker had in its hands", function()
    local killed = 0
    local a, b, _, source = disturb(1, function()
      local workers = w:workers()
      if #workers > 0 then
        signal.kill(workers[math.random(#workers)], signal.SIGKILL)
        killed = killed + 1
      end
    end)
    local bad = 0
    for _, got in ipairs({ a, b }) do
      bad = bad + got.sent - (got.status[200] or 0) - (got.status[429] or 0)
      assert.is_true(got.sent > 100, got.text)
    end
    local in_hands = killed * PARALLEL * 2
    assert.is_true(bad <= in_hands, ("%d lost by %d kills\n%s%s"):format(
      bad, killed, a.text, b.text))
    -- an admitted request whose worker died may be asked again by its front: then it counts twice
    local admitted = total(a, b, 200)
    assert.is_true(admitted <= LIMIT and admitted >= LIMIT - in_hands, a.text .. b.text)
    local got = assert(http.request(front.address, { source = source }))
    assert.equal(429, got.status)
    assert.equal("0", got.headers["ratelimit-remaining"])
    w:expect_log("died by signal 9", "any")
    w:expect_log("it comes back in %d s", "maybe") -- it was killed in its first second,
    w:expect_log("cannot start: it died before it was ready", "maybe") -- or before
  end)

  it("ends gracefully: what is in flight is answered", function()
    local c = assert(http.connect(front.address, { source = env.client() }))
    assert(c.conn:send(http.head({ path = "/delay?ms=1000" })))
    net.sleep(0.3)
    w.proc:kill(signal.SIGQUIT)
    assert.equal("late\n", assert(c:response()).body)
    c:close()
    assert.equal(0, w.proc:wait(5))
    w.proc = nil
  end)
end)
