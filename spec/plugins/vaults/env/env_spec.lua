-- The vault env: which variable a reference names, and what its config may say.

local weir = require("native")

local env = dofile("plugins/vaults/env/init.lua")
local loader = require("weir.vault.loader")

weir.ffi.cdef("int setenv(const char *name, const char *value, int overwrite);")

local function set(name, value)
  weir.ffi.C.setenv(name, value, 1)
end

describe("the vault env", function()
  it("reads the variable that a resource names", function()
    set("WEIR_SPEC_REDIS_PASSWORD", "a # b\"c'\n d")
    assert.equal("a # b\"c'\n d", env.get({}, "weir-spec-redis-password"))
    assert.equal("a # b\"c'\n d", env.get({}, "WEIR_SPEC-Redis_password"))
  end)

  it("puts the prefix before it", function()
    set("WEIR_SPEC_REDIS_PASSWORD", "x")
    assert.equal("x", env.get({ prefix = "weir-spec-" }, "redis-password"))
    assert.equal("x", env.get({ prefix = "WEIR_SPEC_" }, "redis_password"))
  end)

  it("takes an empty value for a value", function()
    set("WEIR_SPEC_EMPTY", "")
    assert.equal("", env.get({}, "weir-spec-empty"))
  end)

  it("gives long values whole", function()
    local long = ("0123456789abcdef"):rep(4096)
    set("WEIR_SPEC_LONG", long)
    assert.equal(long, env.get({}, "weir-spec-long"))
  end)

  it("says which variable is missing", function()
    assert.same({ nil, "the environment has no WEIR_SPEC_NO" }, { env.get({}, "weir-spec-no") })
    assert.same({ nil, "the environment has no WEIR_SPEC_REDIS_PASSWORD_PREVIOUS" },
      { env.get({ prefix = "weir_spec_" }, "redis-password", 2) })
  end)

  it("knows the version before", function()
    set("WEIR_SPEC_TURN", "new")
    set("WEIR_SPEC_TURN_PREVIOUS", "old")
    assert.equal("new", env.get({}, "weir-spec-turn", 1))
    assert.equal("old", env.get({}, "weir-spec-turn", 2))
    assert.same({ nil, "the environment has no version 3 of anything, only 1 and 2" },
      { env.get({}, "weir-spec-turn", 3) })
  end)

  it("decodes base64", function()
    set("WEIR_SPEC_CODED", "cGFzcwD/\n")
    set("WEIR_SPEC_NOT_CODED", "pass!")
    assert.equal("pass\0\255", env.get({ base64_decode = true }, "weir-spec-coded"))
    local value, err = env.get({ base64_decode = true }, "weir-spec-not-coded")
    assert.is_nil(value)
    assert.equal("WEIR_SPEC_NOT_CODED in the environment is not base64", err)
  end)

  it("refuses names that no variable has", function()
    for _, name in ipairs({ "home=x", "home\0x" }) do
      assert.same({ nil, "the environment can have no variable of that name" },
        { env.get({}, name) })
    end
  end)

  it("checks its config", function()
    local schema = loader.load({ "plugins" }, { "env" }).env.schema
    local function accept(config)
      return schema:accept({ name = "env", prefix = "mine", config = config })
    end
    local entity = assert(accept({ prefix = "SECRET_", ttl = 5 }))
    assert.same({ "SECRET_", 5, false },
      { entity.config.prefix, entity.config.ttl, entity.config.base64_decode })
    for _, prefix in ipairs({ "1A", "a.b", "a b", "", 5 }) do
      local _, errors = accept({ prefix = prefix })
      assert.is_truthy(errors.config.prefix)
    end
    local _, errors = accept({ prefx = "a" })
    assert.same({ prefx = "unknown field" }, errors.config)
  end)
end)
