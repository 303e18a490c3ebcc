-- `weir config show`: what it prints of a configuration, and its exit status.

local weir = require("native")
package.path = package.path .. ";lua/compat/?.lua"

package.loaded["weir.deprecation"] = { say = function() end }
weir.ffi.cdef("int setenv(const char *name, const char *value, int overwrite);")
weir.ffi.C.setenv("WEIR_PLUGIN_DIR", "plugins", 1)
weir.ffi.C.setenv("WEIR_VAULTS", "env", 1)

local declarative = require("weir.store.declarative")
local json = require("weir.json")
local loader = require("weir.loader")
local plugin_entities = require("weir.entities.plugins")
local vault_entities = require("weir.entities.vaults")

local YML = [[
_format_version: "3.0"
vaults:
- {prefix: my-vault, name: safe, config: {token: t0ken, tokens: [a, "{vault://my-env/b}"]}}
- {prefix: my-env, name: env}
services:
- {name: shop, host: 127.0.0.1, plugins: [{name: rate-limiting, config: {minute: 1}}]}
- name: shop.example
  url: http://127.0.0.1:8080
  tags: []
  routes:
  - name: r1
    paths: [/a, /b]
    headers: {x-y: [z]}
    plugins:
    - {name: rate-limiting, config: {minute: 2}}
    - {name: old, config: {size: 5}}
plugins:
- name: response-ratelimiting
  instance_name: mine
  config:
    limits: {sms.eu: {minute: 7}}
    policy: redis
    redis_password: "{vault://env/secret-redis-password}"
    redis:
      host: localhost
      sentinel_master: m
      sentinel_role: any
      sentinel_nodes: [{host: s1}, {host: s2, port: 26379}]
      sentinel_password: pa55
]]

-- a vault of Kong's form, and a plugin whose old field has a way back of its own
local vault_types = {
  safe = { schema = assert(vault_entities.subschema({ name = "safe", fields = { { config = {
    type = "record", fields = {
      { token = { type = "string", encrypted = true } },
      { tokens = { type = "array", encrypted = true, referenceable = true,
                   elements = { type = "string" } } },
    },
  } } } })) },
  env = { schema = assert(vault_entities.subschema({ name = "env", fields = {} })) },
}
local plugins = loader.load({ "plugins" }, { "rate-limiting", "response-ratelimiting" })
plugins.old = { schema = assert(plugin_entities.subschema({ name = "old", fields = { { config = {
  type = "record", fields = { { length = { type = "integer" } } },
  shorthand_fields = { { size = {
    type = "integer", translate_backwards = { "length" },
    func = function(value) return { length = value } end,
  } } },
} } } })) }

local problem
package.loaded["weir.config"] = { load = function()
  if problem then
    return nil, problem
  end
  local config, errors = declarative.parse(YML, loader.subschemas(plugins), "weir.yml",
    { vaults = loader.subschemas(vault_types) })
  assert(config, errors and declarative.errors_to_string(errors))
  return { config = config, plugins = plugins, vaults = vault_types }
end }

local command_line = require("command_line")

local function run(...)
  return command_line("config", ...)
end

local function shown(path)
  local status, out, err = run("show", path)
  assert.same({ 0, "" }, { status, err })
  return out
end

local function refused(path)
  local status, out, err = run("show", path)
  assert.same({ 1, "" }, { status, out })
  return err
end

describe("weir config show", function()
  before_each(function()
    problem = nil
  end)

  it("prints all of it, in order, as JSON that is indented", function()
    local text = shown()
    assert.matches('^{\n  "plugins": %[\n    {\n      "config": {\n', text)
    local value = assert(json.decode(text))
    assert.same({ "shop", "shop.example" }, { value.services[1].name, value.services[2].name })
    assert.same({ 4, 1, 2, 2 },
      { #value.plugins, #value.routes, #value.services, #value.vaults })
    assert.equal(value.services[2].id, value.routes[1].service.id)
    assert.is_nil(value.routes[1].service.host)
    assert.matches('"tags": %[%]', text)
  end)

  it("fills in defaults", function()
    assert.equal("60000\n", shown("services.shop.read_timeout"))
    assert.equal("429\n", shown("plugins[1].config.error_code"))
  end)

  it("prints references as they are", function()
    assert.equal('"{vault://env/secret-redis-password}"\n',
      shown("plugins.response-ratelimiting.config.redis.password"))
    assert.equal('[\n  "********",\n  "{vault://my-env/b}"\n]\n',
      shown("vaults.my-vault.config.tokens"))
  end)

  it("masks what is secret", function()
    assert.equal('"********"\n', shown("vaults.my-vault.config.token"))
    assert.equal('"********"\n', shown("plugins.mine.config.redis.sentinel_password"))
    local text = shown()
    assert.is_nil(text:find("t0ken", 1, true))
    assert.is_nil(text:find("pa55", 1, true))
  end)

  it("prints the old names beside the new ones", function()
    local value = json.decode(shown("plugins.mine.config"))
    assert.equal(value.redis.password, value.redis_password)
    assert.same({ "localhost", "********" }, { value.redis_host, value.redis_sentinel_password })
    assert.same({ "s1:6379", "s2:26379" }, value.redis.sentinel_addresses)
    assert.same({ "s1:6379", "s2:26379" }, value.redis_sentinel_addresses)
    assert.is_nil(value.redis.cluster_addresses)
    assert.same({ length = 5, size = 5 }, json.decode(shown("plugins.old.config")))
    assert.is_nil(json.decode(shown("services[2]")).url)
  end)

  it("finds entities by id, name, instance_name, prefix and number", function()
    local id = json.decode(shown("plugins.mine.id"))
    for _, name in ipairs({ id, "mine", "response-ratelimiting", "4" }) do
      assert.equal('"mine"\n', shown("plugins." .. name .. ".instance_name"), name)
    end
    assert.equal('"mine"\n', shown("plugins[4].instance_name"))
    assert.equal("80\n", shown("services.shop.port"))
    assert.equal("8080\n", shown("services.shop.example.port"))
    assert.equal(2, #json.decode(shown("services")))
  end)

  it("finds what is in lists and maps", function()
    assert.equal('"/b"\n', shown("routes.r1.paths[2]"))
    assert.equal('"/b"\n', shown("routes.r1.paths.2"))
    assert.equal('"z"\n', shown("routes.r1.headers.x-y[1]"))
    assert.equal("7\n", shown("plugins.mine.config.limits.sms.eu.minute"))
    assert.equal('"s2"\n', shown("plugins.mine.config.redis.sentinel_nodes[2].host"))
  end)

  it("prints null for what is not set", function()
    assert.equal("null\n", shown("plugins.mine.config.redis.username"))
    assert.equal("null\n", shown("services.shop.path"))
  end)

  it("says where a path leads nowhere", function()
    assert.equal("weir: there is no zork.x: a path begins with services, routes, plugins, vaults\n",
      refused("zork.x"))
    assert.equal("weir: services: there is no shap\n", refused("services.shap.host"))
    assert.equal("weir: services: there is no 3\n", refused("services[3]"))
    assert.equal("weir: plugins.mine.config: there is no rediss\n",
      refused("plugins.mine.config.rediss.password"))
    assert.equal("weir: plugins.mine.config.redis: there is no username\n",
      refused("plugins.mine.config.redis.username.x"))
    assert.equal("weir: plugins.mine.config.policy: there is nothing below this value\n",
      refused("plugins.mine.config.policy.x"))
    assert.equal("weir: routes.r1.paths: there is no 3\n", refused("routes.r1.paths[3]"))
    assert.matches("^weir: there is no : ", refused(""))
  end)

  it("asks which one is meant", function()
    assert.equal("weir: plugins.rate-limiting: there are several:\n"
      .. "  plugins[1]  service shop\n  plugins[2]  route r1\n",
      refused("plugins.rate-limiting.config.minute"))
  end)

  it("says what is wrong with the configuration", function()
    problem = "weir.yml:3: services[1].host: required field missing"
    assert.equal("weir: " .. problem .. "\n", refused())
  end)

  it("conf prints the keys of weir.conf", function()
    local conf = require("weir.conf")
    local keys, settings = conf.keys, conf.vault_settings
    conf.keys = function()
      return {
        { name = "user", text = "a#b", is_secret = false },
        { name = "pg_password", text = "", is_secret = true },
        { name = "redis_password", text = "{vault://env/x}", is_secret = false },
      }
    end
    conf.vault_settings = function()
      return {
        { name = "env_prefix", text = "X_" }, { name = "env_zork", text = "s3cret" },
        { name = "zork_token", text = "s3cret" }, { name = "zork_a", text = "{vault://env/y}" },
      }
    end
    local status, out, err = run("show", "conf")
    conf.keys, conf.vault_settings = keys, settings
    assert.same({ 0, "" }, { status, err })
    assert.equal("user = a\\#b\npg_password = ********\nredis_password = {vault://env/x}\n"
      .. "vault_env_prefix = X_\nvault_env_zork = ********\nvault_zork_token = ********\n"
      .. "vault_zork_a = {vault://env/y}\n", out)
  end)

  it("anything else is misuse", function()
    for _, args in ipairs({ {}, { "zork" }, { "show", "a", "b" } }) do
      local status, out, err = run(unpack(args))
      assert.same({ 2, "" }, { status, out })
      assert.matches("^Usage: weir config show", err)
    end
    assert.equal(0, (run("--help")))
  end)
end)
