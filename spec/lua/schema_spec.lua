-- The schema checker: each type, each validator, each check over several
-- fields, defaults, and the words of errors.

require("native")
package.path = package.path .. ";lua/compat/?.lua"

local json = require("weir.json")
local schema = require("weir.schema")
local null = json.null

-- a schema of one field f
local function of(attrs)
  return assert(schema.new({ name = "t", fields = { { f = attrs } } }))
end

local function message(attrs, value)
  local ok, err = of(attrs):validate({ f = value })
  if ok then
    return true
  end
  return err.f
end

local function overlay(base, changes)
  for name, value in pairs(changes) do
    base[name] = value
  end
  return base
end

describe("schema types", function()
  local text = { type = "string" }
  local cases = {
    { text, "a", true }, { text, 5, "expected a string" },
    { text, "", "length must be at least 1" },
    { { type = "string", len_min = 0 }, "", true },
    { { type = "number" }, 1.5, true }, { { type = "number" }, "1", "expected a number" },
    { { type = "number" }, 0 / 0, "expected a number" },
    { { type = "integer" }, 2, true }, { { type = "integer" }, 2.5, "expected an integer" },
    { { type = "integer" }, math.huge, "expected an integer" },
    { { type = "boolean" }, false, true }, { { type = "boolean" }, 0, "expected a boolean" },
    { { type = "array", elements = text }, { "a" }, true },
    { { type = "array", elements = text }, "a", "expected an array" },
    { { type = "array", elements = text }, { x = 1 }, "expected an array" },
    { { type = "array", elements = text }, { "a", 5 }, { [2] = "expected a string" } },
    { { type = "array", elements = text }, { "a", null }, { [2] = "required field missing" } },
    { { type = "set", elements = text }, 5, "expected a set" },
    { { type = "map", keys = text, values = text }, { a = "b" }, true },
    { { type = "map", keys = text, values = text }, { a = 5 }, { a = "expected a string" } },
    { { type = "map" }, { 1 }, "expected a map" },
    { { type = "map", keys = { type = "string", match = "^a" } }, { b = 1 },
      { b = "invalid value: b" } },
    { { type = "record", fields = { { g = text } } }, { g = 5 }, { g = "expected a string" } },
    { { type = "record", fields = { { g = text } } }, { h = 5 }, { h = "unknown field" } },
    { { type = "record", fields = { { g = text } } }, { "x" }, "expected a record" },
    { { type = "foreign", reference = "services" }, { id = "x" }, true },
    { { type = "foreign", reference = "services" }, "x", "expected a record" },
    { { type = "function" }, print, true }, { { type = "function" }, 1, "expected a function" },
  }
  for i, case in ipairs(cases) do
    it(i .. ": " .. case[1].type .. " " .. tostring(case[2]), function()
      assert.same(case[3], message(case[1], case[2]))
    end)
  end

  it("take null and nothing for absent", function()
    assert.is_true(message({ type = "string" }, null))
    assert.is_true(message({ type = "string" }, nil))
    assert.equal("required field missing", message({ type = "string", required = true }, null))
    assert.equal("required field missing", message({ type = "string", required = true }, nil))
    assert.equal("required field missing", message({ type = "string", ne = null }, null))
  end)

  it("refuse unknown fields", function()
    local _, err = of({ type = "string" }):validate({ g = 1 })
    assert.same({ g = "unknown field" }, err)
  end)

  it("refuse what is no record", function()
    for _, value in ipairs({ 5, "x", { 1 } }) do
      local ok, err = of({ type = "string" }):validate(value)
      assert.is_nil(ok)
      assert.same({ ["@entity"] = { "expected a record" } }, err)
    end
  end)
end)

describe("schema validators", function()
  local set = { type = "set", elements = { type = "string" } }
  local cases = {
    { "eq", { eq = 5 }, 5, 6, "value must be 5", "number" },
    { "ne", { ne = 5 }, 6, 5, "value must not be 5", "number" },
    { "one_of", { one_of = { "a", "b" } }, "b", "c", "expected one of: a, b" },
    { "one_of numbers", { one_of = { 426, 301 } }, 301, 1, "expected one of: 426, 301", "number" },
    { "not_one_of", { not_one_of = { "a", "b" } }, "c", "b", "must not be one of: a, b" },
    { "gt", { gt = 0 }, 0.1, 0, "value must be greater than 0", "number" },
    { "timestamp", { timestamp = true }, 1, 0, "expected a valid timestamp", "integer" },
    { "uuid", { uuid = true }, "2ed6657d-e927-568b-95e1-2665a8aea6a2",
      "2ed6657d-e927-568b-95e1-2665a8aea6ag", "expected a valid UUID" },
    { "is_regex", { is_regex = true }, "a+", "(",
      "not a valid regex: ( (missing closing parenthesis at offset 1)" },
    { "between", { between = { 0, 65535 } }, 65535, 65536, "value should be between 0 and 65535",
      "integer" },
    { "len_eq", { len_eq = 2 }, "ab", "abc", "length must be 2" },
    { "len_min", { len_min = 2 }, "ab", "a", "length must be at least 2" },
    { "len_max", { len_max = 2 }, "ab", "abc", "length must be at most 2" },
    { "starts_with", { starts_with = "/" }, "/a", "a", "should start with: /" },
    { "match", { match = "^%u+$" }, "GET", "get", "invalid value: get" },
    { "not_match", { not_match = "%s" }, "ab", "a b", "invalid value: a b" },
    { "match_all", { match_all = { { pattern = "a" }, { pattern = "b", err = "no b" } } }, "ab",
      "a", "no b" },
    { "match_none", { match_none = { { pattern = "a" }, { pattern = "b" } } }, "c", "b",
      "invalid value: b" },
    { "match_any", { match_any = { patterns = { "^a", "^b" }, err = "neither" } }, "bx", "c",
      "neither" },
    { "err", { match = "^a", err = "say a" }, "a", "b", "say a" },
    { "custom_validator", { custom_validator = function(v)
      return v == "a" or nil, "not a"
    end }, "a", "b", "not a" },
    { "custom_validator without words", { custom_validator = function(v)
      return v == "a"
    end }, "a", "b", "failed validating: b" },
    { "contains", { contains = "x" }, { "x" }, { "y" }, "expected to contain: x", set },
    { "len_min of a set", { len_min = 1 }, { "x" }, {}, "length must be at least 1", set },
    { "mutually_exclusive_subsets", { mutually_exclusive_subsets = { { "a", "b" }, { "c" } } },
      { "a", "b" }, { "a", "c" }, "these sets are mutually exclusive: ('a', 'b'), ('c')", set },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local kind = case[6] or "string"
      local attrs = type(kind) == "table" and overlay({}, kind) or { type = kind }
      overlay(attrs, case[2])
      assert.is_true(message(attrs, case[3]))
      assert.equal(case[5], message(attrs, case[4]))
    end)
  end

  it("eq null accepts nothing but absence", function()
    assert.is_true(message({ type = "foreign", reference = "x", eq = null }, null))
    assert.equal("value must be null",
      message({ type = "foreign", reference = "x", eq = null }, { id = "a" }))
  end)

  it("stop at the first failure, in their own order", function()
    assert.equal("length must be at least 3",
      message({ type = "string", match = "^x", len_min = 3 }, "ab"))
    assert.equal("expected one of: xyz",
      message({ type = "string", len_min = 3, one_of = { "xyz" } }, "ab"))
  end)

  it("count the fields of a map", function()
    assert.equal("length must be at most 1",
      message({ type = "map", len_max = 1 }, { a = 1, b = 2 }))
  end)
end)

describe("schema checks over fields", function()
  local function check(checks, value)
    local s = assert(schema.new({
      name = "t", entity_checks = checks,
      fields = { { config = { type = "record", fields = {
        { a = { type = "number" } }, { b = { type = "number" } }, { c = { type = "string" } },
        { deep = { type = "record", fields = { { d = { type = "string" } } } } },
        { list = { type = "set", elements = { type = "string" } } },
      } } } },
    }))
    local ok, err = s:validate({ config = value })
    return ok or err
  end
  local ab = { "config.a", "config.b" }

  local simple = {
    { "at_least_one_of", { a = 1 }, {}, "at least one of these fields must be non-empty: "
      .. "'config.a', 'config.b'" },
    { "only_one_of", { a = 1 }, { a = 1, b = 1 }, "exactly one of these fields must be non-empty: "
      .. "'config.a', 'config.b'" },
    { "mutually_required", { a = 1, b = 1 }, { a = 1 }, "all or none of these fields must be set: "
      .. "'config.a', 'config.b'" },
    { "mutually_exclusive", { a = 1 }, { a = 1, b = 1 },
      "only one or none of these fields must be set: 'config.a', 'config.b'" },
    { "distinct", { a = 1, b = 2 }, { a = 1, b = 1 },
      "values of these fields must be distinct: 'config.a', 'config.b'" },
  }
  for _, case in ipairs(simple) do
    it(case[1], function()
      assert.is_true(check({ { [case[1]] = ab } }, case[2]))
      assert.same({ ["@entity"] = { case[4] } }, check({ { [case[1]] = ab } }, case[3]))
    end)
  end

  it("take null and empty for absent", function()
    assert.is_table(check({ { at_least_one_of = { "config.c", "config.list" } } },
      { c = null, list = {} }))
  end)

  it("are silent about fields that are wrong already", function()
    assert.same({ config = { a = "expected a number" } },
      check({ { mutually_required = ab } }, { a = "x" }))
  end)

  it("conditional", function()
    local checks = { { conditional = {
      if_field = "config.a", if_match = { eq = 5 },
      then_field = "config.deep.d", then_match = { required = true },
    } } }
    assert.is_true(check(checks, { a = 4 }))
    assert.is_true(check(checks, {}))
    assert.is_true(check(checks, { a = 5, deep = { d = "x" } }))
    assert.same({
      config = { deep = { d = "required field missing" } },
      ["@entity"] = { "failed conditional validation given value of field 'config.a'" },
    }, check(checks, { a = 5 }))
  end)

  it("conditional_at_least_one_of", function()
    local checks = { { conditional_at_least_one_of = {
      if_field = "config.list", if_match = { contains = "x" },
      then_at_least_one_of = { "config.a" }, then_err = "set %s with x",
      else_match = { contains = "y" }, else_then_at_least_one_of = ab,
      else_then_err = "set %s with y",
    } } }
    assert.is_true(check(checks, { list = { "z" } }))
    assert.is_true(check(checks, { list = { "x" }, a = 1 }))
    assert.is_true(check(checks, { list = { "y" }, b = 1 }))
    assert.same({ "set 'config.a' with x" }, check(checks, { list = { "x" } })["@entity"])
    assert.same({ "set 'config.a', 'config.b' with y" },
      check(checks, { list = { "y" } })["@entity"])
  end)

  it("custom_entity_check", function()
    local seen
    local checks = { { custom_entity_check = { field_sources = { "config" }, fn = function(entity)
      seen = entity
      if entity.config.a == 1 then
        return nil, "a is one"
      elseif entity.config.a == 2 then
        return nil, { ["config.b"] = "a is two" }
      end
      return true
    end } } }
    assert.is_true(check(checks, { a = 3, c = "x" }))
    assert.same({ config = { a = 3, c = "x" } }, seen)
    assert.same({ ["@entity"] = { "a is one" } }, check(checks, { a = 1 }))
    assert.same({ config = { b = "a is two" } }, check(checks, { a = 2 }))
  end)

  it("custom_entity_check skips what is missing unless told", function()
    local called = 0
    local function checks(flag)
      return { { custom_entity_check = {
        field_sources = { "config.a" }, run_with_missing_fields = flag, fn = function()
          called = called + 1
          return true
        end,
      } } }
    end
    check(checks(nil), {})
    assert.equal(0, called)
    check(checks(true), {})
    assert.equal(1, called)
  end)

  it("run in nested records", function()
    local s = of({
      type = "record", entity_checks = { { mutually_required = { "a", "b" } } },
      fields = { { a = { type = "number" } }, { b = { type = "number" } } },
    })
    local _, err = s:validate({ f = { a = 1 } })
    assert.same({ f = {
      ["@entity"] = { "all or none of these fields must be set: 'a', 'b'" },
    } }, err)
  end)
end)

describe("schema defaults", function()
  it("are copies, at each depth", function()
    local s = of({ type = "record", required = true, fields = {
      { list = { type = "array", elements = { type = "string" }, default = { "a" } } },
      { n = { type = "number", default = 5 } },
      { flag = { type = "boolean", default = false } },
      { none = { type = "record", fields = { { x = { type = "number", default = 1 } } } } },
    } })
    local one, two = s:process_defaults({}), s:process_defaults({})
    assert.same({ f = { list = { "a" }, n = 5, flag = false } }, one)
    assert.are_not.equal(one.f.list, two.f.list)
  end)

  it("fill the records in arrays and maps", function()
    local record = { type = "record", fields = { { n = { type = "number", default = 5 } } } }
    assert.same({ f = { { n = 5 }, { n = 1 } } },
      of({ type = "array", elements = record }):process_defaults({ f = { {}, { n = 1 } } }))
    assert.same({ f = { a = { n = 5 } } },
      of({ type = "map", values = record }):process_defaults({ f = { a = {} } }))
  end)

  it("leave null where it was said", function()
    assert.equal(null, of({ type = "number", default = 5 }):process_defaults({ f = null }).f)
  end)

  it("keep the first of repeated members of a set", function()
    assert.same({ f = { "b", "a" } }, of({ type = "set", elements = { type = "string" } })
      :process_defaults({ f = { "b", "a", "b" } }))
  end)

  it("keep empty arrays empty arrays", function()
    local s = of({ type = "array", elements = { type = "string" } })
    local value = s:process_defaults({ f = {} })
    assert.equal('{"f":[]}', json.encode(value))
  end)

  it("make ids and times", function()
    local s = assert(schema.new({ name = "t", fields = {
      { id = { type = "string", uuid = true, auto = true } },
      { at = { type = "integer", timestamp = true, auto = true } },
    } }))
    local value = assert(s:accept({}))
    assert.equal(36, #value.id)
    assert.is_true(math.abs(value.at - os.time()) < 5)
  end)

  it("leave values of a wrong type to the checker", function()
    local s = of({ type = "record", required = true, fields = { { n = { type = "number" } } } })
    local _, err = s:accept({ f = 5 })
    assert.same({ f = "expected a record" }, err)
  end)
end)

describe("schema shorthand fields", function()
  local s = assert(schema.new({ name = "t", fields = {
    { redis = { type = "record", required = true, fields = {
      { host = { type = "string" } }, { port = { type = "integer", default = 6379 } },
    } } },
  }, shorthand_fields = {
    { redis_host = { type = "string",
      deprecation = { replaced_with = { { path = { "redis", "host" } } } } } },
    { url = { type = "string", func = function(value)
      if value == "bad" then
        return nil, "bad url"
      end
      return { redis = { host = value, port = 1 } }
    end } },
  } }))

  it("fill what they stand for", function()
    assert.same({ redis = { host = "a", port = 6379 } }, s:accept({ redis_host = "a" }))
    assert.same({ redis = { host = "a", port = 1 } }, s:accept({ url = "a" }))
  end)

  it("do not win over what is said in full", function()
    assert.same({ redis = { host = "b", port = 1 } },
      s:accept({ url = "a", redis = { host = "b" } }))
  end)

  it("must agree with the new field", function()
    local _, err = s:accept({ redis_host = "a", redis = { host = "b" } })
    assert.same({ redis_host = "both deprecated and new field are used but their values mismatch: "
      .. "redis_host = a vs redis.host = b" }, err)
    assert.is_table((s:accept({ redis_host = "a", redis = { host = "a" } })))
  end)

  it("are checked", function()
    local _, err = s:accept({ redis_host = 5 })
    assert.same({ redis_host = "expected a string" }, err)
    _, err = s:accept({ url = "bad" })
    assert.same({ url = "bad url" }, err)
  end)
end)

describe("schema transformations", function()
  local s = assert(schema.new({ name = "t", fields = {
    { a = { type = "string" } }, { b = { type = "string" } },
  }, transformations = { { input = { "a" }, on_write = function(a)
    return { b = a:upper() }
  end } } }))

  it("run on what was accepted", function()
    assert.same({ a = "x", b = "X" }, s:accept({ a = "x" }))
    assert.same({}, s:accept({}))
  end)
end)

describe("schema definitions", function()
  local function refused(fields, text)
    local s, err = schema.new({ name = "t", fields = fields })
    assert.is_nil(s)
    assert.equal(text, err)
  end

  it("are refused when they could not work", function()
    refused({ { a = { type = "strng" } } }, "a: unknown type 'strng'")
    refused({ { a = {} } }, "a: attribute 'type' is missing")
    refused({ { a = { type = "string", defualt = 1 } } }, "a: unknown attribute 'defualt'")
    refused({ { a = { type = "string", required = 1 } } },
      "a: attribute 'required' must be a boolean")
    refused({ { a = { type = "array" } } }, "a: an array needs 'elements'")
    refused({ { a = { type = "record" } } }, "a: a record needs 'fields'")
    refused({ { a = { type = "string" }, b = { type = "string" } } },
      "entry 1 must be of the form { name = { ... } }")
    refused({ { a = { type = "string" } }, { a = { type = "string" } } },
      "a: this field is defined twice")
    refused({ { a = { type = "record", fields = { { b = { type = "array", elements = {} } } } } } },
      "a.b.elements: attribute 'type' is missing")
    assert.is_nil((schema.new({ name = "t", fields = {}, entity_checks = { { nope = {} } } })))
    assert.is_nil((schema.new(5)))
  end)

  it("are not changed", function()
    local attrs = { type = "string" }
    of(attrs)
    assert.same({ type = "string" }, attrs)
  end)
end)

describe("schema errors as text", function()
  local say = schema.errors_to_string

  it("counts, and puts the whole before the fields", function()
    assert.equal("schema violation (config.second: expected a number)",
      say({ config = { second = "expected a number" } }))
    assert.equal("schema violation (name: required field missing)",
      say({ name = "required field missing" }))
    assert.equal("3 schema violations (whole; a: x; b.c: y)",
      say({ b = { c = "y" }, a = "x", ["@entity"] = { "whole" } }))
  end)

  it("prints deeper tables", function()
    assert.equal('schema violation (config.redis: {host="required field missing"})',
      say({ config = { redis = { host = "required field missing" } } }))
    assert.equal('schema violation (a.b: {"x",[3]="y"})', say({ a = { b = { "x", [3] = "y" } } }))
  end)

  it("flattens to paths", function()
    local out = schema.flatten_errors({ a = { b = { [2] = "x" } }, ["@entity"] = { "w" } }, "p[1]")
    assert.same({ "p[1]", "w" }, { out[1].path, out[1].message })
    assert.same({ "p[1].a.b[2]", "x" }, { out[2].path, out[2].message })
    assert.same({ "a", "b", 2 }, out[2].keys)
  end)
end)

describe("typedefs", function()
  local typedefs = require("kong.db.schema.typedefs")

  local function accepts(name, ...)
    for _, value in ipairs({ ... }) do
      assert.is_true(message(typedefs[name], value), name .. " " .. tostring(value))
    end
  end

  local function refuses(name, ...)
    for _, value in ipairs({ ... }) do
      assert.is_not_true(message(typedefs[name], value), name .. " " .. tostring(value))
    end
  end

  it("are copied when they are changed", function()
    local port = typedefs.port { default = 6379 } { required = true }
    assert.same({ 6379, true, "integer" }, { port.default, port.required, port.type })
    assert.is_nil(typedefs.port.default)
  end)

  it("host", function()
    accepts("host", "a", "a.b", "127.0.0.1", "::1", "[::1]", "a_b.c-d", "a.")
    refuses("host", "a:80", "[::1]:80", "a b", "-a", "a-", "1.2.3.400", "a..b", "*.a")
    assert.equal("must not have a port", message(typedefs.host, "a:80"))
  end)

  it("hosts", function()
    accepts("hosts", { "a.b", "*.a.b", "a.*", "a.b:80", "*.a.b:80" })
    refuses("hosts", { "*.a.*" }, { "a*b.c" }, { "*" }, { "a:99999" }, { "" })
  end)

  it("ip_or_cidr", function()
    accepts("ip_or_cidr", "1.2.3.4", "1.2.3.4/8", "::1", "fe80::/10", "1::2:3", "::ffff:1.2.3.4")
    refuses("ip_or_cidr", "1.2.3", "1.2.3.4/33", "::1/129", "1:2", ":::", "1::2::3", "a", "12345::",
      "1:2:3:4::5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9")
  end)

  it("url", function()
    accepts("url", "http://a", "https://a.b:80/c?d", "http://[::1]:80/")
    refuses("url", "a", "http://", "http:///x", "http://u@a/", "http://a:99999")
  end)

  it("path", function()
    accepts("path", "/", "/a/b%20c")
    refuses("path", "a", "/a//b", "/a b", "/a%2")
    assert.equal("should start with: /", message(typedefs.path, "a"))
  end)

  it("router_path", function()
    assert.equal("should start with: / (fixed path) or ~/ (regex path)",
      message(typedefs.router_path, "a"))
    accepts("router_path", "/a", "~/a\\d+$")
  end)

  it("the rest", function()
    accepts("header_name", "X-A_1")
    refuses("header_name", "X:A", "a b")
    accepts("http_method", "GET")
    refuses("http_method", "get")
    accepts("port", 0, 65535)
    refuses("port", -1, 65536, 1.5)
    accepts("timeout", 0, 2147483646)
    refuses("timeout", -1, 2147483647)
    accepts("tags", { "a", "é" })
    refuses("tags", { "a,b" }, { "a/b" })
    assert.equal("invalid tag 'a,b': expected printable ascii (except `,` and `/`) or valid utf-8 "
      .. "sequences", message(typedefs.tag, "a,b"))
    accepts("protocols_http", { "http", "grpc" })
    refuses("protocols_http", { "tcp" }, {})
    accepts("uuid", "2ed6657d-e927-568b-95e1-2665a8aea6a2")
    refuses("no_consumer", { id = "x" })
    accepts("sni", "a.b")
    refuses("sni", "1.2.3.4", "a:80")
    accepts("lua_code", { a = "return 5", b = "a or b" })
    refuses("lua_code", { a = "return (" })
  end)
end)

describe("a default", function()
  it("is refused with the schema, not with the value that leaves it out", function()
    for said, attrs in pairs({
      ["expected a number"] = { type = "number", default = "five" },
      ["value should be between 1 and 3"] = { type = "integer", between = { 1, 3 }, default = 5 },
      ["expected a string"] = { type = "array", elements = { type = "string" }, default = { 1 } },
    }) do
      local made, err, path = schema.new({ name = "t", fields = {
        { config = { type = "record", fields = { { limit = attrs } } } } } })
      assert.is_nil(made)
      assert.matches("^config%.limit: default: .*" .. said, err)
      assert.equal("config.limit", path)
    end
  end)
end)
