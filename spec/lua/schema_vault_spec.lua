-- What every vault's schema.lua is made with.

local schema = require("weir.schema")
local vault = require("weir.schema.vault")

local function check(own, config)
  local checker = assert(schema.new({ name = "x", fields = vault.fields(own) }))
  return checker:accept({ config = config })
end

describe("weir.schema.vault", function()
  it("adds the times to the vault's own fields", function()
    local value, err = check({ { prefix = { type = "string" } } }, {
      prefix = "A_", ttl = 0, neg_ttl = 1.5, resurrect_ttl = 3600, min_ttl = 1, max_ttl = 2,
    })
    assert.is_nil(err)
    assert.equal(1.5, value.config.neg_ttl)
  end)

  it("has no default of a time", function()
    assert.same({ config = {} }, (check({}, nil)))
  end)

  it("refuses times that are no seconds", function()
    local _, err = check({}, { ttl = -1, neg_ttl = "soon", max = 1 })
    assert.same({ config = {
      ttl = "value should be between 0 and 100000000", neg_ttl = "expected a number",
      max = "unknown field",
    } }, err)
  end)

  it("lets the vault say of a time what it will", function()
    local value = check({ { ttl = { type = "number", default = 0 } } }, {})
    assert.equal(0, value.config.ttl)
  end)

  it("leaves the vault's own list alone", function()
    local own = { { prefix = { type = "string" } } }
    vault.fields(own)
    assert.equal(1, #own)
  end)

  it("refuses what is no list", function()
    assert.has_error(function() vault.fields(nil) end, "fields expects a list of fields")
  end)
end)
