-- What the guides that users come with promise, step by step with their own
-- numbers, by three weirs behind one lighttpd. Their Admin API calls stand in
-- weir.yml here.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local http = require "lib.http"
local limits = require "lib.limits"
local net = require "lib.net"
local nodes = require "lib.nodes"
local postgres = require "lib.postgres"
local redis = require "lib.redis"
local stores = require "lib.stores"
local upstream = require "lib.upstream"

local PASSWORD = "PASSWORD" -- the guide's own
local REMAINING = "x-ratelimit-remaining-minute"

describe("the guides:", function()
  local e, service, n

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
  end)

  teardown(function()
    e:destroy()
  end)

  after_each(function()
    if n then
      local ok, err = pcall(e.check, e)
      n:stop()
      n, e.checks = nil, {}
      assert(ok, err)
    end
  end)

  local next_name = 0

  local function start(yml, conf, prepare, vars)
    next_name = next_name + 1
    n = nodes.new(e, { name = ("site%d-"):format(next_name), yml = yml, conf = conf,
                       start_of = vars and function() return { vars = vars } end })
    if prepare then
      prepare(n[1])
    end
    n:start()
    env.stay_clear(60, 6)
    return n
  end

  -- A list of the answers to count requests of one client, in sequence.
  local function ask(count, opts)
    local out = {}
    local source = opts and opts.source or env.client()
    for i = 1, count do
      out[i] = assert(http.request(n.address, { source = source, path = opts and opts.path }))
    end
    return out
  end

  local function each(list, name)
    local out = {}
    for i, response in ipairs(list) do
      out[i] = name == "status" and response.status or tonumber(response.headers[name])
    end
    return out
  end

  local COUNT_DOWN = { 4, 3, 2, 1, 0, 0, 0, 0, 0, 0 }
  local STATUSES = { 200, 200, 200, 200, 200, 429, 429, 429, 429, 429 }

  local function assert_counts_down()
    local list = ask(10)
    assert.same(COUNT_DOWN, each(list, REMAINING))
    assert.same(STATUSES, each(list, "status"))
    limits.assert_headers(list[1], 5, 4)
    assert.equal(limits.DENIED, list[10].body)
  end

  -- The form of a plugin's config that the guide for Kubernetes shows.
  local function five_a_minute(more)
    return limits.yml(service.url, "{ minute: 5, " .. more .. " }")
  end

  describe("using Redis for rate limiting", function()
    it("policy local: each node counts for itself", function()
      start(five_a_minute("policy: local"))
      local list = ask(20)
      -- each of three nodes counts down by itself: 15 are let through
      local seen, statuses = {}, {}
      for i, response in ipairs(list) do
        local left = tonumber(response.headers[REMAINING])
        statuses[response.status] = (statuses[response.status] or 0) + 1
        if response.status == 200 then
          seen[left] = (seen[left] or 0) + 1
        end
        assert.is_true(i > 3 or left == 4)
      end
      assert.same({ [0] = 3, [1] = 3, [2] = 3, [3] = 3, [4] = 3 }, seen)
      assert.same({ [200] = 15, [429] = 5 }, statuses)
    end)

    it("policy redis: the nodes count down in sequence", function()
      local server = redis.start(e, { password = PASSWORD })
      start(five_a_minute(("policy: redis, redis_host: 127.0.0.1, redis_port: %d, "
                           .. "redis_password: %s"):format(server.port, PASSWORD)))
      n:expect_log("redis_host", "maybe") -- that its name is an old one
      n:expect_log("deprecated", "maybe")
      assert_counts_down()
      for _, key in ipairs(server:keys()) do -- nothing stays longer than what it counts
        local ttl = tonumber(server:cli("PTTL", key))
        assert.is_true(ttl > 0 and ttl <= 60000, key .. " " .. ttl)
      end
      assert.is_true(#server:keys() > 0)
      server:stop()
    end)

    it("policy redis with secrets management: the password is a variable", function()
      local server = redis.start(e, { password = PASSWORD })
      start(five_a_minute(("policy: redis, redis_host: 127.0.0.1, redis_port: %d, "
                           .. 'redis_password: "{vault://env/secret-redis-password}"')
                          :format(server.port)), nil, nil, { SECRET_REDIS_PASSWORD = PASSWORD })
      n:expect_log("deprecated", "maybe")
      assert_counts_down()
      for _, field in ipairs({ "redis_password", "redis.password" }) do
        local text, code = n[1]:command("config", {
          args = { "show", "plugins.rate-limiting.config." .. field },
        })
        assert.equal(0, code, text)
        assert.equal('"{vault://env/secret-redis-password}"\n', text:match('"[^"]*"\n$'))
      end
      server:stop()
    end)

    it("policy redis with a wrong password: no request fails, and none is limited", function()
      local server = redis.start(e, { password = PASSWORD })
      start(five_a_minute(("policy: redis, redis: { host: 127.0.0.1, port: %d, "
                           .. "password: %s }"):format(server.port, "wrong")))
      n:expect_log("WRONGPASS", "any")
      local list = ask(10)
      for _, response in ipairs(list) do
        assert.equal(200, response.status)
        assert.is_nil(response.headers[REMAINING])
      end
      assert.same({}, server:keys())
      server:stop()
      n:expect_log("redis", "maybe") -- it may see the end of its connection
    end)

    it("policy cluster, PostgreSQL: the nodes count down in sequence", function()
      local server = postgres.start(e)
      local conf = { database = "postgres", pg_port = server.port, pg_password = server.password }
      start(five_a_minute("policy: cluster"), conf, function(node)
        stores.migrate({ needs_tables = true }, node)
      end)
      assert_counts_down()
      n:stop()
      server:stop()
    end)

    it("policy cluster, SQLite: the nodes count down in sequence", function()
      start(five_a_minute("policy: cluster"), { sqlite_file = e:path("run/seeds.db") },
            function(node)
        stores.migrate({ needs_tables = true }, node)
      end)
      assert_counts_down()
    end)

    it("policy cluster: without tables weir says which command makes them", function()
      n = nodes.new(e, { name = "bare", n = 1, front = false,
                         yml = five_a_minute("policy: cluster, fault_tolerant: false"),
                         conf = { sqlite_file = e:path("run/bare.db") } })
      local ok, err = pcall(n.start, n)
      if ok then -- it serves, but not this
        assert.equal(500, assert(n:ask(1, env.client())).status)
        err = n[1]:log()
      end
      assert.matches("weir migrations up", err)
      n:expect_log("migrations up", "any")
    end)
  end)

  describe("the rate-limiting plugin", function()
    local function yml(config, place)
      local plugin = "plugins: [ { name: rate-limiting, config: { " .. config .. " } } ]"
      return ([[
_format_version: "3.0"
%s
services:
  - name: service
    url: %s
    %s
    routes: [ { name: all, paths: [ /limited ], %s }, { name: other, paths: [ /other ] } ]
]]):format(place == "global" and plugin or "", service.url,
           place == "service" and plugin or "", place == "route" and plugin or "")
    end

    it("limits a service, a route, or everything: 5 a second, 10000 an hour", function()
      local server = redis.start(e)
      local config = ("second: 5, hour: 10000, policy: redis, redis: { host: 127.0.0.1, port: %d }")
                     :format(server.port)
      start(yml(config, "service"))
      for _, place in ipairs({ "service", "route", "global" }) do
        n:configure(yml(config, place))
        local source = env.client()
        local first = assert(http.request(n.address, { source = source, path = "/limited" }))
        local other = assert(http.request(n.address, { source = source, path = "/other" }))
        assert.equal("5", first.headers["x-ratelimit-limit-second"])
        assert.equal("4", first.headers["x-ratelimit-remaining-second"])
        assert.equal("10000", first.headers["x-ratelimit-limit-hour"])
        assert.equal("9999", first.headers["x-ratelimit-remaining-hour"])
        local second = place ~= "route" and "9998" or nil -- of the hour: seconds pass
        assert.equal(second, other.headers["x-ratelimit-remaining-hour"], place)
      end
      n:stop()
      server:stop()
    end)

    it("tells each limit in headers of its own, or none", function()
      start(yml("minute: 10", "service"))
      local got = ask(1, { path = "/limited" })[1]
      assert.equal("10", got.headers["x-ratelimit-limit-minute"])
      assert.equal("9", got.headers["x-ratelimit-remaining-minute"])
      n:configure(yml("second: 5, minute: 10", "service"))
      got = ask(1, { path = "/limited" })[1]
      assert.equal("5", got.headers["x-ratelimit-limit-second"])
      assert.equal("4", got.headers["x-ratelimit-remaining-second"])
      assert.equal("10", got.headers["x-ratelimit-limit-minute"])
      assert.equal("9", got.headers["x-ratelimit-remaining-minute"])
      n:configure(yml("minute: 10, hide_client_headers: true", "service"))
      got = ask(1, { path = "/limited" })[1]
      assert.is_nil(got.headers["x-ratelimit-limit-minute"])
      assert.is_nil(got.headers["ratelimit-limit"])
    end)

    it("lets all pass, or answers 500, when Redis is not there", function()
      local config = "minute: 5, policy: redis, redis: { host: 127.0.0.1, port: "
                     .. e:port() .. " }, fault_tolerant: "
      start(yml(config .. "true", "service"))
      n:expect_log("redis", "any")
      assert.same({ 200, 200, 200, 200, 200, 200, 200 },
                  each(ask(7, { path = "/limited" }), "status"))
      n:configure(yml(config .. "false", "service"))
      local got = ask(2, { path = "/limited" })
      assert.same({ 500, 500 }, each(got, "status"))
      assert.matches("An unexpected error occurred", got[1].body)
      assert.is_nil(got[1].headers[REMAINING])
    end)
  end)

  describe("the rate-limiting-advanced plugin", function()
    -- config is YAML in a block, as the guide's lines stand.
    local function yml(name, config)
      return ([[
_format_version: "3.0"
services:
  - name: service
    url: %s
    routes: [ { name: all, paths: [ / ] } ]
plugins:
  - name: %s
    config:
%s]]):format(service.url, name, (config:gsub("[^\n]+\n?", "      %0")))
    end

    it("by its old name: 10 in a minute, exchanged every ten seconds", function()
      local server = redis.start(e)
      start(yml("rate-limiting", ([[
limit: 10
window_size: 60
sync_rate: 10
strategy: redis
redis: { host: 127.0.0.1, port: %d }
]]):format(server.port)))
      n:expect_log("deprecated", "maybe")
      n:expect_log("rate%-limiting%-advanced", "maybe")
      -- until they have exchanged what they counted, each node admits by itself
      local source = env.client()
      local statuses = {}
      for _ = 1, 11 do
        local got = assert(n:ask(1, source))
        statuses[#statuses + 1] = got.status
        assert.equal("10", got.headers["x-ratelimit-limit-minute"])
      end
      assert.same({ 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 429 }, statuses)
      n:stop() -- what was not exchanged yet is, before the end
      assert.is_true(#server:keys() > 0)
      server:stop()
    end)

    it("10 in 60 seconds and 100 in 3600: one of them trips", function()
      local server = redis.start(e)
      local config = ([[
limit: [ 10, 100 ]
window_size: [ 60, 3600 ]
sync_rate: %%s
identifier: ip
strategy: redis
redis: { host: 127.0.0.1, port: %d }
]]):format(server.port)
      start(yml("rate-limiting-advanced", config:format("0")))
      local list = ask(12)
      assert.same({ 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0 }, each(list, REMAINING))
      assert.same({ 99, 98, 97, 96, 95, 94, 93, 92, 91, 90 },
                  { unpack(each(list, "x-ratelimit-remaining-hour"), 1, 10) })
      assert.same({ 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 429, 429 },
                  each(list, "status"))
      -- exchanged, though not at once: a node learns what another one has counted
      n:configure(yml("rate-limiting-advanced", config:format("0.2")))
      local source = env.client()
      for _ = 1, 10 do
        assert.equal(200, assert(n:ask(1, source)).status)
      end
      n:ask(2, source) -- which has not heard of this client, and begins to ask
      assert(net.wait_until(5, function()
        net.sleep(0.1)
        return assert(n:ask(2, source)).status == 429
      end), "the second node never hears of the first one's count")
      n:stop()
      server:stop()
    end)

    it("strategy cluster, and -1: each node for itself", function()
      local conf = { sqlite_file = e:path("run/advanced.db") }
      local config = "limit: [ 5 ]\nwindow_size: [ 60 ]\nstrategy: cluster\nsync_rate: %d\n"
      start(yml("rate-limiting-advanced", config:format(0)), conf, function(node)
        stores.migrate({ needs_tables = true }, node)
      end)
      assert.same(COUNT_DOWN, each(ask(10), REMAINING))
      n:configure(yml("rate-limiting-advanced", config:format(-1)))
      local admitted = 0
      for _, response in ipairs(ask(18)) do
        admitted = admitted + (response.status == 200 and 1 or 0)
      end
      assert.equal(15, admitted)
    end)
  end)

  describe("Redis integration", function()
    local function hundred(more)
      return ([[
_format_version: "3.0"
services:
  - name: my-service
    url: %s
    routes: [ { name: all, paths: [ / ] } ]
    plugins: [ { name: rate-limiting, config: { minute: 100, policy: redis%s } } ]
]]):format(service.url, more or "")
    end

    local function assert_hundred()
      env.stay_clear(60, 12)
      local list = ask(103)
      for i, response in ipairs(list) do
        assert.equal(i <= 100 and 200 or 429, response.status)
        assert.equal(math.max(0, 100 - i), tonumber(response.headers[REMAINING]))
      end
    end

    it("as the plugin's config says", function()
      local server = redis.start(e, { password = "your_redis_password" })
      start(hundred((", redis_host: 127.0.0.1, redis_port: %d, "
        .. "redis_password: your_redis_password, redis_database: 0"):format(server.port)))
      n:expect_log("redis_", "maybe")
      assert_hundred()
      n:stop()
      server:stop()
    end)

    it("as weir.conf says", function()
      local server = redis.start(e, { password = "your_redis_password" })
      start(hundred(), { redis_host = "127.0.0.1", redis_port = server.port,
                         redis_password = "your_redis_password", redis_database = 3,
                         redis_timeout = 2000, redis_connect_timeout = 1000 })
      assert_hundred()
      assert.is_true(#server:keys(3) > 0)
      assert.same({}, server:keys(0))
      n:stop()
      server:stop()
    end)

    it("Sentinels, as weir.conf says", function()
      local group = redis.start_sentinels(e)
      start(hundred(), { redis_sentinel_master = "mymaster", redis_sentinel_role = "master",
                         redis_sentinel_addresses = table.concat(group.addresses, ",") })
      assert_hundred()
      assert.is_true(#group:master():keys() > 0)
      n:stop()
      group:stop()
    end)

    it("a Cluster, as weir.conf says", function()
      local group = redis.start_cluster(e)
      start(hundred(), { redis_cluster_addresses = table.concat(group.addresses, ",", 1, 3) })
      assert_hundred()
      assert.is_true(#group:keys() > 0)
      n:stop()
      group:stop()
    end)
  end)
end)
