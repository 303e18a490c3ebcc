-- Checks over several fields of one record. They run after the fields were
-- checked, skip records whose fields concerned are missing or wrong, and
-- report under "@entity" or, where one field is to blame, there too. A field
-- that is a reference to a secret counts as filled; what needs to know its
-- value is skipped.

local messages = require("weir.schema.messages")
local references = require("weir.schema.references")
local types = require("weir.schema.types")

local format = string.format
local is_filled, is_null = types.is_filled, types.is_null

local _M = {}

local function split(path)
  local out = {}
  for part in path:gmatch("[^.]+") do
    out[#out + 1] = part
  end
  return out
end

-- The value at a dotted path; also where errors are looked up.
local function at(record, path)
  local value = record
  for _, part in ipairs(split(path)) do
    if type(value) ~= "table" then
      return type(value) == "string" and value or nil
    end
    value = value[part]
  end
  return value
end

local function field_value(record, path)
  local value = record
  for _, part in ipairs(split(path)) do
    if type(value) ~= "table" then
      return nil
    end
    value = value[part]
  end
  return value
end

local function node_at(node, path)
  for _, part in ipairs(split(path)) do
    node = node.by_name and node.by_name[part]
    if not node then
      return nil
    end
  end
  return node
end

-- Whether the value at a dotted path is a reference, or a list or map with one in it.
local function is_referenced_at(root, record, path)
  local node, value = node_at(root, path), field_value(record, path)
  if not node or value == nil then
    return false
  elseif type(value) ~= "table" then
    return types.is_referenced(node, value)
  end
  return not node.fields and references.has(node, value)
end
_M.is_referenced_at = is_referenced_at

local function put_error(errors, path, message)
  local parts = split(path)
  for i = 1, #parts - 1 do
    local below = errors[parts[i]]
    if below == nil then
      below = {}
      errors[parts[i]] = below
    elseif type(below) ~= "table" then
      return
    end
    errors = below
  end
  local last = parts[#parts]
  if errors[last] == nil then
    errors[last] = message
  end
end

local function count(record, names, test)
  local n = 0
  for _, name in ipairs(names) do
    if test(field_value(record, name)) then
      n = n + 1
    end
  end
  return n
end

-- A field's node with further attributes laid over it.
local function overlay(node, attrs)
  local out = {}
  for name, value in pairs(node or { type = "any" }) do
    out[name] = value
  end
  for name, value in pairs(attrs) do
    if name == "elements" and out.elements then
      value = overlay(out.elements, value)
    end
    out[name] = value
  end
  return out
end

local run = {}

function run.at_least_one_of(names, record)
  if count(record, names, is_filled) > 0 then
    return true
  end
  return nil, format(messages.at_least_one_of, messages.names(names))
end

function run.only_one_of(names, record)
  if count(record, names, is_filled) == 1 then
    return true
  end
  return nil, format(messages.only_one_of, messages.names(names))
end

function run.mutually_required(names, record)
  local n = count(record, names, is_filled)
  if n == 0 or n == #names then
    return true
  end
  return nil, format(messages.mutually_required, messages.names(names))
end

function run.mutually_exclusive(names, record)
  if count(record, names, is_filled) <= 1 then
    return true
  end
  return nil, format(messages.mutually_exclusive, messages.names(names))
end

function run.distinct(names, record, _, context)
  local seen = {}
  for _, name in ipairs(names) do
    local value = field_value(record, name)
    if not is_null(value) and not is_referenced_at(context.node, record, name) then
      if seen[value] then
        return nil, format(messages.distinct, messages.names(names))
      end
      seen[value] = true
    end
  end
  return true
end

local function condition_holds(path, attrs, record, context)
  local value = field_value(record, path)
  if is_null(value) or is_referenced_at(context.node, record, path) then
    return false
  end
  return (context.validate(overlay(node_at(context.node, path), attrs), value)) == true
end

-- arg.unless_filled: fields that do instead of then_field.
function run.conditional(arg, record, errors, context)
  if not condition_holds(arg.if_field, arg.if_match, record, context)
    or arg.unless_filled and count(record, arg.unless_filled, is_filled) > 0
    or is_referenced_at(context.node, record, arg.then_field) then
    return true
  end
  local node = overlay(node_at(context.node, arg.then_field), arg.then_match)
  local ok, err = context.validate(node, field_value(record, arg.then_field))
  if ok then
    return true
  end
  put_error(errors, arg.then_field, arg.then_err or err)
  return nil, format(messages.conditional, arg.if_field)
end

local function one_of_them(names, message, record)
  if count(record, names, is_filled) > 0 then
    return true
  end
  return nil, format(message or messages.at_least_one_of, messages.names(names))
end

function run.conditional_at_least_one_of(arg, record, _, context)
  if condition_holds(arg.if_field, arg.if_match, record, context) then
    return one_of_them(arg.then_at_least_one_of, arg.then_err, record)
  end
  if arg.else_match and condition_holds(arg.if_field, arg.else_match, record, context) then
    return one_of_them(arg.else_then_at_least_one_of, arg.else_then_err, record)
  end
  return true
end

local function subset(record, sources)
  local out = {}
  for _, path in ipairs(sources) do
    local value = field_value(record, path)
    if value ~= nil then
      local into, parts = out, split(path)
      for i = 1, #parts - 1 do
        into[parts[i]] = into[parts[i]] or {}
        into = into[parts[i]]
      end
      into[parts[#parts]] = value
    end
  end
  return out
end

-- As arg.fn. A check of a whole record sees the references in it; if it stumbles over one, that
-- is no fault of the record.
local function call_check(arg, record, node)
  local holds_references = false
  for _, path in ipairs(arg.field_sources) do
    local source = node_at(node, path)
    holds_references = holds_references
      or source ~= nil and references.has(source, field_value(record, path))
  end
  if not holds_references then
    return arg.fn(subset(record, arg.field_sources))
  end
  local ran, ok, err = pcall(arg.fn, subset(record, arg.field_sources))
  if not ran then
    return true
  end
  return ok, err
end

function run.custom_entity_check(arg, record, errors, context)
  for _, path in ipairs(arg.field_sources) do
    if is_referenced_at(context.node, record, path) then
      return true
    end
  end
  local ok, err = call_check(arg, record, context.node)
  if ok then
    return true
  end
  if type(err) == "table" then
    for path, message in pairs(err) do
      put_error(errors, path, message)
    end
    return nil
  end
  return nil, err or "entity check failed"
end

-- The fields that a check reads, and those of them that must be there.
local function sources(name, arg)
  if name == "conditional" then
    return { arg.if_field, arg.then_field }, { arg.if_field }
  elseif name == "conditional_at_least_one_of" then
    return { arg.if_field }, { arg.if_field }
  elseif name == "custom_entity_check" then
    return arg.field_sources, not arg.run_with_missing_fields and arg.field_sources or {}
  end
  return arg, {}
end

local function applies(name, arg, record, errors)
  local read, needed = sources(name, arg)
  if not arg.run_with_invalid_fields then
    for _, path in ipairs(read) do
      if at(errors, path) ~= nil then
        return false
      end
    end
  end
  for _, path in ipairs(needed) do
    if is_null(field_value(record, path)) then
      return false
    end
  end
  return true
end

-- Runs the checks of node over record and adds what they find to errors.
-- validate(node, value) checks one field.
function _M.run(node, record, errors, validate)
  local context = { node = node, validate = validate }
  local found = {}
  for _, item in ipairs(node.entity_checks) do
    local name, arg = next(item)
    if applies(name, arg, record, errors) then
      local ok, err = run[name](arg, record, errors, context)
      if not ok and err then
        found[#found + 1] = err
      end
    end
  end
  if #found > 0 then
    errors["@entity"] = found
  end
end

return _M
