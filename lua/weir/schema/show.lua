-- A value of a schema as it is shown to people: deprecated names stand beside
-- the new ones, as Kong's readers know them, and secrets are masked. A
-- reference to a secret is no secret. What is shown is a copy.

local types = require("weir.schema.types")

local is_null = types.is_null

local MASK = "********"

local _M = { MASK = MASK }

local show

local function mask(node, value)
  if node.encrypted and value ~= "" and not types.is_reference(value) then
    return MASK
  end
  return value
end

local function read_path(value, path)
  for _, step in ipairs(path) do
    if type(value) ~= "table" then
      return nil
    end
    value = value[step]
  end
  return value
end

-- What a shorthand field would hold; nil if it has no such value, or no way back to one.
local function backwards(field, record)
  if field.translate_backwards_with then
    return field.translate_backwards_with(record)
  elseif field.translate_backwards then
    return read_path(record, field.translate_backwards)
  end
  local replaced = field.deprecation and field.deprecation.replaced_with
  return replaced and read_path(record, replaced[1].path)
end

local function show_record(node, record)
  local out = {}
  for _, field in ipairs(node.fields) do
    local value = record[field.name]
    if not is_null(value) then
      out[field.name] = show(field, value)
    end
  end
  for _, field in ipairs(node.shorthand_fields or {}) do
    local value = backwards(field, out)
    if not is_null(value) then
      out[field.name] = value
    end
  end
  return out
end

local function show_members(node, list)
  local out = setmetatable({}, getmetatable(list))
  for key, item in pairs(list) do
    out[key] = node and show(node, item) or item
  end
  return out
end

function show(node, value)
  if type(value) ~= "table" then
    return mask(node, value)
  elseif node.type == "foreign" then
    return { id = value.id }
  elseif node.fields then
    return show_record(node, value)
  end
  return show_members(node.elements or node.values, value)
end

-- Of a record that node describes and that was accepted. What is not set is left out.
function _M.record(node, record)
  return show_record(node, record)
end

return _M
