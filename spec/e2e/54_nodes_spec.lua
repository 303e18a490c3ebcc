-- A limit of N admits N over machines too: three weirs with two workers each, in
-- front of each store; 20,000 requests, and the 200s are counted. WEIR_REPEAT
-- says how often.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local http = require "lib.http"
local load = require "lib.load"
local modes = require "lib.modes"
local net = require "lib.net"
local nodes = require "lib.nodes"
local stores = require "lib.stores"
local upstream = require "lib.upstream"
local time = require "posix.time"

local REPEAT = tonumber(os.getenv("WEIR_REPEAT") or "1")
local LIMIT = modes.is_slow() and 100 or 1000
local REQUESTS = LIMIT * (env.mode == "slow-io" and 8 or 20)
local BURST = modes.is_slow() and 20 or 300 -- to be over within its second

local function routes(store)
  local policy = stores.fields(store)
  return {
    { "/fixed", "rate-limiting", ("hour: %d, %s"):format(LIMIT, policy) },
    { "/sliding", "rate-limiting-advanced",
      ("limit: [ %d ], window_size: [ 3600 ], sync_rate: 0, identifier: ip, %s"):format(
        LIMIT, stores.fields(store, "strategy")) },
    { "/second", "rate-limiting", "second: 50, hour: 1000, " .. policy },
    { "/hundred", "rate-limiting", "hour: 100, " .. policy },
    { "/six", "rate-limiting", "second: 60, minute: 61, hour: 62, day: 63, month: 64, year: 65, "
      .. policy },
  }
end

-- This second, and how much of it is over; os.time() may be some milliseconds late.
local function second()
  local t = time.clock_gettime(time.CLOCK_REALTIME)
  return t.tv_sec, t.tv_nsec / 1e9
end

local function sleep_to_next_second()
  local _, over = second()
  net.sleep(1.002 - over)
end

-- 42_stores has each of them in all modes.
local NAMES = (env.mode == "slow-io" or env.mode == "nojit") and { "redis", "postgres" }
              or stores.names

for _, name in ipairs(NAMES) do
  describe("three nodes with " .. name, function()
    local e, store, n

    setup(function()
      e = env.new()
      local service = upstream.nginx(e)
      store = stores.start(e, name)
      n = nodes.new(e, { conf = store.conf, yml = stores.yml(service.url, routes(store)) })
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

    local function assert_exact(path, requests, limit)
      for run = 1, REPEAT do
        local got = load.run(e, n.address, { parallel = 64, requests = requests, path = path,
                                             source = env.client(), keep = true })
        local text = ("run %d of %d\n%s"):format(run, REPEAT, got.text)
        assert.equal(0, got.failed, text)
        assert.equal(limit, got.status[200], text)
        assert.equal(requests - limit, got.status[429], text)
      end
    end

    it("admit what the limit says", function()
      assert_exact("/fixed", REQUESTS, LIMIT)
    end)

    it("admit what the limit of a sliding window says", function()
      assert_exact("/sliding", REQUESTS / 4, LIMIT)
    end)

    it("admit 50 in a second, and those who are refused cost no hour", function()
      local source, admitted, seconds = env.client(), 0, 0
      for _ = 1, 8 do
        sleep_to_next_second()
        local before = second()
        local got = load.run(e, n.address, { parallel = 32, requests = BURST, path = "/second",
                                             source = source })
        assert.equal(BURST, (got.status[200] or 0) + (got.status[429] or 0), got.text)
        admitted = admitted + (got.status[200] or 0)
        if second() == before then -- else it was too slow to tell the seconds apart
          assert.equal(math.min(50, BURST), got.status[200], got.text)
          seconds = seconds + 1
          if seconds == 2 then
            break
          end
        end
      end
      assert.is_true(seconds == 2 or modes.is_slow())
      sleep_to_next_second()
      local got = assert(http.request(n.address, { path = "/second", source = source }))
      assert.equal(200, got.status)
      assert.equal(tostring(1000 - admitted - 1), got.headers["x-ratelimit-remaining-hour"])
      assert.equal("49", got.headers["x-ratelimit-remaining-second"])
    end)

    -- What one connection brings at once is asked about at once.
    it("admit what the limit says of a batch of equal identities", function()
      local requests, all = modes.is_slow() and 200 or 500, {}
      local source, conns = env.client(), {}
      for id = 1, requests do
        all[id] = fcgi.request({ id = id, keep = true, params = {
          REMOTE_ADDR = source, REQUEST_URI = "/hundred", PATH_INFO = "/hundred" } })
      end
      local function ask()
        for i, node in ipairs(n) do
          conns[i] = assert(fcgi.connect(node.unix))
          assert(conns[i]:send(table.concat(all)))
        end
        local status = {}
        for _, conn in ipairs(conns) do
          for id = 1, requests do
            local got = assert(conn:answer(id, 30))
            status[got.status] = (status[got.status] or 0) + 1
          end
          conn:close()
        end
        return status
      end
      local status
      local calls = store.servers and store.servers:calls()
      status = ask()
      assert.same({ [200] = 100, [429] = 3 * requests - 100 }, status)
      -- they were merged: some dozens of turns at most, not one for each request
      if calls and env.mode ~= "slow-io" then
        local asked = store.servers:calls().evalsha - calls.evalsha
        assert.is_true(asked <= 3 * requests / 10, asked .. " times for " .. 3 * requests)
      end
    end)

    if name == "redis" then
      -- Redis counts how often it found something to read.
      it("ask about many identities at once in few round trips", function()
        local requests, all = 500, {}
        for id = 1, requests do
          all[id] = fcgi.request({ id = id, keep = true, params = {
            REMOTE_ADDR = env.client(), REQUEST_URI = "/fixed", PATH_INFO = "/fixed" } })
        end
        local function reads()
          return tonumber(store.server:cli("INFO", "stats"):match("total_reads_processed:(%d+)"))
        end
        local before, got = reads()
        local calls = store.server:calls_during(function()
          local conn = assert(fcgi.connect(n[1].unix))
          assert(conn:send(table.concat(all)))
          for id = 1, requests do
            got = assert(conn:answer(id, 30))
            assert.equal(200, got.status)
          end
          conn:close()
        end)
        -- a call decides as many as its arguments have room for
        assert.is_true(calls.evalsha <= (env.mode == "slow-io" and requests or requests / 5),
                       calls.evalsha .. " calls")
        local trips = reads() - before
        if env.mode ~= "slow-io" then
          print(("# %d questions, %d reads of Redis"):format(requests, trips))
          assert.is_true(trips <= requests / 5, trips .. " reads")
        end
      end)

      -- n questions; one whose second ends on its way is asked once more.
      local function assert_asked(n_questions, calls, begun)
        local most = n_questions + 1 + os.time() - begun
        assert.is_true(calls.evalsha >= n_questions and calls.evalsha <= most,
                       ("%d for %d questions"):format(calls.evalsha, n_questions))
      end

      it("ask about six windows in one round trip", function()
        local source = env.client()
        local params = { REQUEST_URI = "/six", PATH_INFO = "/six" }
        assert.equal(200, assert(n:ask(1, env.client(), params)).status)
        local got, begun = nil, os.time()
        local calls = store.server:calls_during(function()
          got = assert(n:ask(1, source, params))
        end)
        -- either worker may be a new one for Redis: it sends the text once
        if calls.eval + calls.script == 0 then
          assert_asked(1, calls, begun)
        end
        assert.equal("61", got.headers["x-ratelimit-limit-minute"])
        assert.equal("64", got.headers["x-ratelimit-remaining-year"])
        begun = os.time()
        calls = store.server:calls_during(function()
          for _ = 1, 10 do
            got = assert(n:ask(1, source, params))
          end
        end)
        assert.equal("54", got.headers["x-ratelimit-remaining-year"])
        assert_asked(10, calls, begun)
        assert.equal(0, calls.eval)
      end)

      it("ask the store little about who is far over the limit", function()
        local source = env.client()
        local opts = { parallel = 16, requests = 300, path = "/hundred", source = source,
                       keep = true }
        assert.equal(100, load.run(e, n.address, opts).status[200])
        opts.requests = REQUESTS
        local begun = net.now()
        local calls = store.server:calls_during(function()
          assert.equal(REQUESTS, load.run(e, n.address, opts).status[429])
        end)
        local asked = calls.evalsha + calls.eval + calls.evalsha_ro
        -- each of six workers believes it for five seconds
        local most = math.max(REQUESTS * 5 / 1000, 6 * (1 + math.floor((net.now() - begun) / 5)))
        assert.is_true(asked <= most, asked .. " times for " .. REQUESTS)
      end)
    end

    if name == "redis Cluster" then
      it("count each identity on the master that has its slot", function()
        local finish = {}
        for i = 1, 6 do
          finish[i] = load.start(e, n.address, { parallel = 8, requests = LIMIT, path = "/hundred",
                                                 source = env.client() })
        end
        for i = 1, 6 do
          local got = finish[i]()
          assert.equal(100, got.status[200], got.text)
          assert.equal(LIMIT - 100, got.status[429] or 0, got.text)
        end
        local masters = {}
        for _, key in ipairs(store.group:keys()) do
          masters[key[2].name] = true
        end
        local count = 0
        for _ in pairs(masters) do
          count = count + 1
        end
        assert.is_true(count >= 2, "all keys lie on one master")
      end)
    end
  end)
end
