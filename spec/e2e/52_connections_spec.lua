-- Many connections at once: idle ones cost little and disturb nobody, waiting
-- requests all get their answer. WEIR_TEST_BIG=1 takes 10,000 of each.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local limits = require "lib.limits"
local modes = require "lib.modes"
local net = require "lib.net"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local resource = require "posix.sys.resource"

local MANY = os.getenv("WEIR_TEST_BIG") and 10000 or modes.is_slow() and 300 or 1000
local FILES = MANY * 2 + 2000

describe("one worker", function()
  local e, service, w

  setup(function()
    local hard = resource.getrlimit(resource.RLIMIT_NOFILE).rlim_max
    if hard ~= -1 and hard < FILES then
      FILES = hard
    end
    resource.setrlimit(resource.RLIMIT_NOFILE, { rlim_cur = FILES, rlim_max = hard })
    e = env.new()
    service = upstream.nginx(e)
    w = weir.new(e, {
      yml = limits.yml(service.url),
      conf = { workers = 1, max_connections = MANY + 100, max_requests = MANY + 100,
               upstream_keepalive_pool_size = 64 },
    }):start({ files = FILES })
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local function serve(c, id)
    assert(c:send(fcgi.request({ id = id, keep = true })))
    local got = assert(c:answer(id))
    assert.equal(200, got.status)
  end

  it("keeps " .. MANY .. " idle connections", function()
    serve(assert(fcgi.connect(w.unix)), 1)
    local before = w:rss_kb()
    local idle = {}
    for i = 1, MANY do
      idle[i] = assert(fcgi.connect(w.unix))
      serve(idle[i], 1)
    end
    local grown = w:rss_kb() - before
    if env.mode ~= "asan" then
      local each = grown * 1024 / MANY
      assert.is_true(each <= 4096 + 2 * 1024 * 1024 / MANY, ("%d bytes each"):format(each))
    end
    for i = 1, MANY, math.floor(MANY / 50) do
      serve(idle[i], 2)
    end
    for i = 1, MANY do
      idle[i]:close()
    end
    assert(net.wait_until(5, function()
      return w:open_files() < 200
    end), "connections stay open")
  end)

  it("lets " .. MANY .. " requests wait for a slow service", function()
    local before = w:rss_kb()
    local waiting, per_connection = {}, 100
    local ms = math.max(3000, MANY / 2)
    for i = 1, MANY / per_connection do
      local c = assert(fcgi.connect(w.unix))
      waiting[i] = c
      for id = 1, per_connection do
        assert(c:send(fcgi.request({ id = id, keep = true,
                                     params = { REQUEST_URI = "/delay?ms=" .. ms } })))
      end
    end
    net.sleep(0.5)
    local grown = w:rss_kb() - before
    local other = assert(fcgi.connect(w.unix))
    serve(other, 1)
    other:close()
    for _, c in ipairs(waiting) do
      for id = 1, per_connection do
        assert.equal("late\n", assert(c:answer(id, 60)).body)
      end
      c:close()
    end
    if env.mode ~= "asan" then
      local each = grown * 1024 / MANY
      assert.is_true(each <= 24 * 1024 + 2 * 1024 * 1024 / MANY, ("%d bytes each"):format(each))
    end
  end)

  -- Hundredths of a second that the worker has run.
  local function cpu_ticks(pid)
    local user, system = assert(proc.read_file("/proc/" .. pid .. "/stat"))
      :match("%) %a" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
    return user + system
  end

  it("rests while it has no descriptor for those that wait, and serves them then", function()
    local worker = proc.children(w.master)[1]
    local limit = ("--nofile=%d:"):format(w:open_files() + 20) -- the soft one
    local as_worker = env.is_root and "setpriv --reuid www-data --regid www-data --clear-groups"
                      or "env"
    local told, code = proc.run({ "sh", "-c",
      ("exec %s prlimit --pid %d %s"):format(as_worker, worker, limit) })
    assert.equal(0, code, told)
    local held = {}
    for i = 1, 60 do
      held[i] = assert(fcgi.connect(w.unix))
    end
    net.sleep(0.3)
    local before = cpu_ticks(worker)
    net.sleep(1)
    local used = cpu_ticks(worker) - before
    for i = 1, 59 do
      held[i]:close()
    end
    serve(held[60], 1)
    held[60]:close()
    assert.is_true(used < 30, used .. " of 100 ticks")
    w:expect_log("cannot take a connection", "any")
  end)
end)
