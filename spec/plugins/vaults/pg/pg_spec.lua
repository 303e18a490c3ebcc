-- The vault pg in weir, against a real PostgreSQL.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local postgres = require "lib.postgres"
local teller = require "lib.teller"

describe("the vault pg", function()
  local house, e, w, server

  local function yml(config, word)
    return teller.yml("prefix: mine, name: pg, config: " .. config, word)
  end

  local function start(config, word, conf)
    w = teller.start(e, { yml = yml(config, word), conf = conf })
  end

  local function reload(config, word)
    w:write_yml(yml(config, word))
    assert(w:reload())
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
    assert.equal("p@ss # \"w\" 'o'\r\n" .. ("x"):rep(65536), teller.ask(w).body)
  end)

  it("runs the operator's statement, and follows the value within its ttl", function()
    server:sql([[INSERT INTO app VALUES (7, '{"x":"one"}')]])
    start(config(", query: 'SELECT word FROM app WHERE id = $1::int', ttl: 1"),
          "{vault://mine/7/x}")
    assert.equal("one", teller.ask(w).body)
    server:sql([[UPDATE app SET word = '{"x":"two"}']])
    teller.until_body(w, "two")
  end)

  it("keeps the last value while PostgreSQL is away", function()
    server:sql("INSERT INTO secrets VALUES ('a', 'one')")
    start(config(", ttl: 1, neg_ttl: 0.2"), "{vault://mine/a}")
    server:stop()
    assert(w:wait_log("mine/a}: PostgreSQL: .*; the last value stays"))
    assert.equal("one", teller.ask(w).body)
    server:start()
    server:sql("UPDATE secrets SET value = 'two'")
    teller.until_body(w, "two")
    server:sql("DELETE FROM secrets")
    assert(w:wait_log("mine/a}: PostgreSQL has no row for a; the last value stays"))
    assert.equal("two", teller.ask(w).body)
    w:expect_log("the last value stays", 2)
  end)

  it("asks the PostgreSQL of weir.conf where its config names none", function()
    server:sql("INSERT INTO secrets VALUES ('a', 'one')")
    start("{}", "{vault://mine/a}", {
      pg_host = "127.0.0.1", pg_port = server.port, pg_password = server.password,
    })
    assert.equal("one", teller.ask(w).body)
  end)

  it("does not repeat what the server says of a value that the statement cannot take", function()
    server:sql("INSERT INTO secrets VALUES ('a', 'hunter2')")
    for i, query in ipairs({ "SELECT value::int::text FROM secrets WHERE name = $1",
                             "SELECT value::json->>''x'' FROM secrets WHERE name = $1" }) do
      local wanted = config(", query: '" .. query .. "'")
      if i == 1 then
        start(wanted, "{vault://mine/a}")
      else
        reload(wanted, "{vault://mine/a}")
      end
      assert.equal(503, teller.ask(w).status)
      assert(w:wait_log("mine/a}: PostgreSQL: the statement fails with SQLSTATE 22P02; it has no"))
      w:expect_log("22P02")
    end
    assert.is_nil(w:log():find("hunter2", 1, true))
  end)

  it("says what is wrong, without a secret", function()
    start(config(", query: 'SELECT x FROM nowhere WHERE y = $1'"), "{vault://mine/a}")
    assert.equal(503, teller.ask(w).status)
    assert(w:wait_log('mine/a}: PostgreSQL: .*relation "nowhere" does not exist'))
    assert.is_nil(w:log():find(server.password, 1, true))
    w:expect_log("nowhere")
    reload((config():gsub(server.password:gsub("%-", "%%-"), "wrong-one")), "{vault://mine/a}")
    assert(w:wait_log("mine/a}: PostgreSQL: .*authentication failed"))
    assert.is_nil(w:log():find("wrong-one", 1, true))
    w:expect_log("authentication failed")
  end)
end)
