-- Time: nodes whose clocks are wrong agree by the store's; a month is a month and
-- a year a year, with counts that live to their last second and a true Reset.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local net = require "lib.net"
local nodes = require "lib.nodes"
local proc = require "lib.proc"
local stores = require "lib.stores"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

-- AddressSanitizer and libfaketime do not bear each other: there weir's own clock stays right.
local CAN_MOVE_WEIR = env.mode ~= "asan"

-- Seconds since the epoch of a moment in UTC.
local function epoch(text)
  local year, month, day, hour, min, sec = text:match("(%d+)-(%d+)-(%d+) (%d+):(%d+):(%d+)")
  local y = year - (month + 0 <= 2 and 1 or 0)
  local era_days = 365 * y + math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400)
  local days = era_days + math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1 - 719468
  return days * 86400 + hour * 3600 + min * 60 + sec
end

-- What is left in each month and year of 5 at these moments, one request each; resets, if told,
-- of month and year.
local CALENDAR = {
  { "2027-01-01 00:00:30", month = 4, year = 4 },
  { "2027-01-30 12:00:00", month = 3, year = 3 },
  { "2027-01-31 23:00:00", month = 2, year = 2, month_s = 3600, year_s = 334 * 86400 + 3600 },
  { "2027-02-01 00:00:05", month = 4 },
  { "2027-12-01 00:00:05", month = 4 },
  { "2027-12-31 23:00:00", month = 3, year = 1, month_s = 3600, year_s = 3600 },
  { "2028-01-01 00:00:05", month = 4, year = 4 },
  { "2028-02-01 00:00:05", month = 4 },
  { "2028-02-29 23:00:00", month = 3, year = 3, month_s = 3600, year_s = 306 * 86400 + 3600 },
  { "2028-03-01 00:00:05", month = 4 },
}

describe("the calendar", function()
  local e, service, w

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
  end)

  teardown(function()
    e:destroy()
  end)

  local function start_weir(fields, conf, opts)
    conf.workers = 1
    w = weir.new(e, { name = "w" .. e:port(), conf = conf, yml = stores.yml(service.url, {
      { "/month", "rate-limiting", "month: 5, " .. fields },
      { "/year", "rate-limiting", "year: 5, " .. fields },
      { "/probe", "rate-limiting", "year: 1000, " .. fields },
    }) })
    return w:start(opts)
  end

  local function ask(path)
    local got = assert(fcgi.once(w.unix, { params = { REQUEST_URI = path, PATH_INFO = path } }))
    assert.equal(200, got.status)
    return tonumber(got.headers["ratelimit-remaining"]), tonumber(got.headers["ratelimit-reset"])
  end

  local function assert_calendar(move_to)
    for _, step in ipairs(CALENDAR) do
      move_to(epoch(step[1]) - os.time())
      for _, period in ipairs({ "month", "year" }) do
        if step[period] then
          local left, reset = ask("/" .. period)
          local what = step[1] .. ": " .. period
          assert.equal(step[period], left, what)
          local true_reset = step[period .. "_s"]
          if true_reset then
            assert.is_true(reset <= true_reset and reset > true_reset - 30, what .. " " .. reset)
          end
        end
      end
    end
  end

  it("is the one of the clock, policy local", function()
    if not CAN_MOVE_WEIR then
      return
    end
    local counters = e:path("run/counters")
    assert_calendar(function(seconds)
      if not w then
        start_weir("policy: local", { counter_file = counters }, { clock_off_s = seconds })
      else
        w:stop()
        w:start({ clock_off_s = seconds })
      end
    end)
    e:check()
    w:stop()
  end)

  it("is the one of Redis, policy redis", function()
    local store = stores.start(e, "redis", { appendonly = true })
    local server = store.server
    start_weir(stores.fields(store), {})
    w:expect_log("redis", "maybe") -- each step ends Redis, and somebody may ask it just then
    assert_calendar(function(seconds)
      server:stop()
      server.opts.env = {}
      proc.move_clock(server.opts.env, seconds)
      server:start()
      assert(net.wait_until(10, function()
        return ask("/probe")
      end), "weir does not come to know that Redis is back")
    end)
    e:check()
    w:stop()
    server:stop()
  end)
end)

-- Each other process is 0.7 seconds ahead.
local SKEW = [[
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ts)
{
    long rc = syscall(SYS_clock_gettime, id, ts);
    if (rc == 0 && id == CLOCK_REALTIME && getpid() % 2) {
        ts->tv_nsec += 700000000;
        ts->tv_sec += ts->tv_nsec / 1000000000;
        ts->tv_nsec %= 1000000000;
    }
    return (int)rc;
}
]]

describe("workers whose clocks differ", function()
  local e

  setup(function()
    e = env.new()
  end)

  teardown(function()
    e:destroy()
  end)

  it("let through what the limit says, and tell of no end that is too far", function()
    if not CAN_MOVE_WEIR then
      return
    end
    local service = upstream.nginx(e)
    local source, library = e:write("skew.c", SKEW), e:path("run/skew.so")
    local text, code = proc.run({ os.getenv("CC") or "cc", "-shared", "-fPIC", "-o", library,
                                  source })
    assert(code == 0, text)
    local w = weir.new(e, { conf = { workers = 4 }, yml = stores.yml(service.url, {
      { "/second", "rate-limiting", "second: 5, policy: local" },
    }) })
    w:start({ vars = { LD_PRELOAD = library } })
    local admitted, client = 0, env.client()
    local request = { params = { REQUEST_URI = "/second", REMOTE_ADDR = client } }
    local begun, asked = net.now(), 0
    while net.now() < begun + 3 do
      local got = assert(fcgi.once(w.unix, request))
      asked = asked + 1
      admitted = admitted + (got.status == 200 and 1 or 0)
      assert.equal("1", got.headers["ratelimit-reset"])
    end
    assert.is_true(admitted <= 5 * math.ceil(net.now() - begun + 1.7), admitted .. " of " .. asked)
    e:check()
    w:stop()
  end)
end)

for _, name in ipairs({ "redis", "postgres" }) do
  describe("nodes whose clocks are 30 seconds off, with " .. name .. ",", function()
    local e, n

    setup(function()
      e = env.new()
      local service = upstream.nginx(e)
      local store = stores.start(e, name)
      n = nodes.new(e, {
        conf = store.conf, front = false,
        yml = stores.yml(service.url, {
          { "/minute", "rate-limiting", "minute: 5, " .. stores.fields(store) },
        }),
        start_of = function(i)
          return CAN_MOVE_WEIR and { clock_off_s = ({ 0, 30, -30 })[i] } or {}
        end,
      })
      stores.migrate(store, n[1])
      n:start()
    end)

    teardown(function()
      if n then
        n:stop()
      end
      e:destroy()
    end)

    it("agree about what is left, and until when", function()
      env.stay_clear(60, 6)
      local source, params = env.client(), { REQUEST_URI = "/minute", PATH_INFO = "/minute" }
      local left, statuses = {}, {}
      for i = 1, 9 do
        local got = assert(n:ask((i - 1) % 3 + 1, source, params))
        left[i], statuses[i] = tonumber(got.headers["ratelimit-remaining"]), got.status
        local true_reset = 60 - os.time() % 60
        local reset = tonumber(got.headers["ratelimit-reset"])
        assert.is_true(math.abs(reset - true_reset) <= 2, reset .. " not " .. true_reset)
      end
      assert.same({ 4, 3, 2, 1, 0, 0, 0, 0, 0 }, left)
      assert.same({ 200, 200, 200, 200, 200, 429, 429, 429, 429 }, statuses)
      e:check()
    end)
  end)
end
