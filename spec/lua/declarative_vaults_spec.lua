-- Vaults in declarative files, and what is said of references to secrets there.

require("native")
package.path = package.path .. ";lua/compat/?.lua"

package.loaded["weir.deprecation"] = { say = function() end }

local declarative = require("weir.store.declarative")
local plugin_entities = require("weir.entities.plugins")
local redis = require("weir.schema.redis")
local vault_entities = require("weir.entities.vaults")
local vault_fields = require("weir.schema.vault").fields

local plugins = {
  limit = assert(plugin_entities.subschema({ name = "limit", fields = { { config = {
    type = "record", shorthand_fields = redis.aliases("limit"), fields = {
      { redis = redis.record }, { plain = { type = "string" } },
      { keys = { type = "array", elements = { type = "string", referenceable = true } } },
      { headers = { type = "map", keys = { type = "string" },
                    values = { type = "string", referenceable = true } } },
    },
  } } } })),
}

local vaults = {
  env = assert(vault_entities.subschema({ name = "env", fields = vault_fields({
    { prefix = { type = "string" } },
  }) })),
  hcv = assert(vault_entities.subschema({ name = "hcv", fields = vault_fields({
    { host = { type = "string", required = true } },
    { token = { type = "string", referenceable = true, encrypted = true } },
  }) })),
}

-- as weir.vault's, without its types
local function check_reference(text, declared)
  local name = text:match("^{vault://([^/]+)/[^/]")
  if not name then
    return nil, "reference url is missing path [" .. text .. "]"
  elseif not vaults[name] and not declared[name] then
    return nil, "could not find vault (" .. name .. ") [" .. text .. "]"
  end
  return true
end

local HEAD = '_format_version: "3.0"\n'

local function parse(text, options)
  return declarative.parse(HEAD .. text, plugins, "weir.yml",
    options or { vaults = vaults, check_reference = check_reference })
end

local function good(...)
  local config, errors = parse(...)
  assert(config, errors and declarative.errors_to_string(errors, "f"))
  return config
end

local function errors_of(...)
  local config, errors = parse(...)
  assert.is_nil(config)
  local out = {}
  for i, err in ipairs(errors) do
    out[i] = (err.line or "-") .. " " .. (err.path ~= "" and err.path .. ": " or "") .. err.message
  end
  return out
end

local two = [[
vaults:
- prefix: my-env
  name: env
  description: what systemd passes
  tags: [a]
  config: {prefix: SECRET_, ttl: 60}
- prefix: site
  name: hcv
  config:
    host: 127.0.0.1
    token: "{vault://my-env/hcv-token}"
]]

describe("declarative, vaults", function()
  it("takes them, and completes them", function()
    local config = good(two)
    local one, other = config.vaults[1], config.vaults[2]
    assert.same({ "my-env", "env", "what systemd passes", { "a" } },
      { one.prefix, one.name, one.description, one.tags })
    assert.same({ prefix = "SECRET_", ttl = 60 }, one.config)
    assert.equal("{vault://my-env/hcv-token}", other.config.token)
    assert.is_number(one.created_at)
  end)

  it("gives an id that follows from the prefix", function()
    local before = good(two).vaults
    local after = good((two:gsub("SECRET_", "OTHER_"))).vaults
    assert.equal(before[1].id, after[1].id)
    assert.are_not.equal(before[1].id, before[2].id)
    assert.are_not.equal(before[1].id, good((two:gsub("my%-env", "mine"))).vaults[1].id)
  end)

  it("says what is wrong with one, and where", function()
    assert.same({ "3 vaults[1].name: vault 'zork' is not installed" },
      errors_of("vaults:\n- {name: zork, prefix: my}"))
    assert.same({ "4 vaults[1].prefix: must not be one of: env, hcv" },
      errors_of("vaults:\n- name: env\n  prefix: hcv"))
    assert.same({ "4 vaults[1].prefix: expected two or more small letters, digits and '-', "
                  .. "a letter first and no '-' last" },
      errors_of("vaults:\n- name: env\n  prefix: My"))
    assert.same({ "3 vaults[1].prefix: required field missing" },
      errors_of("vaults:\n- name: env"))
    assert.same({ "6 vaults[1].config.ttl: value should be between 0 and 100000000" },
      errors_of("vaults:\n- name: env\n  prefix: my\n  config:\n    ttl: -1"))
    assert.same({ "4 vaults[2]: uniqueness violation: 'vaults' entity with prefix set to 'my' "
      .. "already declared" },
      errors_of("vaults:\n- {name: env, prefix: my}\n- {name: env, prefix: my}"))
    assert.same({ "2 services[1].vaults: unknown field" },
      errors_of("services: [{host: a, vaults: []}]"))
  end)

  it("knows no type of vault that it is not told of", function()
    assert.same({ "3 vaults[1].name: vault 'env' is not installed" },
      errors_of("vaults:\n- {name: env, prefix: my}", {}))
  end)
end)

describe("declarative, references", function()
  local function plugin(config)
    return "plugins:\n- name: limit\n  config:\n    " .. config
  end

  it("stay what they are", function()
    local ref = "{vault://env/secret-redis-password}"
    local config = good(plugin("redis_password: '" .. ref .. "'\n    redis_port: '" .. ref
      .. "'\n    keys: [a, '" .. ref .. "']")).plugins[1].config
    assert.same({ ref, ref }, { config.redis.password, config.redis.port })
    assert.same({ "a", ref }, config.keys)
  end)

  it("may name a vault of the same file, wherever it stands", function()
    good(plugin("redis: {password: '{vault://my-env/x}'}\n") .. two)
    assert.same({ "5 plugins[1].config.redis.password: could not find vault (my-env) "
      .. "[{vault://my-env/x}]" }, errors_of(plugin("redis: {password: '{vault://my-env/x}'}")))
  end)

  it("that are wrong are reported where they stand", function()
    assert.same({
      "6 plugins[1].config.redis.password: reference url is missing path [{vault://env}]",
      "7 plugins[1].config.keys[2]: could not find vault (evn) [{vault://evn/a}]",
      "9 plugins[1].config.headers.x: reference url is missing path [{vault://}]",
    }, errors_of(plugin("redis:\n      password: '{vault://env}'\n    keys: [a, '{vault://evn/a}']"
      .. "\n    headers:\n      x: '{vault://}'")))
  end)

  it("that are wrong are reported by the name that they were given", function()
    assert.same({
      "5 plugins[1].config.redis_password: could not find vault (x) [{vault://x/y}]",
    }, errors_of(plugin("redis_password: '{vault://x/y}'")))
  end)

  it("that are wrong are reported beside what else is", function()
    assert.same({
      "5 plugins[1].config.redis_password: could not find vault (x) [{vault://x/y}]",
      "6 services[1].host: required field missing",
    }, errors_of(plugin("redis_password: '{vault://x/y}'\nservices: [{name: a}]")))
  end)

  it("are no references where they may not stand", function()
    assert.equal("{vault://x}", good(plugin("plain: '{vault://x}'")).plugins[1].config.plain)
  end)

  it("are not looked at while a vault is wrong", function()
    assert.same({ "3 vaults[1].config.host: required field missing" },
      errors_of("vaults:\n- {name: hcv, prefix: my}\n"
        .. plugin("redis: {password: '{vault://my/x}'}")))
  end)

  it("are not looked at without somebody who knows them", function()
    good(plugin("redis: {password: '{vault://x}'}"), {})
  end)

  it("of vaults must not lead back to them", function()
    local function vault(prefix, token)
      return "- {prefix: " .. prefix .. ", name: hcv, config: {host: h, token: '{vault://" .. token
        .. "/t}'}}\n"
    end
    assert.same({
      "3 vaults[1].config.token: the vault a1 needs itself: a1 -> a1 [{vault://a1/t}]",
    }, errors_of("vaults:\n" .. vault("a1", "a1")))
    assert.same({
      "5 vaults[3].config.token: the vault c1 needs itself: c1 -> a1 -> b1 -> c1 [{vault://a1/t}]",
    }, errors_of("vaults:\n" .. vault("a1", "b1") .. vault("b1", "c1") .. vault("c1", "a1")))
    good("vaults:\n" .. vault("a1", "b1") .. vault("b1", "c1") .. vault("c1", "env")
      .. vault("d1", "b1"))
  end)
end)
