-- Turns the definition that a schema author wrote into nodes the checker walks,
-- and refuses definitions that could not work: an unknown type or attribute is
-- a misspelling, and would otherwise check nothing in silence. The author's
-- tables are copied, never changed: typedefs are shared by all schemas.

local messages = require("weir.schema.messages")

local _M = {}

-- attribute -> Lua type of its value; "any" for those that differ by field.
local attributes = {
  type = "string", required = "boolean", default = "any", eq = "any", ne = "any",
  one_of = "table", not_one_of = "table", gt = "number", between = "table",
  len_eq = "number", len_min = "number", len_max = "number", match = "string",
  not_match = "string", match_all = "table", match_none = "table", match_any = "table",
  starts_with = "string", contains = "any", is_regex = "boolean", uuid = "boolean",
  timestamp = "boolean", custom_validator = "function", mutually_exclusive_subsets = "table",
  elements = "table", keys = "table", values = "table", fields = "table", err = "string",
  entity_checks = "table", shorthand_fields = "table", reference = "string", func = "function",
  referenceable = "boolean",
  -- what others read from a schema; the checker itself does not act on them
  auto = "boolean", unique = "boolean", encrypted = "boolean",
  deprecation = "table", description = "string", examples = "table", immutable = "boolean",
  indexed = "boolean", legacy = "boolean", hidden = "boolean", on_delete = "string",
  translate_backwards = "table", translate_backwards_with = "function", schema = "string",
}

local checks = {
  at_least_one_of = true, only_one_of = true, conditional = true,
  conditional_at_least_one_of = true, mutually_required = true, mutually_exclusive = true,
  distinct = true, custom_entity_check = true,
}

local function fail(path, message, ...)
  error({ path = path, message = message:format(...) }, 0)
end

local function join(path, name)
  return path == "" and name or path .. "." .. name
end

local compile_node

-- The single name and attributes of one entry of a `fields` list.
local function entry(list, i, path)
  local item = list[i]
  local name, attrs
  if type(item) == "table" then
    name, attrs = next(item)
  end
  if type(name) ~= "string" or type(attrs) ~= "table" or next(item, name) ~= nil then
    fail(path, "entry %d must be of the form { name = { ... } }", i)
  end
  return name, attrs
end

local function compile_fields(node, list, path, options)
  node.fields, node.by_name = {}, {}
  for i = 1, #list do
    local name, attrs = entry(list, i, path)
    if node.by_name[name] then
      fail(join(path, name), "this field is defined twice")
    end
    local field = compile_node(attrs, join(path, name), options)
    field.name = name
    node.fields[i], node.by_name[name] = field, field
  end
end

local function compile_shorthands(node, list, path, options)
  node.shorthand_fields, node.shorthand_by_name = {}, {}
  for i = 1, #list do
    local name, attrs = entry(list, i, path)
    local field = compile_node(attrs, join(path, name), options)
    if not field.func and not (field.deprecation and field.deprecation.replaced_with) then
      fail(join(path, name), "a shorthand field needs 'func' or 'deprecation.replaced_with'")
    end
    field.name = name
    node.shorthand_fields[i], node.shorthand_by_name[name] = field, field
  end
end

local function check_entity_checks(list, path)
  for i = 1, #list do
    local name, argument = entry(list, i, join(path, "entity_checks"))
    if not checks[name] then
      fail(path, "unknown entity check '%s'", name)
    end
    if name == "custom_entity_check" and
      (type(argument.fn) ~= "function" or type(argument.field_sources) ~= "table") then
      fail(path, "custom_entity_check needs 'field_sources' and 'fn'")
    end
  end
end

local function check_attributes(attrs, path)
  for name, value in pairs(attrs) do
    local wanted = attributes[name]
    if not wanted then
      fail(path, "unknown attribute '%s'", tostring(name))
    end
    if wanted ~= "any" and type(value) ~= wanted then
      fail(path, "attribute '%s' must be a %s", name, wanted)
    end
  end
  if not messages.types[attrs.type] then
    fail(path, attrs.type and "unknown type '%s'" or "attribute 'type' is missing",
      tostring(attrs.type))
  end
end

local function compile_record(node, attrs, path, options)
  if not attrs.fields then
    fail(path, "a record needs 'fields'")
  end
  compile_fields(node, attrs.fields, path, options)
  if attrs.shorthand_fields then
    compile_shorthands(node, attrs.shorthand_fields, path, options)
  end
  if attrs.entity_checks then
    check_entity_checks(attrs.entity_checks, path)
  end
  if options.complete_records and node.required == nil then
    node.required = true
  end
end

-- What a list or map says of all its members: that each may be a reference, or is a secret.
local function compile_member(node, attrs, path, options)
  local member = compile_node(attrs, path, options)
  for _, name in ipairs({ "referenceable", "encrypted" }) do
    if member[name] == nil then
      member[name] = node[name]
    end
  end
  return member
end

function compile_node(attrs, path, options)
  check_attributes(attrs, path)
  local node = {}
  for name, value in pairs(attrs) do
    node[name] = value
  end
  local kind = node.type
  if kind == "record" then
    compile_record(node, attrs, path, options)
  elseif kind == "array" or kind == "set" then
    if not attrs.elements then
      fail(path, "%s needs 'elements'", kind == "set" and "a set" or "an array")
    end
    node.elements = compile_member(node, attrs.elements, join(path, "elements"), options)
  elseif kind == "map" then
    node.keys = attrs.keys and compile_node(attrs.keys, join(path, "keys"), options)
    node.values = attrs.values
      and compile_member(node, attrs.values, join(path, "values"), options)
  elseif kind == "string" and node.len_min == nil then
    node.len_min = 1
  end
  return node
end

-- The checker's tree for a record definition, or nil and "path: reason".
-- options.complete_records: records below are required unless they say otherwise.
function _M.compile(definition, options)
  local ok, node = pcall(function()
    if type(definition) ~= "table" or type(definition.fields) ~= "table" then
      fail("", "a schema is a table with 'fields'")
    end
    local root = { type = "record", required = true, entity_checks = definition.entity_checks }
    compile_record(root, definition, "", options or {})
    return root
  end)
  if ok then
    return node
  end
  if type(node) ~= "table" then
    error(node, 0)
  end
  return nil, (node.path ~= "" and node.path .. ": " or "") .. node.message, node.path
end

return _M
