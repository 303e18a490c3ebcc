-- Vault entities: what one must say, and what its type says of its config.

require("native")
package.path = package.path .. ";lua/compat/?.lua"

local json = require("weir.json")
local vault_entities = require("weir.entities.vaults")
local vault_fields = require("weir.schema.vault").fields

local subschemas = {
  env = assert(vault_entities.subschema({ name = "env", fields = vault_fields({
    { prefix = { type = "string", match = "^[%a_-][%a%d_-]*$" } },
  }) })),
  -- as Kong's own
  other = assert(vault_entities.subschema({ name = "other", fields = { { config = {
    type = "record", fields = {
      { token = { type = "string", required = true, referenceable = true, encrypted = true } },
      { auth = { type = "record", fields = { { role = { type = "string", default = "r" } } } } },
    },
  } } } })),
}

local vaults = vault_entities.new(subschemas)

local function errors_of(value)
  local accepted, errors = vaults:accept(value)
  assert.is_nil(accepted)
  return errors
end

describe("a vault", function()
  it("is completed by what its type says", function()
    local value = assert(vaults:accept({ prefix = "my-env", name = "env", description = "d",
      tags = { "a" }, config = { prefix = "X_", ttl = 5 } }))
    assert.same({ "my-env", "env", "d" }, { value.prefix, value.name, value.description })
    assert.same({ prefix = "X_", ttl = 5 }, value.config)
    assert.equal(36, #value.id)
    assert.same({}, assert(vaults:accept({ prefix = "e2", name = "env" })).config)
  end)

  it("may be of a type that Kong knows by a schema of its own", function()
    local ref = "{vault://env/token}"
    local value = assert(vaults:accept({ prefix = "o1", name = "other", config = { token = ref } }))
    assert.same({ token = ref, auth = { role = "r" } }, value.config)
    assert.same({ config = { token = "required field missing" } },
      errors_of({ prefix = "o1", name = "other" }))
    assert.same({ config = { ttl = "unknown field" } },
      errors_of({ prefix = "o1", name = "other", config = { token = "t", ttl = 1 } }))
  end)

  it("has a prefix of a certain form", function()
    assert.same({ prefix = "required field missing" }, errors_of({ name = "env" }))
    for _, prefix in ipairs({ "A1", "1a", "a", "a-", "-a", "a_b", "a.b", "a/b", "a b" }) do
      assert.same({ prefix = "expected two or more small letters, digits and '-', a letter first "
        .. "and no '-' last" }, errors_of({ name = "env", prefix = prefix }), prefix)
    end
    for _, prefix in ipairs({ "ab", "a1", "a-b", "a--9", "environment" }) do
      assert.is_table(vaults:accept({ name = "env", prefix = prefix }), prefix)
    end
  end)

  it("has a prefix that is no type's name", function()
    assert.same({ prefix = "must not be one of: env, other" },
      errors_of({ name = "env", prefix = "env" }))
    assert.same({ prefix = "must not be one of: env, other", tag = "unknown field" },
      errors_of({ name = "env", prefix = "other", tag = 1 }))
  end)

  it("is of a type that is there", function()
    assert.same({ name = "vault 'hvc' is not installed" },
      errors_of({ name = "hvc", prefix = "my" }))
    assert.same({ name = "required field missing" }, errors_of({ prefix = "my" }))
    assert.same({ name = "required field missing" },
      errors_of({ prefix = "my", name = json.null }))
    assert.same({ name = "expected a string" }, errors_of({ prefix = "my", name = 5 }))
    assert.same({ ["@entity"] = { "expected a record" } }, errors_of("my"))
  end)

  it("says what of a type's schema cannot be", function()
    assert.same({ nil, "a schema is a table with 'name' and 'fields'" },
      { vault_entities.subschema({ name = "x" }) })
    assert.equal("prefixx: a vault has no such field (its own fields belong into config)",
      select(2, vault_entities.subschema({ name = "x", fields = { { prefixx = {} } } })))
  end)
end)
