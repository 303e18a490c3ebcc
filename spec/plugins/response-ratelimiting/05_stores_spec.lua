-- response-ratelimiting over two weirs that share a store: counted once, exactly, in few round
-- trips; and what becomes of requests when the store goes, before the service is asked or while.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local costs = require "lib.costs"
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local nodes = require "lib.nodes"
local redis = require "lib.redis"
local stores = require "lib.stores"
local time = require "posix.time"

local NAME = "response-ratelimiting"
local CLIENTS, EACH = 64, modes.is_slow() and 2 or 8
local DOWN, UP = "does not answer", "answers again"

local function request(target, client)
  return { params = { REQUEST_URI = target, REMOTE_ADDR = client,
                      QUERY_STRING = target:match("%?(.*)") or "" } }
end

local function assert_hidden(got)
  for _, field in ipairs(got.all) do
    assert.not_equal("x-kong-limit", field[1]:lower())
  end
  return got
end

local function ask(weir, target, client)
  return assert_hidden(assert(fcgi.once(weir.unix, request(target, client))))
end

local function left(got, name, period)
  return tonumber(got.headers["x-ratelimit-remaining-" .. (name or "videos") .. "-"
                              .. (period or "hour")])
end

-- The statuses of many requests at once, spread over the weirs.
local function ask_at_once(list, target, client)
  local all, statuses = {}, {}
  for i = 1, CLIENTS do
    all[i] = assert(fcgi.connect(list[1 + i % #list].unix))
  end
  for id = 1, EACH do
    for _, c in ipairs(all) do
      local opts = request(target, client)
      opts.id, opts.keep = id, true
      assert(c:send(fcgi.request(opts)))
    end
  end
  for _, c in ipairs(all) do
    for id = 1, EACH do
      local got = assert_hidden(assert(c:answer(id, 60)))
      statuses[got.status] = (statuses[got.status] or 0) + 1
      assert.equal(got.status == 429 and "" or "xxx", got.body)
    end
    c:close()
  end
  return statuses
end

for _, store_name in ipairs({ "redis", "redis Cluster", "postgres", "sqlite" }) do
  describe("response-ratelimiting over " .. store_name, function()
    local e, both

    setup(function()
      e = env.new()
      local store = stores.start(e, store_name)
      local fields = stores.fields(store)
      both = nodes.new(e, { n = 2, front = false, conf = store.conf, yml = stores.yml(
        costs.nginx(e).url, {
          { "/one", NAME, "limits: { Videos: { hour: 5 } }, " .. fields },
          { "/many", NAME, "limits: { Videos: { hour: 100, day: 1000 }, Images: { hour: 1000 } }, "
                           .. fields },
          { "/block", NAME, "limits: { Videos: { hour: 2 }, Images: { hour: 2 } }, "
                            .. "block_on_first_violation: true, " .. fields },
        }) })
      stores.migrate(store, both[1])
      both:start()
    end)

    teardown(function()
      both:stop()
      e:destroy()
    end)

    before_each(function()
      stores.stay_in_hour()
    end)

    after_each(function()
      e:check()
    end)

    it("is counted once", function()
      local client, target = env.client(), costs.target("/one", "Videos=1")
      for i = 4, 0, -1 do
        local got = ask(both[1 + i % 2], target, client)
        assert.equal(200, got.status)
        assert.equal(i, left(got))
      end
      for i = 1, 2 do
        local got = ask(both[i], target, client)
        assert.equal(429, got.status)
        assert.equal("", got.body)
        assert.equal("0", got.headers["content-length"])
        assert.equal(0, left(got))
      end
    end)

    it("is given back, and overshot", function()
      local client = env.client()
      assert.equal(1, left(ask(both[1], costs.target("/one", "Videos=4"), client)))
      assert.equal(0, left(ask(both[2], costs.target("/one", "Videos=1000"), client)))
      assert.equal(429, ask(both[1], costs.target("/one", "Videos=1"), client).status)
      assert.equal(5, left(ask(both[2], costs.target("/one", "Videos=-5000"), client)))
      -- who has refused, believes in that for five seconds
      net.wait_until(8, function()
        return ask(both[1], costs.target("/one", "Videos=1"), client).status == 200
      end)
      assert.equal(4, left(ask(both[2], "/one", client)))
    end)

    it("lets 64 clients at once through as often as the limit says", function()
      for cost, passed in pairs({ ["Videos=1"] = 100, ["Videos=3"] = 34,
                                  ["Videos=2,Images=1"] = 50 }) do
        if CLIENTS * EACH > passed then
          local client = env.client()
          local statuses = ask_at_once(both, costs.target("/many", cost), client)
          assert.equal(passed, statuses[200], cost)
          assert.equal(CLIENTS * EACH - passed, statuses[429], cost)
          local images = cost:find("Images") and passed or 0
          net.wait_until(2, function() -- what was given back arrives
            return left(ask(both[1], "/many", client), "images") == 1000 - images
          end)
          local got = ask(both[2], "/many", client)
          assert.equal(1000 - images, left(got, "images"))
          assert.equal(0, left(got))
          assert.equal(1000 - passed * tonumber(cost:match("Videos=(%d)")), left(got, nil, "day"))
        end
      end
    end)

    it("keeps clients apart that ask at once", function()
      local poor, rich = env.client(), env.client()
      for path, full in pairs({ ["/one"] = 5, ["/many"] = 100 }) do
        ask(both[1], costs.target(path, "Videos=3"), poor)
        local all = {}
        for i = 1, 32 do
          local opts = request(path .. "?seen=1", i % 2 == 0 and poor or rich)
          opts.keep = true
          all[i] = assert(fcgi.connect(both[1].unix))
          assert(all[i]:send(fcgi.request(opts)))
        end
        for i, c in ipairs(all) do
          local got = assert(c:answer(1))
          local want = i % 2 == 0 and full - 3 or full
          assert.equal(want, left(got))
          assert.matches("X-RateLimit-Remaining-Videos: " .. want, got.body, 1, true)
          c:close()
        end
      end
    end)

    it("blocks before the service is asked", function()
      local client = env.client()
      assert.equal(200, ask(both[1], costs.target("/block", "Images=2"), client).status)
      local got = ask(both[2], costs.target("/block", "Videos=1"), client)
      assert.equal(429, got.status)
      assert.equal('{"message":"API rate limit exceeded for \'Images\'"}', got.body)
    end)
  end)
end

describe("response-ratelimiting whose questions take a while", function()
  local e, server, both

  setup(function()
    e = env.new()
    local store = stores.start(e, "postgres")
    server = store.server
    both = nodes.new(e, { n = 2, front = false, conf = store.conf, yml = stores.yml(
      costs.nginx(e).url, {
        { "/border", NAME, "limits: { A: { second: 2, hour: 100 }, B: { hour: 1 } }, "
                           .. stores.fields(store) },
      }) })
    stores.migrate(store, both[1])
    both:start()
  end)

  teardown(function()
    both:stop()
    e:destroy()
  end)

  local function sleep_to(second)
    local now = time.clock_gettime(time.CLOCK_REALTIME)
    net.sleep(math.max(0, second - now.tv_sec - now.tv_nsec / 1e9))
  end

  -- Who holds the row of B lets a request wait whose A is counted already.
  local function ask_across_border(client, second)
    assert.equal(200, ask(both[1], costs.target("/border", "B=1"), client).status)
    sleep_to(second)
    e:fork(function()
      server:try("BEGIN; SELECT 1 FROM weir_counters WHERE convert_from(identity, 'UTF8') LIKE '%"
                 .. client .. ":B' FOR UPDATE; SELECT pg_sleep(1.4)")
    end)
    sleep_to(second + 0.6)
    local c = assert(fcgi.connect(both[1].unix))
    assert(c:send(fcgi.request(request(costs.target("/border", "A=2,B=1"), client))))
    sleep_to(second + 1.1)
    local others = ask(both[2], costs.target("/border", "A=2"), client).status
    local refused = assert(c:answer(1, 10)).status
    local next_one = ask(both[2], costs.target("/border", "A=1"), client).status
    c:close()
    return { others, refused, next_one }
  end

  it("gives back nothing of the second behind that it was counted in", function()
    stores.stay_in_hour(60)
    local is_seen
    for _ = 1, 8 do
      local client, second = env.client(), os.time() + 2
      local statuses = ask_across_border(client, second)
      if os.time() == second + 1 then -- else it was too slow to tell the seconds apart
        assert.same({ 200, 429, 429 }, statuses)
        assert.is_true(net.wait_until(5, function() -- in the hour, which lasts, it is
          return left(ask(both[2], "/border", client), "a", "hour") == 98
        end))
        is_seen = true
        break
      end
    end
    assert.is_true(is_seen)
    e:check()
  end)
end)

describe("response-ratelimiting when its Redis", function()
  local e, server, w, both

  setup(function()
    e = env.new()
    server = redis.start(e, {})
    local where = ("policy: redis, redis: { host: 127.0.0.1, port: %d, timeout: 300 }")
                  :format(server.port)
    local limits = "limits: { Videos: { hour: 5, day: 100 }, Images: { hour: 5 } }, "
    both = nodes.new(e, { n = 1, front = false, conf = { workers = 1 }, yml = stores.yml(
      costs.nginx(e).url, {
        { "/pass", NAME, limits .. where },
        { "/fail", NAME, limits .. where .. ", fault_tolerant: false" },
      }) })
    both:start()
    w = both[1]
  end)

  teardown(function()
    both:stop()
    e:destroy()
  end)

  before_each(function()
    stores.stay_in_hour()
  end)

  after_each(function()
    e:check()
  end)

  -- All that an example needs of Redis, back again: no answer is known to be bad any more.
  local function wait_until_up(client)
    assert.is_true(net.wait_until(10, function()
      local got = ask(w, "/fail", client or env.client())
      return got.status == 200
    end))
  end

  -- The questions and the round trips so far.
  local function figures()
    local text = w:command("status")
    local asked, trips = text:match("\nredis %S+ +ok +(%d+) +%d+ +(%d+)")
    return tonumber(asked), tonumber(trips)
  end

  it("is asked in one turn for all limits", function()
    local client = env.client()
    ask(w, "/pass", client)
    local asked, trips = figures()
    for _ = 1, 10 do
      ask(w, costs.target("/pass", "Videos=0"), client)
    end
    local asked_now, trips_now = figures()
    assert.equal(asked + 20, asked_now)
    assert.is_true(trips_now - trips <= 12) -- a probe may be among them
  end)

  local function assert_passes(cost)
    local client = env.client()
    for _ = 1, 7 do
      local got = ask(w, costs.target("/pass", cost), client)
      assert.equal(200, got.status)
      assert.equal("xxx", got.body)
      assert.is_nil(got.headers["x-ratelimit-limit-videos-hour"])
      assert.is_nil(left(got))
    end
    -- what the client says is left, the service does not get to see
    local opts = request("/pass?seen=1", client)
    opts.params.HTTP_X_RATELIMIT_REMAINING_VIDEOS = "1000"
    local seen = assert(fcgi.once(w.unix, opts)).body
    assert.matches("^GET ", seen)
    assert.is_nil(seen:lower():find("x-ratelimit", 1, true))
  end

  local function assert_fails(cost)
    local client = env.client()
    for _ = 1, 7 do
      local got = ask(w, costs.target("/fail", cost), client)
      assert.equal(500, got.status)
      assert.equal('{"message":"An unexpected error occurred"}', got.body)
      assert.is_nil(left(got))
    end
  end

  for name, go in pairs({ ["is dead"] = "kill", ["stands still"] = "pause" }) do
    it(name .. ", passes or fails as it is told", function()
      ask(w, "/pass", env.client())
      w:expect_log(DOWN)
      server[go](server)
      assert_passes("Videos=1, Images=2")
      assert_passes("Videos=-1")
      assert_fails("Videos=1, Images=2")
      if go == "kill" then
        server:start()
      else
        server:resume()
      end
      wait_until_up()
      assert.is_truthy(w:wait_log(UP))
      local client = env.client()
      assert.equal(0, left(ask(w, costs.target("/pass", "Videos=5"), client)))
      assert.equal(429, ask(w, costs.target("/pass", "Videos=1"), client).status)
    end)
  end

  it("dies while the service works, passes or fails as it is told", function()
    ask(w, "/pass", env.client())
    w:expect_log(DOWN)
    local calls = {}
    for _, path in ipairs({ "/pass", "/fail" }) do
      local c = assert(fcgi.connect(w.unix))
      local target = costs.target(path, "Videos=1, Images=1", "late=400&bytes=100000")
      assert(c:send(fcgi.request(request(target, env.client()))))
      calls[path] = c
    end
    net.sleep(0.2)
    server:kill()
    local got = assert_hidden(assert(calls["/pass"]:answer(1)))
    assert.equal(200, got.status)
    assert.equal(100000, #got.body)
    assert.is_nil(left(got))
    got = assert_hidden(assert(calls["/fail"]:answer(1)))
    assert.equal(500, got.status)
    assert.equal('{"message":"An unexpected error occurred"}', got.body)
    calls["/pass"]:close()
    calls["/fail"]:close()
    server:start()
    wait_until_up()
  end)

  it("comes back while the service works, gets to know what it cost", function()
    wait_until_up()
    w:expect_log(DOWN)
    server:kill()
    local client = env.client()
    ask(w, "/pass", client)
    local c = assert(fcgi.connect(w.unix))
    local target = costs.target("/pass", "Videos=2", "late=2500")
    assert(c:send(fcgi.request(request(target, client))))
    net.sleep(0.2)
    server:start()
    wait_until_up()
    local got = assert_hidden(assert(c:answer(1)))
    c:close()
    assert.equal(200, got.status)
    assert.is_nil(left(got))
    net.wait_until(2, function()
      return left(ask(w, "/pass", client)) == 3
    end)
    assert.equal(3, left(ask(w, "/pass", client)))
  end)

  it("is slow, sends whole bodies and no others", function()
    local poor, rich = env.client(), env.client()
    assert.equal(0, left(ask(w, costs.target("/pass", "Videos=5"), poor)))
    for _, size in ipairs({ 0, 3, 100000, modes.is_slow() and 100000 or 3000000 }) do
      for _, more in ipairs({ "", "&chunked=1" }) do
        local list = {}
        for i, client in ipairs({ poor, rich, poor, rich }) do
          local target = costs.target("/pass", "Videos=" .. (client == poor and 1 or 0)
                                               .. ",Images=0,Images=0", "bytes=" .. size .. more)
          list[i] = assert(fcgi.connect(w.unix))
          assert(list[i]:send(fcgi.request(request(target, client))))
        end
        server:pause()
        net.sleep(0.1)
        server:resume()
        for i, c in ipairs(list) do
          local got = assert_hidden(assert(c:answer(1)))
          assert.equal(i % 2 == 1 and 429 or 200, got.status)
          assert.equal(i % 2 == 1 and 0 or size, #got.body)
          c:close()
        end
      end
    end
  end)
end)
