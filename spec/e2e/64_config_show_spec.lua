-- `weir config show`, as an administrator types it: references and no secrets.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local weir = require "lib.weir"

local YML = [[
_format_version: "3.0"
vaults:
- {prefix: my-env, name: env, config: {prefix: SECRET_}}
plugins:
- name: rate-limiting
  config:
    minute: 5
    policy: redis
    redis:
      host: 127.0.0.1
      password: "{vault://env/secret-redis-password}"
- name: response-ratelimiting
  config:
    limits: {sms: {minute: 5}}
    policy: redis
    redis: {host: 127.0.0.1, password: "s3cret-of-yml"}
]]

describe("weir config show", function()
  local e, w

  before_each(function()
    e = env.new()
  end)

  after_each(function()
    e:destroy()
  end)

  local function show(...)
    local text, code = w:command("config", { args = { "show", ... } })
    assert.is_nil(text:find("s3cret", 1, true), text)
    return code, text
  end

  it("prints what would be served, and the keys of weir.conf", function()
    w = weir.new(e, { yml = YML, conf = {
      redis_password = "s3cret-of-conf", pg_password = "{vault://env/pg}",
      vault_env_prefix = "APP_",
    } })
    local code, text = show("plugins.rate-limiting.config.redis.password")
    assert.same({ 0, '"{vault://env/secret-redis-password}"\n' }, { code, text })
    code, text = show("vaults.my-env.config.prefix")
    assert.same({ 0, '"SECRET_"\n' }, { code, text })
    code, text = show("plugins.response-ratelimiting.config.redis_password")
    assert.same({ 0, '"********"\n' }, { code, text })
    code, text = show()
    assert.equal(0, code)
    assert.matches('^{\n  "plugins": %[', text)
    code, text = show("conf")
    assert.equal(0, code)
    assert.matches("\nredis_password = %*%*%*%*%*%*%*%*\n", text)
    assert.matches("\npg_password = {vault://env/pg}\n", text)
    assert.matches("\nvault_env_prefix = APP_\n", text)
    assert.matches("\nmax_requests = %d+\n", text)
    code, text = show("plugins.rate-limiting.config.zork")
    assert.same({ 1, "weir: plugins.rate-limiting.config: there is no zork\n" }, { code, text })
    assert.equal(2, (show("a", "b")))
  end)

  it("says what is wrong, and where", function()
    w = weir.new(e, { yml = (YML:gsub("vault://env", "vault://evn")) })
    local code, text = show()
    assert.equal(1, code)
    assert.matches("weir%.yml:11: plugins%[1%]%.config%.redis%.password: could not find vault "
      .. "%(evn%) %[{vault://evn/secret%-redis%-password}%]", text)
    for _, command in ipairs({ "check", "start" }) do
      text, code = w:command(command)
      assert.equal(1, code)
      assert.matches("weir%.yml:11: plugins%[1%]%.config%.redis%.password: could not find", text)
    end
  end)

  it("reload refuses what is wrong, and what runs goes on", function()
    w = weir.new(e, { yml = YML })
    local text, code = w:command("start")
    assert.equal(0, code, text)
    w:write_yml((YML:gsub("{vault://env/[^}]*}", "{vault://env}")))
    text, code = w:command("reload")
    w:command("stop")
    assert.equal(1, code)
    assert.matches("weir%.yml:11: plugins%[1%]%.config%.redis%.password: "
      .. "reference url is missing path %[{vault://env}%]", text)
  end)
end)
