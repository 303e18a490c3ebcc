-- sync_rate: three weirs that decide by themselves and exchange what they have
-- counted, by Redis, PostgreSQL and SQLite; a Redis that goes and comes back empty.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local signal = require "posix.signal"
local env = require "lib.env"
local load = require "lib.load"
local modes = require "lib.modes"
local net = require "lib.net"
local nodes = require "lib.nodes"
local stores = require "lib.stores"
local upstream = require "lib.upstream"

local SYNC_S = 0.1
local LIMIT = modes.is_slow() and 60 or 300

local function windows(store, kind)
  return ("limit: [ %d ], window_size: [ 3600 ], window_type: %s, disable_penalty: true, "
          .. "identifier: ip, sync_rate: %g, %s"):format(
    LIMIT, kind, SYNC_S, stores.fields(store, "strategy", store.redis and "timeout: 300"))
end

-- The exchange is the same for all of them.
local NAMES = env.mode == "plain" and { "redis", "postgres", "sqlite" } or { "redis" }

for _, name in ipairs(NAMES) do
  describe("three nodes that exchange by " .. name, function()
    local e, store, n

    setup(function()
      e = env.new()
      local service = upstream.nginx(e)
      store = stores.start(e, name)
      n = nodes.new(e, {
        conf = store.conf,
        yml = stores.yml(service.url, {
          { "/fixed", "rate-limiting-advanced", windows(store, "fixed") },
          { "/sliding", "rate-limiting-advanced", windows(store, "sliding") },
        }),
      })
      stores.migrate(store, n[1])
      n:start()
      stores.stay_in_hour(60)
    end)

    teardown(function()
      if n then
        n:stop()
      end
      e:destroy()
    end)

    after_each(function()
      e:check()
    end)

    -- Asks node i so often; how much is left at last, and how many were let through.
    local function ask(i, source, path, times)
      local left, admitted = nil, 0
      for _ = 1, times do
        local got = assert(n:ask(i, source, { REQUEST_URI = path, PATH_INFO = path }))
        left = tonumber(got.headers["ratelimit-remaining"])
        admitted = admitted + (got.status == 200 and 1 or 0)
      end
      return left, admitted
    end

    -- Until node i knows that so much is left: each request of it asks, and counts one.
    local function assert_learns(i, source, path, left)
      local got
      assert(net.wait_until(10, function()
        got = ask(i, source, path, 1)
        left = left - 1
        net.sleep(SYNC_S)
        return got == left
      end), ("node %d: %s left, not %d"):format(i, tostring(got), left))
      return left
    end

    for _, path in ipairs({ "/fixed", "/sliding" }) do
      it("learn of each other what " .. path .. " has left", function()
        local source = env.client()
        ask(1, source, path, 20)
        local left = LIMIT - 20
        net.sleep(SYNC_S * 4)
        for i = 2, 3 do
          left = assert_learns(i, source, path, left)
        end
        assert_learns(1, source, path, left)
      end)
    end

    it("let through little more than the limit, and then nothing", function()
      local source = env.client()
      -- so slowly that they have exchanged their counts before each is at the limit
      local got = load.run(e, n.address, { parallel = 12, requests = LIMIT * 10,
                                           path = "/fixed/delay?ms=20", source = source })
      assert.equal(LIMIT * 10, (got.status[200] or 0) + (got.status[429] or 0), got.text)
      assert.is_true(got.status[200] >= LIMIT, got.text)
      -- each by itself would let through the limit
      assert.is_true(got.status[200] < LIMIT * 3, got.text)
      net.sleep(SYNC_S * 5)
      for i = 1, 3 do
        local _, admitted = ask(i, source, "/fixed", 5)
        assert.equal(0, admitted)
      end
    end)

    if name == "redis" then
      it("count on while it is away, and fill it when it comes back empty", function()
        n:expect_log("does not answer:", "maybe") -- those that nobody asks see nothing
        local source = env.client()
        ask(1, source, "/fixed", 10)
        net.sleep(SYNC_S * 4)
        store.server:kill()
        local left, admitted = ask(1, source, "/fixed", 10)
        assert.equal(10, admitted)
        assert.equal(LIMIT - 20, left)
        net.sleep(SYNC_S * 4)
        store.server:start() -- with nothing: it keeps no file
        assert(net.wait_until(15, function()
          return n:log_count("answers again:") >= 1
        end), "the store does not come back:\n" .. n[1]:log())
        left = assert_learns(1, source, "/fixed", left)
        net.sleep(SYNC_S * 4)
        assert_learns(2, source, "/fixed", left)
      end)
    end
  end)
end


describe("nodes that exchange once a minute", function()
  local e

  setup(function()
    e = env.new()
  end)

  teardown(function()
    e:destroy()
  end)

  it("tell what they have counted when their workers end", function()
    local service, store = upstream.nginx(e), stores.start(e, "redis")
    local n = nodes.new(e, {
      n = 2, front = false, conf = store.conf, yml = stores.yml(service.url, {
        { "/", "rate-limiting", "hour: 50, sync_rate: 60, " .. stores.fields(store) },
      }),
    })
    local source = env.client()
    n:start()
    stores.stay_in_hour(60)
    for _ = 1, 10 do
      assert(n:ask(1, source))
    end
    local old = n[1]:workers()
    n[1]:reload()
    assert(net.wait_until(10, function()
      for _, pid in ipairs(old) do
        if signal.kill(pid, 0) == 0 then
          return false
        end
      end
      return true
    end), "the old workers do not end")
    assert.equal("39", assert(n:ask(2, source)).headers["ratelimit-remaining"])
    e:check()
    n:stop()
  end)
end)
