-- References in weir.conf, and `weir upgrade`, which gives those to the
-- environment new values: what is used, what is shown, what is refused, and
-- that nothing is lost meanwhile.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local fronts = require "lib.fronts"
local limits = require "lib.limits"
local load = require "lib.load"
local modes = require "lib.modes"
local net = require "lib.net"
local postgres = require "lib.postgres"
local proc = require "lib.proc"
local redis = require "lib.redis"
local servers = require "lib.servers"
local stores = require "lib.stores"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local signal = require "posix.signal"

local waiting_it = modes.waiting(it)
local it = modes.first_without_jit(it)

local PASSWORDS = { "s3cret 'one' #1", "s3cret \"two\"", "s3cret\\three" }
local LIMIT = modes.is_slow() and 100 or 600
local PARALLEL = modes.is_slow() and 3 or 12

local function is_in(text, part)
  return text:find(part, 1, true) ~= nil
end

-- Everything that weir has written, but for what the spec gave it.
local function assert_silent(e, w, outputs)
  local texts = { w:log(), w:output(), e:read("run/weir.pid.state"), table.concat(outputs) }
  for _, text in ipairs(texts) do
    assert.is_false(is_in(text, "s3cret"), text)
  end
end

describe("weir.conf", function()
  local e, service, w, outputs

  before_each(function()
    e = env.new()
    service = upstream.nginx(e)
    outputs = {}
  end)

  after_each(function()
    local ok, err = pcall(e.check, e)
    assert_silent(e, w, outputs)
    if w.proc then
      w:stop()
    else
      w:command("stop")
    end
    e:destroy()
    assert(ok, err)
  end)

  local function make(conf)
    w = weir.new(e, { yml = limits.sample_yml(service.url), conf = conf })
  end

  local function run(verb, vars, args)
    local text, code = w:command(verb, { args = args, vars = vars })
    outputs[#outputs + 1] = text
    return code, text
  end

  local function secret(name, text)
    e:write("secrets/" .. name, text)
    os.execute("chmod 755 '" .. e:path("secrets") .. "'")
  end

  it("takes what references stand for, and shows the references", function()
    make({ workers = "{vault://env/workers}", vault_env_prefix = "MY_",
           fastcgi_listen = "unix:" .. e:path("run/weir.sock") .. ",{vault://env/address}",
           redis_host = "{vault://env/host}" })
    local address = "127.0.0.1:" .. e:port()
    local vars = { MY_WORKERS = "3", MY_ADDRESS = address, MY_HOST = "s3cret.internal" }
    w:start({ vars = vars })
    assert.equal(3, #w:workers())
    assert.equal(200, assert(fcgi.once(address)).status)
    local code, text = run("status")
    assert.equal(0, code)
    assert.is_true(is_in(text, "weir.sock,{vault://env/address}"), text)
    assert.is_false(is_in(text, address), text)
    code, text = run("check", vars)
    assert.equal(0, code, text)
  end)

  it("takes new values at a reload, or stays as it was", function()
    make({ workers = "{vault://fs/workers}", vault_fs_prefix = e:path("secrets") })
    secret("workers", "1\n")
    w:start()
    assert.equal(1, #w:workers())
    secret("workers", "2\n")
    assert(w:reload())
    assert.equal(2, #w:workers())
    secret("workers", "s3cret")
    w:expect_log("reload failed.*workers: expected auto or a number from 1 to 256, "
                 .. "got \"{vault://fs/workers}\"")
    local code, text = run("reload")
    assert.equal(1, code)
    assert.is_true(is_in(text, w.conf_path .. ":"), text)
    os.remove(e:path("secrets/workers"))
    w:expect_log("reload failed.*workers: {vault://fs/workers}: ")
    code = run("reload")
    assert.equal(1, code)
    assert.equal(2, #w:workers())
    assert.equal(200, assert(fcgi.once(w.unix)).status)
  end)

  it("says where a reference is that cannot be looked up", function()
    make({ pg_host = "{vault://env/none}" })
    for _, verb in ipairs({ "check", "start" }) do
      local code, text = run(verb)
      assert.equal(1, code)
      assert.matches("^weir: " .. w.conf_path:gsub("%p", "%%%0")
                     .. ":%d+: pg_host: {vault://env/none}: the environment has no NONE\n", text)
    end
    w:write_conf({ pg_host = "{vault://nowhere/none}" })
    local _, text = run("check")
    assert.matches(": pg_host: {vault://nowhere/none}: could not find vault %(nowhere%)\n", text)
    w:write_conf({ pg_host = "{vault://env/none}", vault_env_prefx = "s3cret" })
    _, text = run("check")
    assert.matches(":%d+: vault_env_prefx: the vault env has no field prefx\n", text)
    w:write_conf({ pg_password = "{vault://nowhere/none}" })
    _, text = run("check")
    assert.matches(":%d+: pg_password: could not find vault %(nowhere%)", text)
    w:write_conf({ vault_hcv_token = "{vault://nowhere/none}", vault_hcv_kv = "v3" })
    _, text = run("check")
    assert.matches(":%d+: vault_hcv_token: could not find vault %(nowhere%)", text)
    assert.matches(":%d+: vault_hcv_kv: expected one of: v1, v2", text)
    w:write_conf({ vault_hcv_token = "{vault://hcv/none}" })
    _, text = run("check")
    assert.matches(":%d+: vault_hcv_token: the vault hcv needs this secret to look it up", text)
  end)

  it("has commands find an instance by a prefix that is a reference", function()
    make({ prefix = "{vault://env/place}", fastcgi_listen = "unix:" .. e:path("run/weir.sock") })
    local vars = { PLACE = e:path("run") }
    w:start({ vars = vars })
    local code, text = run("status", vars)
    assert.equal(0, code, text)
    code, text = run("status")
    assert.equal(1, code)
    assert.is_true(is_in(text, "weir is not running"), text)
    code, text = run("stop", vars)
    assert.equal(0, code, text)
    w.proc = nil
  end)

  waiting_it("is not held up for long by a vault that hangs", function()
    e:write("plugins/vaults/slow/schema.lua", [[
      return { name = "slow", fields = require("weir.schema.vault").fields({}) }
    ]])
    e:write("plugins/vaults/slow/init.lua", [[
      return { VERSION = "1.0.0", get = function(conf, resource)
        while resource == "busy" do end
        require("weir.timer").sleep(60)
      end }
    ]])
    make({ workers = 1, plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) })
    w:start()
    for resource, why in pairs({ idle = "its vault has not answered in time",
                                 busy = "not found within 10 s" }) do
      w:write_conf({ workers = "{vault://slow/" .. resource .. "}",
                     plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) })
      w:expect_log("reload failed.*workers: {vault://slow/" .. resource .. "}: " .. why)
      local started = net.now()
      local p = w:command_beside("reload")
      net.sleep(0.5)
      assert.equal(200, assert(fcgi.once(w.unix)).status)
      assert.equal(1, p:wait(30))
      assert.is_true(net.now() - started < 15)
    end
    assert.equal(1, #w:workers())
  end)

  it("looks after its workers while a vault hangs at a reload", function()
    local vault = servers.start("hcv", { state = {
      tokens = { root = { ttl = 0 } },
      mounts = { secret = { secrets = { weir = { workers = "2" } } } },
    } }, e)
    make({ workers = "{vault://hcv/weir/workers}", vault_hcv_protocol = "http",
           vault_hcv_host = vault.host, vault_hcv_port = vault.port, vault_hcv_mount = "secret",
           vault_hcv_kv = "v2", vault_hcv_token = "root" })
    w:start()
    local victim = w:workers()[1]
    local function reload_into(fault)
      vault:forget()
      vault:faults({ fault })
      local p = w:command_beside("reload")
      assert(net.wait_until(5, function()
        return #vault:log() > 0
      end), "the vault was not asked")
      return p
    end

    local first = reload_into({ delay_s = 4.5, count = 1 })
    net.sleep(1) -- a worker that lived for less comes back later
    w:expect_log("died by signal 9", 1)
    signal.kill(victim, signal.SIGKILL)
    assert(net.wait_until(3, function()
      local text = w:command("status")
      local _, serving = text:gsub(" 1  serving ", "")
      return serving == 2 and not text:find(" " .. victim .. " ", 1, true)
    end), "no worker in its place:\n" .. w:log())
    local second = w:command_beside("reload")
    assert.is_true(first:alive())
    assert.equal(0, first:wait(8))
    assert.equal(0, second:wait(8))
    assert.equal(1, w:log_count("generation 3 serves with 2 workers"))

    first = reload_into({ hang = true })
    local started = net.now()
    local code, text = run("stop")
    assert.equal(0, code, text)
    assert.is_true(net.now() - started < 3)
    assert.equal(1, first:wait(3))
    w.proc = nil
  end)

  it("may name what lies in its own Redis, whose password is a reference", function()
    local server = redis.start(e, { password = "s3cret-of-redis" })
    server:cli("SET", "workers", "3")
    make({ redis_host = "127.0.0.1", redis_port = server.port, workers = "{vault://redis/workers}",
           redis_password = "{vault://env/redis-password}" })
    w:start({ vars = { REDIS_PASSWORD = "s3cret-of-redis" } })
    assert.equal(3, #w:workers())
    local code, text = run("check", { REDIS_PASSWORD = "s3cret-of-others" })
    assert.equal(1, code)
    assert.matches(":%d+: workers: {vault://redis/workers}: Redis: .*WRONGPASS", text)
    code, text = run("check")
    assert.equal(1, code)
    assert.matches(":%d+: workers: {vault://redis/workers}: .*the environment has no REDIS_PASS",
                   text)
    server:stop()
  end)

  it("lets weir migrations use a password that is one", function()
    local server = postgres.start(e, { password = "s3cret-of-pg" })
    make({ database = "postgres", pg_host = "127.0.0.1", pg_port = server.port,
           pg_user = server.user, pg_database = server.database,
           pg_password = "{vault://env/pg-password}" })
    local code, text = run("migrations", { PG_PASSWORD = "s3cret-of-pg" }, { "up" })
    assert.equal(0, code, text)
    assert.is_true(is_in(text, "is up to date"), text)
    code, text = run("migrations", { PG_PASSWORD = "s3cret-of-others" }, { "list" })
    assert.equal(1, code)
    assert.is_true(is_in(text, "password authentication failed"), text)
    code, text = run("migrations", nil, { "list" })
    assert.equal(1, code)
    assert.matches("pg_password: {vault://env/pg%-password}: the environment has no PG_PASSWORD",
                   text)
    server:stop()
  end)
end)

describe("weir upgrade", function()
  local e, service, w, server, outputs

  before_each(function()
    e = env.new()
    service = upstream.nginx(e)
    outputs = {}
  end)

  after_each(function()
    local ok, err = pcall(e.check, e)
    assert_silent(e, w, outputs)
    w:command("stop")
    proc.sweep(w.conf_path) -- a new master is not our child
    if server then
      server:stop()
      server = nil
    end
    e:destroy()
    assert(ok, err)
  end)

  local function run(verb, vars, args)
    local text, code = w:command(verb, { args = args, vars = vars })
    outputs[#outputs + 1] = text
    w.master = tonumber((e:read("run/weir.pid"):match("%d+"))) or w.master
    return code, text
  end

  local function environment()
    return proc.read_file("/proc/" .. w.master .. "/environ")
  end

  it("runs the new binary in the command's environment, or says why it cannot", function()
    w = weir.new(e, { yml = limits.sample_yml(service.url),
                      conf = { workers = "{vault://env/workers}" } })
    assert.equal(0, run("start", { WORKERS = "1", ONLY_OLD = "1" }))
    local first = w.master
    local code, text = run("upgrade", { WORKERS = "2", WEIR_LOG_LEVEL = "info",
                                        WEIR_UPGRADE = "1:1:1", NOTIFY_SOCKET = "/nowhere" })
    assert.equal(0, code, text)
    assert.is_not.equal(first, w.master)
    assert.is_true(is_in(text, "pid " .. w.master .. " has taken over: generation 2 serves with 2"))
    local vars = "\0" .. environment()
    assert.is_true(is_in(vars, "\0WORKERS=2\0"))
    assert.is_true(is_in(vars, "\0WEIR_LOG_LEVEL=info\0"))
    assert.is_false(is_in(vars, "\0ONLY_OLD="))
    assert.is_false(is_in(vars, "\0NOTIFY_SOCKET="))
    assert.is_false(is_in(vars, "\0WEIR_UPGRADE=1:1:1\0"))

    local second = w.master
    for _, workers in ipairs({ "s3cret", false }) do
      w:expect_log("upgrade: the new binary could not start: .*workers", "any")
      code, text = run("upgrade", { WORKERS = workers or nil })
      assert.equal(1, code)
      assert.matches("^weir: upgrade failed, what runs goes on: the new binary could not start: "
                     .. ".*: workers: .*{vault://env/workers}", text)
      assert.equal(second, w.master)
      assert.equal(200, assert(fcgi.once(w.unix)).status)
    end

    code, text = run("upgrade", { WORKERS = "1" }, { "--keep-environment" })
    assert.equal(0, code, text)
    assert.is_true(is_in(text, "generation 3 serves with 2"), text)
    local third = w.master
    signal.kill(third, signal.SIGUSR2)
    assert(net.wait_until(15, function()
      w.master = tonumber((e:read("run/weir.pid"):match("%d+"))) or third
      return w.master ~= third
    end))
    assert.is_true(is_in("\0" .. environment(), "\0WORKERS=2\0"))
    assert.equal(2, run("upgrade", nil, { "nonsense" }))
    assert(net.wait_until(10, function()
      return not proc.is_alive(third)
    end))
    assert.equal(0, run("stop"))
    assert.equal(1, run("upgrade"))
  end)

  it("changes the password of Redis under load", function()
    server = redis.start(e, { users = { "user default on nopass ~* &* +@all" } })
    server:cli("ACL", "SETUSER", "weir", "on", "~*", "+@all", ">" .. PASSWORDS[1])
    w = weir.new(e, {
      yml = stores.yml(service.url, { { "/exact", "rate-limiting",
        ("hour: %d, fault_tolerant: false, policy: redis"):format(LIMIT) } }),
      conf = { redis_host = "127.0.0.1", redis_port = server.port, redis_username = "weir",
               redis_password = "{vault://env/redis-password}", vault_env_prefix = "SECRET_",
               drain_timeout = "20s" },
    })
    assert.equal(0, run("start", { SECRET_REDIS_PASSWORD = PASSWORDS[1] }))
    local front = fronts.lighttpd(e, { sample = "lighttpd/responder.conf", weir = w })
    stores.stay_in_hour(60)
    local source = env.client()
    local opts = { parallel = PARALLEL, seconds = modes.is_slow() and 8 or 4, source = source,
                   path = "/exact/delay?ms=50" }
    local finish = load.start(e, front.address, opts)
    net.sleep(0.5)
    for i = 2, #PASSWORDS do
      local old = w.master
      server:cli("ACL", "SETUSER", "weir", ">" .. PASSWORDS[i])
      local code, text = run("upgrade", { SECRET_REDIS_PASSWORD = PASSWORDS[i] })
      assert.equal(0, code, text)
      assert(net.wait_until(25, function()
        return not proc.is_alive(old)
      end), "the old master is still there")
      server:cli("ACL", "SETUSER", "weir", "<" .. PASSWORDS[i - 1])
    end
    local got = finish()
    assert.equal(0, got.failed, got.text)
    assert.equal(got.sent, (got.status[200] or 0) + (got.status[429] or 0), got.text)
    local rest = load.run(e, front.address, { parallel = PARALLEL, requests = LIMIT + 50,
                                              source = source, path = "/exact" })
    assert.equal(LIMIT, (got.status[200] or 0) + (rest.status[200] or 0), got.text .. rest.text)
    assert.equal(LIMIT + 50, (rest.status[200] or 0) + (rest.status[429] or 0), rest.text)
    assert.equal("", server:cli("ACL", "LOG"))
    front:stop()
  end)
end)
