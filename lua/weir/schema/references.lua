-- Where a value of a schema refers to secrets: each field that may be a
-- reference ({vault://...}) and is one, in records, lists and maps. Says
-- nothing about what a reference means, nor whether it is a good one.

local types = require("weir.schema.types")

local _M = {}

local function copy(list)
  local out = {}
  for i = 1, #list do
    out[i] = list[i]
  end
  return out
end

local walk

local function member(node, holder, key, keys, visit)
  local value = holder[key]
  if not node or value == nil then
    return
  end
  keys[#keys + 1] = key
  if types.is_referenced(node, value) then
    visit(value, copy(keys), holder, key, node)
  elseif type(value) == "table" then
    walk(node, value, keys, visit)
  end
  keys[#keys] = nil
end

-- Names in order, so that reports are the same each time.
local function sorted_keys(map)
  local names = {}
  for name in pairs(map) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b)
    return tostring(a) < tostring(b)
  end)
  return names
end

function walk(node, value, keys, visit)
  if node.fields then
    for _, field in ipairs(node.fields) do
      member(field, value, field.name, keys, visit)
    end
  elseif node.elements then
    for i = 1, #value do
      member(node.elements, value, i, keys, visit)
    end
  elseif node.values then
    for _, name in ipairs(sorted_keys(value)) do
      member(node.values, value, name, keys, visit)
    end
  end
end

-- Calls visit(text, keys, holder, key, node) for each reference below value, a record of node:
-- text is holder[key], keys lead there from value. visit may replace holder[key].
function _M.each(node, value, visit)
  walk(node, value, {}, visit)
end

-- Whether there is one below value.
function _M.has(node, value)
  local found = false
  if type(value) == "table" then
    walk(node, value, {}, function()
      found = true
    end)
  end
  return found
end

return _M
