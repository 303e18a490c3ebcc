-- Passwords of stores that are changed while requests come, in the store and in
-- the vault, in either order: no request fails, and exactly what the limit says
-- is admitted; what happens where the two do not agree.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local load = require "lib.load"
local modes = require "lib.modes"
local net = require "lib.net"
local nodes = require "lib.nodes"
local postgres = require "lib.postgres"
local redis = require "lib.redis"
local servers = require "lib.servers"
local stores = require "lib.stores"
local upstream = require "lib.upstream"

local LIMIT = modes.is_slow() and 100 or 400
local PARALLEL = modes.is_slow() and 2 or 6
local RIGHTS = "~{w1:* +eval +evalsha +time +mget +incrby +pexpireat +del +hset +hgetall"
local PASSWORDS = { "pass#one 'x'", "pass two", "pass\"three", "pass\\four" }

describe("the password of", function()
  local e, service, server, hcv, n, source
  local waiting_it = modes.waiting(it)
  local it = modes.first_without_jit(it)

  local function write(name, text)
    local new = e:write("secrets/." .. name, text .. "\n")
    assert(os.rename(new, e:path("secrets/" .. name)))
  end

  -- Two weirs with two workers each. config: of the plugin, the limit apart; conf: of weir.conf;
  -- vaults: of weir.yml; vars: of the environment.
  local function start_nodes(config, conf, vaults, vars)
    n = nodes.new(e, {
      name = "n" .. e:port() .. "-", n = 2, conf = conf,
      start_of = function() return { vars = vars } end,
      yml = stores.yml(service.url, {
        { "/exact", "rate-limiting",
          ("hour: %d, fault_tolerant: false, %s"):format(LIMIT, config) },
      }, vaults),
    })
    if conf and conf.database == "postgres" then
      stores.migrate({ needs_tables = true }, n[1])
    end
    n:start()
    stores.stay_in_hour(60)
    source = env.client()
  end

  local function files_vault()
    return ("vaults:\n  - { name: fs, prefix: files, config: { prefix: %s } }\n"):format(
      e:path("secrets"))
  end

  -- What HashiCorp Vault, by the server that stands for it, says of the password.
  local function in_hcv(password)
    return { mounts = { secret = { version = 2, secrets = {
      store = { { data = { password = password } } },
    } } } }
  end

  local function start_hcv(password)
    local state = in_hcv(password)
    state.tokens = { ["hcv-token"] = { ttl = 3600 } }
    hcv = servers.start("hcv", { state = state }, e)
  end

  local function hcv_vault(ttl)
    return ("vaults:\n  - name: hcv\n    prefix: site\n    config: { port: %d, kv: v2, "
            .. "token: hcv-token, ttl: %d }\n"):format(hcv.port, ttl)
  end

  local function reads()
    return #hcv:log("^GET /v1/secret/data/store")
  end

  -- Once for each weir, or for each worker where both are refused before one has found the new one.
  local function assert_asked(before)
    local asked = reads() - before
    assert.is_true(asked >= 2 and asked <= 4, asked .. " look-ups by four workers of two weirs")
  end

  -- A Redis whose user weir has the first password, which the vault knows.
  local function start_redis(reference, vaults)
    server = redis.start(e, { users = { "user default on nopass ~* &* +@all",
                                        "user weir on " .. RIGHTS } })
    server:cli("ACL", "SETUSER", "weir", ">" .. PASSWORDS[1])
    start_nodes(("policy: redis, redis: { host: 127.0.0.1, port: %d, username: weir, "
                 .. "password: %q, timeout: 2000 }"):format(server.port, reference), nil, vaults)
  end

  local function connections()
    local count = 0
    for _, client in ipairs(server:clients()) do
      count = count + (client.user == "weir" and 1 or 0)
    end
    return count
  end

  local function reload()
    for _, node in ipairs(n) do
      assert(node:reload())
    end
  end

  -- Requests while happen() runs: all are answered, and with those behind them as many are let
  -- through as the limit says.
  local function under_load(happen)
    local finish = load.start(e, n.address, { parallel = PARALLEL, seconds = 3, source = source,
                                              path = "/exact/delay?ms=40" })
    net.sleep(0.5)
    happen()
    local got = finish()
    assert.equal(0, got.failed, got.text)
    assert.equal(got.sent, (got.status[200] or 0) + (got.status[429] or 0), got.text)
    return got
  end

  local function assert_exact(first)
    local rest = load.run(e, n.address, { parallel = PARALLEL, requests = LIMIT + 50,
                                          source = source, path = "/exact" })
    assert.equal(0, rest.failed, rest.text)
    assert.equal(LIMIT, (first and first.status[200] or 0) + (rest.status[200] or 0), rest.text)
    assert.equal(LIMIT + 50, (rest.status[200] or 0) + (rest.status[429] or 0), rest.text)
  end

  -- A command finds the password, too.
  local function assert_counted()
    local text, code = n[1]:command("counters", { args = { "get", "rate-limiting", source } })
    assert.equal(0, code, text)
    assert.is_truthy(text:find(("\nhour +%d +%d +0 "):format(LIMIT, LIMIT)), text)
  end

  -- Until each connection to Redis has logged in again.
  local function until_logged_in_again(logins)
    local wanted = logins + connections()
    assert(net.wait_until(10, function()
      return server:calls().auth >= wanted
    end), "no new login")
  end

  before_each(function()
    e = env.new()
    service = upstream.nginx(e)
  end)

  after_each(function()
    local ok, err = pcall(e.check, e)
    for _, node in ipairs(n or {}) do
      local wrote = node:log() .. node:output()
      for _, text in ipairs(PASSWORDS) do
        assert.is_nil(wrote:find(text, 1, true), "weir wrote a secret")
      end
    end
    if n then
      n:stop()
    end
    for _, started in pairs({ server = server, hcv = hcv }) do
      started:stop()
    end
    n, server, hcv = nil, nil, nil
    e:destroy()
    assert(ok, err)
  end)

  it("Redis is one that it takes beside the old one, for a while", function()
    write("redis", PASSWORDS[1])
    start_redis("{vault://files/redis}", files_vault())
    assert_exact(under_load(function()
      assert.equal(4, connections())
      local logins = server:calls().auth
      server:cli("ACL", "SETUSER", "weir", ">" .. PASSWORDS[2])
      write("redis", PASSWORDS[2])
      until_logged_in_again(logins)
      server:cli("ACL", "SETUSER", "weir", "<" .. PASSWORDS[1])
      net.sleep(0.3)
      reload()
    end))
    assert_counted()
    assert.equal("", server:cli("ACL", "LOG"))
  end)

  it("Redis is another one there before the vault knows", function()
    write("redis", PASSWORDS[1])
    start_redis("{vault://files/redis}", files_vault())
    assert_exact(under_load(function()
      local logins = server:calls().auth
      server:cli("ACL", "SETUSER", "weir", "resetpass", ">" .. PASSWORDS[3])
      net.sleep(0.5)
      write("redis", PASSWORDS[3])
      until_logged_in_again(logins)
      reload()
    end))
    assert.equal("", server:cli("ACL", "LOG"))
  end)

  it("Redis is another one in the vault before Redis knows", function()
    write("redis", PASSWORDS[1])
    start_redis("{vault://files/redis}", files_vault())
    n:expect_log("it refuses the new value of {vault://files/redis}: WRONGPASS", 2)
    assert_exact(under_load(function()
      local logins = server:calls().auth
      write("redis", PASSWORDS[4])
      until_logged_in_again(logins)
      server:cli("ACL", "SETUSER", "weir", "resetpass", ">" .. PASSWORDS[4])
      reload()
    end))
  end)

  it("Redis is one that it takes beside the old one, for HashiCorp Vault's ttl", function()
    start_hcv(PASSWORDS[1])
    start_redis("{vault://site/store/password}", hcv_vault(1))
    assert_exact(under_load(function()
      local logins = server:calls().auth
      server:cli("ACL", "SETUSER", "weir", ">" .. PASSWORDS[2])
      hcv:set(in_hcv(PASSWORDS[2]))
      until_logged_in_again(logins)
      server:cli("ACL", "SETUSER", "weir", "<" .. PASSWORDS[1])
      reload()
    end))
    assert.equal("", server:cli("ACL", "LOG"))
  end)

  waiting_it("Redis is another one there long before the vault knows, under load", function()
    start_hcv(PASSWORDS[1])
    start_redis("{vault://site/store/password}", hcv_vault(1))
    n:expect_log("does not answer:", "maybe") -- a node that remembers a refusal does not ask
    local finish = load.start(e, n.address, { parallel = 8, seconds = 7, source = source,
                                              path = "/exact" })
    server:cli("ACL", "SETUSER", "weir", "resetpass", ">" .. PASSWORDS[3])
    server:cli("CLIENT", "KILL", "USER", "weir")
    net.sleep(4)
    local before = reads()
    hcv:set(in_hcv(PASSWORDS[3]))
    assert(net.wait_until(3, function()
      return n:ask(1, source, { REQUEST_URI = "/exact" }).status ~= 500
    end), "the vault is not asked any more")
    finish()
    assert.is_true(before >= 8, "reads: " .. before)
  end)

  -- The vault would be asked in minutes only.
  it("Redis is another one in both, and who is logged in must do so again", function()
    start_hcv(PASSWORDS[1])
    start_redis("{vault://site/store/password}", hcv_vault(300))
    assert(load.run(e, n.address, { parallel = 8, requests = 64, source = env.client(),
                                    path = "/exact" }).status[200] == 64)
    assert.equal(4, connections())
    local before = reads()
    server:cli("ACL", "SETUSER", "weir", "resetpass", ">" .. PASSWORDS[3])
    hcv:set(in_hcv(PASSWORDS[3]))
    server:cli("CLIENT", "KILL", "USER", "weir")
    net.sleep(0.2)
    assert_exact(under_load(function() end))
    assert_asked(before)
  end)

  it("Redis is another one in both, and what one worker has found the next one takes", function()
    start_hcv(PASSWORDS[1])
    start_redis("{vault://site/store/password}", hcv_vault(300))
    local function all_pass()
      return load.run(e, n.address, { parallel = 8, requests = 64, source = env.client(),
                                      path = "/exact" }).status[200] == 64
    end
    assert.is_true(all_pass())
    local before, clients = reads(), server:clients()
    server:cli("ACL", "SETUSER", "weir", "resetpass", ">" .. PASSWORDS[3])
    hcv:set(in_hcv(PASSWORDS[3]))
    for _, client in ipairs(clients) do
      if client.user == "weir" then
        server:cli("CLIENT", "KILL", "ID", client.id)
        net.sleep(0.2)
        assert.is_true(all_pass())
        assert(net.wait_until(5, function() return connections() == 4 end))
      end
    end
    assert.equal(2, reads() - before) -- once for each weir
  end)

  -- Each probe asks for a look-up; they neither come all the time nor put each other off.
  waiting_it("Redis is another one, which HashiCorp Vault does not know for long", function()
    start_hcv(PASSWORDS[1])
    start_redis("{vault://site/store/password}", hcv_vault(300))
    local function all_answer(status)
      local got = load.run(e, n.address, { parallel = 8, requests = 64, source = env.client(),
                                           path = "/exact" })
      return got.status[status] == 64
    end
    assert.is_true(all_answer(200))
    n:expect_log("does not answer: .*: AUTH: WRONGPASS", 1)
    server:cli("ACL", "SETUSER", "weir", "resetpass", ">" .. PASSWORDS[3])
    local before = reads()
    server:cli("CLIENT", "KILL", "USER", "weir")
    for _ = 1, 4 do
      all_answer(500)
      net.sleep(1)
    end
    assert.is_true(all_answer(500))
    local asked = reads() - before
    assert.is_true(asked >= 8 and asked <= 16, asked .. " look-ups by four workers")
    hcv:set(in_hcv(PASSWORDS[3]))
    assert(net.wait_until(15, function() return all_answer(200) end), "it does not come back")
    assert_exact()
  end)

  it("the nodes of a Cluster is one that they take beside the old one, for a while", function()
    write("redis", PASSWORDS[1])
    server = redis.start_cluster(e, { password = PASSWORDS[1] })
    start_nodes(("policy: redis, redis: { cluster_addresses: [ %q, %q ], "
                 .. "password: '{vault://files/redis}' }"):format(server.addresses[1],
                 server.addresses[2]), nil, files_vault())
    assert_exact(under_load(function()
      for _, node in ipairs(server.nodes) do
        node:cli("ACL", "SETUSER", "default", ">" .. PASSWORDS[2])
        node:cli("CONFIG", "SET", "masterauth", PASSWORDS[2])
        node.password = PASSWORDS[2]
      end
      write("redis", PASSWORDS[2])
      net.sleep(1)
      for _, node in ipairs(server.nodes) do
        node:cli("ACL", "SETUSER", "default", "<" .. PASSWORDS[1])
      end
      reload()
    end))
    for _, node in ipairs(server.nodes) do
      assert.equal("", node:cli("ACL", "LOG"))
    end
  end)

  -- The Sentinels are asked at the start and after a failover, of which their subscription tells.
  it("Sentinels is one that they take beside the old one, for a while", function()
    write("sentinel", PASSWORDS[1])
    write("redis", "of-the-servers")
    server = redis.start_sentinels(e, { password = "of-the-servers",
                                        sentinel_password = "of-the-sentinels" })
    for _, sentinel in ipairs(server.sentinels) do
      sentinel:cli("ACL", "SETUSER", "weir", "on", ">" .. PASSWORDS[1], "&*", "+sentinel",
                   "+subscribe", "+ping")
    end
    start_nodes(("policy: redis, redis: { sentinel_master: mymaster, sentinel_role: master, "
                 .. "sentinel_addresses: [ %q, %q, %q ], sentinel_username: weir, "
                 .. "sentinel_password: '{vault://files/sentinel}', "
                 .. "password: '{vault://files/redis}' }"):format(unpack(server.addresses)),
                nil, files_vault())
    assert_exact(under_load(function()
      for _, sentinel in ipairs(server.sentinels) do
        sentinel:cli("ACL", "SETUSER", "weir", ">" .. PASSWORDS[3])
      end
      write("sentinel", PASSWORDS[3])
      net.sleep(0.5)
      for _, sentinel in ipairs(server.sentinels) do
        sentinel:cli("ACL", "SETUSER", "weir", "<" .. PASSWORDS[1])
      end
      reload()
    end))
    n:expect_log("does not answer:", "maybe")
    assert.is_true(server:fail_over())
    assert(net.wait_until(10, function()
      return load.run(e, n.address, { requests = 16, parallel = 4, source = env.client(),
                                      path = "/exact" }).status[200] == 16
    end), "the new master is not found")
    for _, sentinel in ipairs(server.sentinels) do
      assert.equal("", sentinel:cli("ACL", "LOG"))
    end
  end)

  it("a Redis with requirepass comes from weir.conf and the environment", function()
    local value = "#1 'secret' \"redis\""
    server = redis.start(e, { password = value })
    for i, config in ipairs({
      "policy: redis", -- weir.conf's
      ("policy: redis, redis: { host: 127.0.0.1, port: %d, "
       .. "password: '{vault://env/secret-redis-password}' }"):format(server.port),
    }) do
      local more = i == 1 and { redis_host = "127.0.0.1", redis_port = server.port,
                                redis_password = "{vault://env/secret-redis-password}" } or {}
      start_nodes(config, more, nil, { SECRET_REDIS_PASSWORD = value })
      assert_exact()
      local wrote = n[1]:log() .. n[1]:output()
      assert.is_nil(wrote:find(value, 1, true))
      n:stop()
      n = nil
    end
  end)

  it("PostgreSQL is another one in both", function()
    server = postgres.start(e, { password = "first one" })
    write("pg", "first one")
    start_nodes("policy: cluster", {
      database = "postgres", pg_host = "127.0.0.1", pg_port = server.port,
      pg_user = server.user, pg_database = server.database, pg_timeout = 5000,
      pg_password = "{vault://fs/pg}", vault_fs_prefix = e:path("secrets"),
    })
    assert_exact(under_load(function()
      server:sql("ALTER ROLE weir PASSWORD 'pass two'")
      net.sleep(0.3)
      write("pg", "pass two")
      reload()
    end))
    assert_counted()
  end)

  it("PostgreSQL is another one in both, and its sessions are cut", function()
    start_hcv("first one")
    server = postgres.start(e, { password = "first one" })
    start_nodes("policy: cluster", {
      database = "postgres", pg_host = "127.0.0.1", pg_port = server.port,
      pg_user = server.user, pg_database = server.database, pg_timeout = 5000,
      pg_password = "{vault://hcv/store/password}", vault_hcv_port = hcv.port,
      vault_hcv_kv = "v2", vault_hcv_token = "hcv-token", vault_hcv_ttl = 300,
    })
    assert(load.run(e, n.address, { parallel = 8, requests = 64, source = env.client(),
                                    path = "/exact" }).status[200] == 64)
    local before = reads()
    server:sql("ALTER ROLE weir PASSWORD 'pass two'")
    hcv:set(in_hcv("pass two"))
    assert.equal(4, server:terminate_backends())
    net.sleep(0.2)
    assert_exact(under_load(function() end))
    assert_asked(before)
  end)
end)
