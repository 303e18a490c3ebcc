-- Any Lua value as a text for a person: tables with sorted fields. Bounded in
-- depth and length, so that a plugin may inspect what it likes.

local concat = table.concat
local format = string.format
local match = string.match
local pairs = pairs
local rep = string.rep
local sort = table.sort
local sub = string.sub
local tostring = tostring
local type = type

local DEPTH_MAX = 8
local ITEMS_MAX = 1000


local function order(a, b)
  local ta, tb = type(a), type(b)
  if ta == tb and (ta == "number" or ta == "string") then
    return a < b
  end
  return ta == tb and tostring(a) < tostring(b) or ta < tb
end


local function key_text(key)
  if type(key) == "string" then
    return match(key, "^[%a_][%w_]*$") or format("[%q]", key)
  end
  return "[" .. tostring(key) .. "]"
end


local show


local function show_table(state, value, depth)
  local keys = {}
  for key in pairs(value) do
    keys[#keys + 1] = key
  end
  if #keys == 0 then
    return "{}"
  end
  sort(keys, order)
  local lines = {}
  local indent = rep("  ", depth)
  for i = 1, #keys do
    state.items = state.items + 1
    if state.items > ITEMS_MAX then
      lines[#lines + 1] = indent .. "..."
      break
    end
    local key = keys[i]
    local text = show(state, value[key], depth + 1)
    lines[#lines + 1] = indent .. (key == i and text or key_text(key) .. " = " .. text)
  end
  return "{\n" .. concat(lines, ",\n") .. "\n" .. sub(indent, 3) .. "}"
end


function show(state, value, depth)
  local kind = type(value)
  if kind == "string" then
    return format("%q", value)
  elseif kind ~= "table" then
    return tostring(value)
  elseif state[value] or depth > DEPTH_MAX then
    return "<" .. tostring(value) .. ">"
  end
  state[value] = true
  local text = show_table(state, value, depth)
  state[value] = nil
  return text
end


-- The text.
return function(value)
  return show({ items = 0 }, value, 1)
end
