-- The vault redis on weir.conf's own Redis, whose password is a secret, too.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local redis = require "lib.redis"
local teller = require "lib.teller"

describe("the vault redis on the Redis of weir.conf", function()
  local e, w, server

  before_each(function()
    e = env.new()
    server = redis.start(e, { password = "of the server" })
    server:cli("SET", "a", "one")
  end)

  after_each(function()
    e:check()
    if w then
      w:stop()
    end
    e:destroy()
    w = nil
  end)

  local function start(password, more)
    w = teller.start(e, {
      yml = teller.yml("prefix: mine, name: redis, config: {" .. (more or "") .. "}",
                       "{vault://mine/a}"),
      conf = { redis_host = "127.0.0.1", redis_port = server.port, redis_password = password },
    })
  end

  it("waits for its password", function()
    e:write("run/password", "of the server\n")
    start("{vault://fs/password?prefix=" .. e:path("run") .. "}")
    assert.equal("one", teller.ask(w).body)
    assert.same({ "one\n", 0 }, { w:command("vault", { args = { "get", "mine/a" } }) })
  end)

  it("needs none of it for another Redis", function()
    start("{vault://env/not-there}",
          "redis: { host: 127.0.0.1, port: " .. server.port .. ", password: of the server }")
    assert.equal("one", teller.ask(w).body)
    w:expect_log("the environment has no NOT_THERE")
  end)

  it("is refused where it would have to look up its own password", function()
    start("of the server")
    local text, code = w:command("check", { vars = { WEIR_REDIS_PASSWORD = "{vault://redis/a}" } })
    assert.equal(1, code)
    assert.matches("WEIR_REDIS_PASSWORD: redis_password: the vault redis needs this secret to look "
      .. "it up [{vault://redis/a}]", text, 1, true)
  end)
end)
