-- References to secrets in what schemas check: where one may stand, and what is
-- not asked of it there.

require("native")
package.path = package.path .. ";lua/compat/?.lua"

local references = require("weir.schema.references")
local schema = require("weir.schema")
local types = require("weir.schema.types")
local typedefs = require("weir.schema.typedefs")

package.loaded["weir.deprecation"] = { say = function() end }

local REF = "{vault://env/some-secret}"
local OTHER = "{vault://env/other-secret}"

local function of(fields, rest)
  local definition = rest or {}
  definition.name, definition.fields = "t", fields
  return assert(schema.new(definition, { complete_records = true }))
end

local function errors_of(checker, value)
  local _, errors = checker:accept(value)
  return errors
end

-- the errors of one field f with attrs
local function errors_with(attrs, value)
  local errors = errors_of(of({ { f = attrs } }), { f = value })
  return errors and errors.f
end

describe("a reference", function()
  it("is told by its ends alone", function()
    for _, text in ipairs({ REF, "{vault://}", "{vault://x y\n}", "{vault://a/b?c=d#1}" }) do
      assert.is_true(types.is_reference(text), text)
    end
    for _, value in ipairs({ "vault://env/x", "{vault:/env/x}", " {vault://env/x}",
      "{vault://env/x", "{vault://env/x} ", "", 5, true, {} }) do
      assert.is_false(types.is_reference(value), tostring(value))
    end
    assert.is_false(types.is_reference(nil))
  end)

  it("passes all that is asked of a field that may be one", function()
    for _, attrs in ipairs({
      { type = "string", one_of = { "a" } }, { type = "string", len_max = 3, match = "^%d$" },
      { type = "string", custom_validator = function() return nil, "no" end },
      { type = "integer", between = { 0, 10 } }, { type = "number", gt = 3 },
      { type = "boolean", eq = true }, typedefs.host {}, typedefs.port {}, typedefs.sni {},
      typedefs.uuid {}, typedefs.url {},
    }) do
      assert.is_table(of({ { f = attrs } }))
      assert.is_truthy(errors_with(attrs, REF))
      attrs.referenceable = true
      assert.is_nil(errors_with(attrs, REF))
    end
  end)

  it("is a text like another where it may not stand", function()
    assert.is_nil(errors_with({ type = "string" }, REF))
    assert.equal("expected an integer", errors_with({ type = "integer" }, REF))
    assert.equal("expected an array",
      errors_with({ type = "array", referenceable = true, elements = { type = "string" } }, REF))
    assert.equal("expected a record",
      errors_with({ type = "record", referenceable = true, fields = {} }, REF))
  end)

  it("fills a required field, but not one that must be null", function()
    local null = require("weir.json").null
    assert.is_nil(errors_with({ type = "string", required = true, referenceable = true }, REF))
    assert.equal("value must be null",
      errors_with({ type = "string", eq = null, referenceable = true }, REF))
  end)

  it("passes as a member of lists and maps, whichever says so", function()
    local member = { type = "string", one_of = { "a" }, referenceable = true }
    local plain = { type = "string", one_of = { "a" } }
    for _, kind in ipairs({ "array", "set" }) do
      assert.is_nil(errors_with({ type = kind, elements = member }, { "a", REF }))
      assert.is_nil(errors_with({ type = kind, elements = plain, referenceable = true }, { REF }))
      assert.same({ [2] = "expected one of: a" },
        errors_with({ type = kind, elements = plain }, { "a", REF }))
    end
    local keys = { type = "string" }
    assert.is_nil(errors_with({ type = "map", keys = keys, values = member }, { x = REF }))
    assert.is_nil(
      errors_with({ type = "map", keys = keys, values = plain, referenceable = true }, { x = REF }))
    assert.same({ x = "expected one of: a" },
      errors_with({ type = "map", keys = keys, values = plain }, { x = REF }))
    assert.same({ "expected one of: a" }, errors_with({
      type = "array", referenceable = true,
      elements = { type = "string", one_of = { "a" }, referenceable = false },
    }, { REF }))
  end)

  it("may be a default", function()
    local value = of({ { f = { type = "integer", referenceable = true, default = REF } } })
      :accept({})
    assert.same({ f = REF }, value)
  end)
end)

describe("checks over fields and references", function()
  local secret = { type = "string", referenceable = true }
  local a_number = { type = "integer", referenceable = true }

  local function checker(check, a, b)
    return of({ { a = a or secret }, { b = b or secret } }, { entity_checks = { check } })
  end

  it("a reference counts as filled", function()
    local both = { "a", "b" }
    assert.is_nil(errors_of(checker({ at_least_one_of = both }), { a = REF }))
    assert.is_nil(errors_of(checker({ only_one_of = both }), { a = REF }))
    assert.is_table(errors_of(checker({ only_one_of = both }), { a = REF, b = REF }))
    assert.is_table(errors_of(checker({ mutually_required = both }), { a = REF }))
    assert.is_table(errors_of(checker({ mutually_exclusive = both }), { a = REF, b = REF }))
  end)

  it("nobody knows whether two references are the same", function()
    local check = { distinct = { "a", "b" } }
    assert.is_nil(errors_of(checker(check), { a = REF, b = REF }))
    assert.is_table(errors_of(checker(check, { type = "string" }, { type = "string" }),
      { a = REF, b = REF }))
  end)

  it("a condition on one does not apply, and one fulfils what follows", function()
    local check = { conditional = {
      if_field = "a", if_match = { ne = "x" }, then_field = "b", then_match = { gt = 5 },
    } }
    local c = checker(check, nil, a_number)
    assert.is_table(errors_of(c, { a = "y", b = 1 }))
    assert.is_nil(errors_of(c, { a = REF, b = 1 }))
    assert.is_nil(errors_of(c, { a = "y", b = REF }))
    local must_be_null = { conditional = {
      if_field = "a", if_match = { eq = "y" },
      then_field = "b", then_match = { eq = require("weir.json").null },
    } }
    assert.is_table(errors_of(checker(must_be_null), { a = "y", b = "z" }))
    assert.is_nil(errors_of(checker(must_be_null), { a = "y", b = REF }))
    local choice = { conditional_at_least_one_of = {
      if_field = "a", if_match = { eq = "y" }, then_at_least_one_of = { "b" },
      else_match = { ne = "y" }, else_then_at_least_one_of = { "b" },
    } }
    assert.is_table(errors_of(checker(choice), { a = "z" }))
    assert.is_nil(errors_of(checker(choice), { a = REF }))
  end)

  it("a check of its own is not asked about one", function()
    local function refuse()
      return nil, "no"
    end
    local check = { custom_entity_check = { field_sources = { "a" }, fn = refuse } }
    assert.same({ "no" }, errors_of(checker(check), { a = "x", b = REF })["@entity"])
    assert.is_nil(errors_of(checker(check), { a = REF }))
    assert.is_table(errors_of(checker(check, { type = "string" }), { a = REF }))
    local list = { type = "array", elements = secret }
    assert.is_table(errors_of(checker(check, list), { a = { "x" } }))
    assert.is_nil(errors_of(checker(check, list), { a = { "x", REF } }))
  end)

  it("a check of a record with one inside is asked, and may stumble", function()
    local calls = 0
    local record = { type = "record", fields = { { n = a_number }, { m = a_number } } }
    local c = of({ { a = record } }, { entity_checks = { { custom_entity_check = {
      field_sources = { "a" },
      fn = function(entity)
        calls = calls + 1
        return entity.a.n > 5, "too little"
      end,
    } } } })
    assert.same({ "too little" }, errors_of(c, { a = { n = 1, m = REF } })["@entity"])
    assert.is_nil(errors_of(c, { a = { n = 6, m = REF } }))
    assert.is_nil(errors_of(c, { a = { n = REF } }))
    assert.equal(3, calls)
    assert.has_error(function()
      c:accept({ a = { m = 1 } })
    end)
  end)

  it("no transformation changes one", function()
    local c = of({ { a = secret }, { b = { type = "string" } } }, { transformations = { {
      input = { "a" }, on_write = function(a)
        return { b = "digest of " .. a }
      end,
    } } })
    assert.equal("digest of x", c:accept({ a = "x" }).b)
    assert.is_nil(c:accept({ a = REF }).b)
  end)
end)

describe("shorthand fields and references", function()
  local c = of({ { new = { type = "record", fields = {
    { port = { type = "integer", referenceable = true } },
    { password = { type = "string", referenceable = true, encrypted = true } },
    { size = { type = "integer" } },
  } } } }, { shorthand_fields = {
    { old_port = { type = "integer",
      deprecation = { replaced_with = { { path = { "new", "port" } } } } } },
    { old_password = { type = "string",
      deprecation = { replaced_with = { { path = { "new", "password" } } } } } },
    { old_size = { type = "integer",
      deprecation = { replaced_with = { { path = { "new", "size" } } } } } },
    { twice = { type = "integer", referenceable = true, func = function(value)
      return { new = { port = value } }
    end } },
  } })

  it("stand for references, whatever their type", function()
    assert.same({ port = REF, password = OTHER },
      c:accept({ old_port = REF, old_password = OTHER }).new)
    assert.same({ port = REF }, c:accept({ twice = REF }).new)
    assert.equal("expected an integer", errors_of(c, { old_size = REF }).old_size)
  end)

  it("are compared as texts, and shown; a secret is not", function()
    assert.same({ password = REF },
      c:accept({ old_password = REF, new = { password = REF } }).new)
    local words = "both deprecated and new field are used but their values mismatch: "
    assert.equal(words .. "old_password = " .. REF .. " vs new.password = " .. OTHER,
      errors_of(c, { old_password = REF, new = { password = OTHER } }).old_password)
    assert.equal(words .. "old_password = *** vs new.password = " .. REF,
      errors_of(c, { old_password = "plain", new = { password = REF } }).old_password)
  end)
end)

describe("messages about secrets", function()
  it("do not hold them", function()
    local attrs = { type = "string", encrypted = true, match = "^[a-z]+$" }
    assert.equal("invalid value: ***", errors_with(attrs, "s3.cr%t"))
    assert.same({ [2] = "invalid value: ***" }, errors_with({
      type = "array", encrypted = true, elements = { type = "string", match = "^[a-z]+$" },
    }, { "a", "s3cret" }))
    assert.equal("invalid value: ***", errors_of(of({}, { shorthand_fields = {
      { old = { type = "string", encrypted = true, func = function() end } },
    } }), { old = "s3cret" }).old)
    assert.equal("invalid value: s3cret", errors_with({ type = "string", match = "^a" }, "s3cret"))
  end)
end)

describe("weir.schema.references", function()
  local c = of({
    { a = { type = "string", referenceable = true } }, { plain = { type = "string" } },
    { list = { type = "array", elements = { type = "string", referenceable = true } } },
    { map = { type = "map", keys = { type = "string" },
              values = { type = "array", elements = { type = "string", referenceable = true } } } },
    { deep = { type = "array", elements = { type = "record", fields = {
      { port = { type = "integer", referenceable = true } },
    } } } },
    { port = { type = "integer", referenceable = true } },
  })

  local value = {
    a = REF, plain = REF, list = { "x", OTHER }, port = 1,
    map = { z = { REF }, y = { "x", OTHER }, x = {} }, deep = { {}, { port = REF } },
  }

  it("finds each, where it may stand", function()
    local found = {}
    references.each(c.root, value, function(text, keys, holder, key, node)
      found[#found + 1] = table.concat(keys, ".") .. " " .. text
      assert.equal(text, holder[key])
      assert.is_true(node.referenceable)
    end)
    assert.same({
      "a " .. REF, "list.2 " .. OTHER, "map.y.2 " .. OTHER, "map.z.1 " .. REF,
      "deep.2.port " .. REF,
    }, found)
  end)

  it("says whether there is one", function()
    assert.is_true(references.has(c.root, value))
    assert.is_false(references.has(c.root, { plain = REF, list = { "x" }, port = 5 }))
    assert.is_false(references.has(c.root, nil))
  end)
end)
