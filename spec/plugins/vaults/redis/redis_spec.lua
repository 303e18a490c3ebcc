-- The vault redis in weir, against a real Redis with a password.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local net = require "lib.net"
local redis = require "lib.redis"
local weir = require "lib.weir"

local TELLER = [[
local teller = { PRIORITY = 1, VERSION = "1.0.0" }

function teller:access(conf)
  local ok, word = pcall(function() return conf.word .. (conf.more or "") end)
  return kong.response.exit(ok and 200 or 503, word)
end

return teller
]]

local YML = [[
_format_version: "3.0"
vaults: [ { prefix: mine, name: redis, config: CONFIG } ]
services:
  - name: service
    url: http://127.0.0.1:9
    routes: [ { name: all, paths: [ / ] } ]
    plugins: [ { name: teller, config: { word: "WORD" } } ]
]]

describe("the vault redis", function()
  local e, w, server

  local function yml(config, word)
    return (YML:gsub("CONFIG", function() return config end)
      :gsub("WORD", function() return word end))
  end

  local function start(config, word, conf)
    weir.write_plugin(e, "teller", TELLER,
                      '{ word = { type = "string", referenceable = true } },'
                      .. '{ more = { type = "string", referenceable = true } },')
    local keys = { plugin_dir = weir.plugin_dir(e) .. "," .. env.srcdir .. "/plugins", workers = 1 }
    for key, value in pairs(conf or {}) do
      keys[key] = value
    end
    w = weir.new(e, { conf = keys, yml = yml(config, word) })
    w:start()
  end

  local function reload(config, word)
    w:write_yml(yml(config, word))
    assert(w:reload())
  end

  local function ask()
    return assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/" } }))
  end

  local function until_body(body)
    local last
    return assert(net.wait_until(8, function()
      last = ask().body
      return last == body
    end), "it stays " .. tostring(last))
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
    assert.equal(odd, ask().body)
  end)

  it("reads keys", function()
    server:cli("SET", "secret:a/b", '{"x":"ex"}')
    start(config(", prefix: 'secret:'"), "{vault://mine/a/b/x}")
    assert.equal("ex", ask().body)
  end)

  it("follows a value within its ttl, and keeps the last while Redis is away", function()
    server:cli("SET", "a", "one")
    start(config(", ttl: 1, neg_ttl: 0.2"), "{vault://mine/a}")
    server:cli("SET", "a", "two")
    until_body("two")
    server:cli("DEL", "a")
    assert(w:wait_log("mine/a}: Redis has no key a; the last value stays"))
    assert.equal("two", ask().body)
    server:cli("SET", "a", "three")
    until_body("three")
    server:kill()
    assert(w:wait_log("mine/a}: Redis: .*; the last value stays"))
    assert.equal("three", ask().body)
    server:start()
    server:cli("SET", "a", "four")
    until_body("four")
    w:expect_log("the last value stays", 2)
  end)

  it("asks the Redis of weir.conf where its config names none", function()
    server:cli("HSET", "h", "a", "one")
    start("{ hash: h }", "{vault://mine/a}", {
      redis_host = "127.0.0.1", redis_port = server.port, redis_password = "of the server",
    })
    assert.equal("one", ask().body)
    assert.is_nil(w:log():find("of the server", 1, true))
  end)

  it("logs in with a secret of another vault, which changes, for several references", function()
    server:cli("MSET", "a", "one", "b", " two")
    e:write("login", "of the server")
    local own = config(", ttl: 0.5, neg_ttl: 0.2"):gsub("of the server", '"{vault://fs/login}"')
    start(own, '{vault://mine/a}", more: "{vault://mine/b}', { vault_fs_prefix = e.dir })
    assert.equal("one two", ask().body)
    server:cli("MSET", "a", "1", "b", " 2")
    server:cli("CONFIG", "SET", "requirepass", "another")
    e:write("login", "another")
    until_body("1 2")
  end)

  it("says what is wrong, without a secret", function()
    server:cli("HSET", "h", "a", "one")
    start((config():gsub("of the server", "wrong-one")), "{vault://mine/h}")
    assert.equal(503, ask().status)
    assert(w:wait_log("mine/h}: Redis: .*WRONGPASS"))
    assert.is_nil(w:log():find("wrong-one", 1, true))
    w:expect_log("WRONGPASS")
    reload(config(), "{vault://mine/h}")
    assert(w:wait_log("mine/h}: Redis: WRONGTYPE"))
    w:expect_log("WRONGTYPE")
    reload(config(), "{vault://mine/h#2}")
    assert(w:wait_log("mine/h#2}: Redis keeps no versions of a value"))
    w:expect_log("no versions")
  end)
end)
