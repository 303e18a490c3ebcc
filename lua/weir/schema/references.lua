-- Where a value of a schema refers to secrets: each field that may be a
-- reference ({vault://...}) and is one, in records, lists and maps. Says
-- nothing about what a reference means, nor whether it is a good one.

local sorted_keys = require("weir.sorted_keys")
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
