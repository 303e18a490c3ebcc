-- Completes a value before it is checked: shorthand fields are translated,
-- defaults and automatic values filled in, sets freed of repeated members.
-- Works in place, and leaves alone what has the wrong type: the checker that
-- runs next says so in better words.

local json = require("weir.json")
local messages = require("weir.schema.messages")
local types = require("weir.schema.types")

local null = json.null

local _M = {}

-- A copy of a value of JSON's kinds, metatables of arrays kept.
local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local out = setmetatable({}, getmetatable(value))
  for key, item in pairs(value) do
    out[key] = copy(item)
  end
  return out
end
_M.copy = copy

local function auto_value(field)
  if field.uuid then
    return require("weir.uuid").v4()
  end
  if field.timestamp then
    return field.type == "integer" and os.time() or require("weir.ffi").C.weir_now()
  end
end

-- Adds what is not there yet; says where a value that is there differs.
local function merge_missing(into, from, path)
  for key, value in pairs(from) do
    local here = into[key]
    if types.is_null(here) then
      into[key] = value
    elseif type(here) == "table" and type(value) == "table" and not types.is_sequence(value) then
      merge_missing(here, value, path)
    end
  end
end

local function read_path(value, path)
  for i = 1, #path do
    if type(value) ~= "table" then
      return nil
    end
    value = value[path[i]]
  end
  return value
end

local function nest(path, value)
  for i = #path, 1, -1 do
    value = { [path[i]] = value }
  end
  return value
end

-- The fields that a shorthand's value stands for.
local function expand(field, value)
  if field.func then
    return field.func(value)
  end
  local out = {}
  for _, target in ipairs(field.deprecation.replaced_with) do
    merge_missing(out, nest(target.path, value))
  end
  return out
end

local function show(value)
  return type(value) == "table" and messages.list(value) or messages.show(value)
end

local function node_at(node, path)
  for i = 1, #path do
    node = node and node.by_name and node.by_name[path[i]]
  end
  return node
end

-- A value as a message may hold it.
local function shown(node, value)
  if node and node.encrypted and not types.is_reference(value) then
    return messages.hidden
  end
  return show(value)
end

-- Whether a shorthand's value may be a reference: it is one for a field that may.
local function is_referenced(node, field, value)
  if types.is_referenced(field, value) then
    return true
  end
  local replaced = field.deprecation and field.deprecation.replaced_with
  for _, target in ipairs(replaced or {}) do
    local there = node_at(node, target.path)
    if there and types.is_referenced(there, value) then
      return true
    end
  end
  return false
end

local function mismatch(node, field, value, record)
  local replaced = field.deprecation and field.deprecation.replaced_with
  for _, target in ipairs(replaced or {}) do
    local now = read_path(record, target.path)
    if not types.is_null(now) and now ~= value and show(now) ~= show(value) then
      local there = node_at(node, target.path)
      return messages.shorthand_mismatch:format(field.name, shown(there, value),
        table.concat(target.path, "."), shown(there, now))
    end
  end
end

local function translate_shorthands(node, record, errors)
  local old
  for _, field in ipairs(node.shorthand_fields) do
    local value = record[field.name]
    if not types.is_null(value) then
      if field.deprecation and field.deprecation.message then
        old = old or {}
        old[#old + 1] = field.deprecation.message
      end
      local err = messages.types[field.type]
      local ok = types.checks[field.type](value) or is_referenced(node, field, value)
      if ok then
        err = mismatch(node, field, value, record)
        local expanded, func_err
        if not err then
          expanded, func_err = expand(field, value)
        end
        if expanded then
          merge_missing(record, expanded)
        else
          err = err or func_err or messages.pattern:format(shown(field, value))
        end
      end
      if err then
        errors[field.name] = err
      end
    end
    record[field.name] = nil
  end
  if old then
    require("weir.deprecation").say(old)
  end
end

local function unique_members(list)
  local seen, n = {}, 0
  for i = 1, #list do
    local value = list[i]
    list[i] = nil
    if not seen[value] then
      seen[value] = true
      n = n + 1
      list[n] = value
    end
  end
end

local fill_record

local function fill(node, value, errors)
  if type(value) ~= "table" then
    return
  end
  if node.type == "record" then
    fill_record(node, value, errors)
  elseif node.type == "array" or node.type == "set" then
    if types.is_sequence(value) then
      if node.type == "set" then
        unique_members(value)
      end
      setmetatable(value, json.array_mt)
      for i = 1, #value do
        fill(node.elements, value[i], errors)
      end
    end
  elseif node.type == "map" and node.values then
    for _, item in pairs(value) do
      fill(node.values, item, errors)
    end
  end
end

local function initial(field)
  if field.default ~= nil then
    return copy(field.default)
  end
  if field.auto then
    return auto_value(field)
  end
  if field.type == "record" and field.required then
    return {}
  end
end

function fill_record(node, record, errors)
  if not types.checks.record(record) then
    return
  end
  if node.shorthand_fields then
    translate_shorthands(node, record, errors)
  end
  for _, field in ipairs(node.fields) do
    local value = record[field.name]
    if value == nil then
      value = initial(field)
      record[field.name] = value
    end
    if value ~= null and type(value) == "table" and field.type ~= "foreign" then
      local below = {}
      fill(field, value, below)
      if next(below) then
        errors[field.name] = below
      end
    end
  end
end

-- Completes record in place; true, or nil and the errors of shorthand fields.
function _M.fill(node, record)
  local errors = {}
  fill(node, record, errors)
  if next(errors) then
    return nil, errors
  end
  return true
end

return _M
