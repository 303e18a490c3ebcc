-- The vault redis in weir, against a real Redis with a password.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local redis = require "lib.redis"
local teller = require "lib.teller"

describe("the vault redis", function()
  local e, w, server

  local function yml(config, fields)
    return teller.yml("prefix: mine, name: redis, config: " .. config, fields)
  end

  local function start(config, fields, conf)
    w = teller.start(e, { yml = yml(config, fields), conf = conf })
  end

  local function reload(config, word)
    w:write_yml(yml(config, word))
    assert(w:reload())
  end

  before_each(function()
    e = env.new()
    server = redis.start(e, { password = "of the server" })
  end)

  after_each(function()
    e:check()
    w:stop()
    e:destroy()
  end)

  local function config(more)
    return ("{ redis: { host: 127.0.0.1, port: %d, password: of the server }%s }"):format(
      server.port, more or "")
  end

  it("reads the fields of a hash, whatever their bytes", function()
    local odd = "p@ss # w\"o'rd\\ \r\n" .. ("x"):rep(65536)
    server:cli("HSET", "app:secrets", "pass word", odd)
    start(config(", hash: 'app:secrets'"), "{vault://mine/pass%20word}")
    assert.equal(odd, teller.ask(w).body)
  end)

  it("reads keys", function()
    server:cli("SET", "secret:a/b", '{"x":"ex"}')
    start(config(", prefix: 'secret:'"), "{vault://mine/a/b/x}")
    assert.equal("ex", teller.ask(w).body)
  end)

  it("follows a value within its ttl, and keeps the last while Redis is away", function()
    server:cli("SET", "a", "one")
    start(config(", ttl: 1, neg_ttl: 0.2"), "{vault://mine/a}")
    server:cli("SET", "a", "two")
    teller.until_body(w, "two")
    server:cli("DEL", "a")
    assert(w:wait_log("mine/a}: Redis has no key a; the last value stays"))
    assert.equal("two", teller.ask(w).body)
    server:cli("SET", "a", "three")
    teller.until_body(w, "three")
    server:kill()
    assert(w:wait_log("mine/a}: Redis: .*; the last value stays"))
    assert.equal("three", teller.ask(w).body)
    server:start()
    server:cli("SET", "a", "four")
    teller.until_body(w, "four")
    w:expect_log("the last value stays", 2)
  end)

  it("asks the Redis of weir.conf where its config names none", function()
    server:cli("HSET", "h", "a", "one")
    start("{ hash: h }", "{vault://mine/a}", {
      redis_host = "127.0.0.1", redis_port = server.port, redis_password = "of the server",
    })
    assert.equal("one", teller.ask(w).body)
    assert.is_nil(w:log():find("of the server", 1, true))
  end)

  it("logs in with a secret of another vault, which changes, for several references", function()
    server:cli("MSET", "a", "one", "b", "two")
    e:write("login", "of the server")
    local own = config(", ttl: 0.5, neg_ttl: 0.2"):gsub("of the server", '"{vault://fs/login}"')
    start(own, { word = "{vault://mine/a}", other = "{vault://mine/b}" },
          { vault_fs_prefix = e.dir })
    assert.same({ "one", "two" }, { teller.ask(w).body, teller.ask(w, "/other").body })
    server:cli("MSET", "a", "1", "b", "2")
    server:cli("CONFIG", "SET", "requirepass", "another")
    e:write("login", "another")
    teller.until_body(w, "1")
    teller.until_body(w, "2", 8, "/other")
  end)

  it("says what is wrong, without a secret", function()
    server:cli("HSET", "h", "a", "one")
    start((config():gsub("of the server", "wrong-one")), "{vault://mine/h}")
    assert.equal(503, teller.ask(w).status)
    assert(w:wait_log("mine/h}: Redis: .*WRONGPASS"))
    assert.is_nil(w:log():find("wrong-one", 1, true))
    w:expect_log("WRONGPASS")
    reload(config(), "{vault://mine/h}")
    assert(w:wait_log("mine/h}: Redis: WRONGTYPE"))
    w:expect_log("WRONGTYPE")
    local pipe = io.popen(("head -c 1048577 /dev/zero | redis-cli -p %d -a 'of the server' "
                           .. "--no-auth-warning -x SET long"):format(server.port))
    assert.equal("OK\n", pipe:read("*a"))
    pipe:close()
    reload(config(), "{vault://mine/long}")
    assert(w:wait_log("mine/long}: Redis: the answer is longer than 1 MiB"))
    w:expect_log("longer than 1 MiB")
    reload(config(), "{vault://mine/h#2}")
    assert(w:wait_log("mine/h#2}: Redis keeps no versions of a value"))
    w:expect_log("no versions")
  end)

  it("repeats no arguments of a command that the server does not know", function()
    server:kill()
    server = redis.start(e, { password = "of the server",
                              args = { "--rename-command", "HGET", "OTHER" } })
    start(config(", hash: 'app:secrets'"), "{vault://mine/name}")
    assert(w:wait_log("mine/name}: Redis: ERR unknown command 'HGET'; it has no value"))
    w:expect_log("unknown command")
  end)
end)
