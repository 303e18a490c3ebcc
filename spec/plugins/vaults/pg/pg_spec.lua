-- The vault pg in weir, against a real PostgreSQL.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local net = require "lib.net"
local postgres = require "lib.postgres"
local weir = require "lib.weir"

local TELLER = [[
local teller = { PRIORITY = 1, VERSION = "1.0.0" }

function teller:access(conf)
  local ok, word = pcall(function() return conf.word end)
  return kong.response.exit(ok and 200 or 503, word)
end

return teller
]]

local YML = [[
_format_version: "3.0"
vaults: [ { prefix: mine, name: pg, config: CONFIG } ]
services:
  - name: service
    url: http://127.0.0.1:9
    routes: [ { name: all, paths: [ / ] } ]
    plugins: [ { name: teller, config: { word: "WORD" } } ]
]]

describe("the vault pg", function()
  local house, e, w, server

  local function yml(config, word)
    return (YML:gsub("CONFIG", function() return config end)
      :gsub("WORD", function() return word end))
  end

  local function start(config, word, conf)
    weir.write_plugin(e, "teller", TELLER,
                      '{ word = { type = "string", referenceable = true } },')
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

  setup(function()
    house = env.new()
    server = postgres.start(house)
    server:sql("CREATE TABLE secrets (name text PRIMARY KEY, value text);"
      .. "CREATE TABLE app (id int, word text)")
    server:sql("GRANT SELECT ON secrets, app TO weir")
  end)

  teardown(function()
    house:destroy()
  end)

  before_each(function()
    e = env.new()
    server:sql("TRUNCATE secrets, app")
  end)

  after_each(function()
    e:check()
    w:stop()
    e:destroy()
  end)

  local function config(more)
    return ("{ pg: { host: 127.0.0.1, port: %d, user: weir, password: %s, database: weir }%s }")
      :format(server.port, server.password, more or "")
  end

  it("reads a row, whatever its bytes", function()
    server:sql([[INSERT INTO secrets VALUES ('it''s', 'p@ss # "w" ''o''' || E'\r\n' ||
                                             repeat('x', 65536))]])
    start(config(), "{vault://mine/it's}")
    assert.equal("p@ss # \"w\" 'o'\r\n" .. ("x"):rep(65536), ask().body)
  end)

  it("runs the operator's statement, and follows the value within its ttl", function()
    server:sql([[INSERT INTO app VALUES (7, '{"x":"one"}')]])
    start(config(", query: 'SELECT word FROM app WHERE id = $1::int', ttl: 1"),
          "{vault://mine/7/x}")
    assert.equal("one", ask().body)
    server:sql([[UPDATE app SET word = '{"x":"two"}']])
    until_body("two")
  end)

  it("keeps the last value while PostgreSQL is away", function()
    server:sql("INSERT INTO secrets VALUES ('a', 'one')")
    start(config(", ttl: 1, neg_ttl: 0.2"), "{vault://mine/a}")
    server:stop()
    assert(w:wait_log("mine/a}: PostgreSQL: .*; the last value stays"))
    assert.equal("one", ask().body)
    server:start()
    server:sql("UPDATE secrets SET value = 'two'")
    until_body("two")
    server:sql("DELETE FROM secrets")
    assert(w:wait_log("mine/a}: PostgreSQL has no row for a; the last value stays"))
    assert.equal("two", ask().body)
    w:expect_log("the last value stays", 2)
  end)

  it("asks the PostgreSQL of weir.conf where its config names none", function()
    server:sql("INSERT INTO secrets VALUES ('a', 'one')")
    start("{}", "{vault://mine/a}", {
      pg_host = "127.0.0.1", pg_port = server.port, pg_password = server.password,
    })
    assert.equal("one", ask().body)
  end)

  it("says what is wrong, without a secret", function()
    start(config(", query: 'SELECT x FROM nowhere WHERE y = $1'"), "{vault://mine/a}")
    assert.equal(503, ask().status)
    assert(w:wait_log('mine/a}: PostgreSQL: .*relation "nowhere" does not exist'))
    assert.is_nil(w:log():find(server.password, 1, true))
    w:expect_log("nowhere")
    reload((config():gsub(server.password:gsub("%-", "%%-"), "wrong-one")), "{vault://mine/a}")
    assert(w:wait_log("mine/a}: PostgreSQL: .*authentication failed"))
    assert.is_nil(w:log():find("wrong-one", 1, true))
    w:expect_log("authentication failed")
  end)
end)
