-- What each schema type accepts. A table that carries no sign of being an
-- array may stand for an empty one: JSON and YAML callers differ there.

local json = require("weir.json")

local null = json.null

local _M = {}

-- True when t's keys are exactly 1..n.
function _M.is_sequence(t)
  if type(t) ~= "table" then
    return false
  end
  local count = 0
  for key in pairs(t) do
    if type(key) ~= "number" then
      return false
    end
    count = count + 1
  end
  return count == #t
end

local function is_keyed(t)
  return type(t) == "table" and t[1] == nil
end

-- True when value is absent: nil or null.
function _M.is_null(value)
  return value == nil or value == null
end

local find = string.find

-- True when value looks like a reference to a secret, {vault://...}: the whole text is one, and
-- what it says is not looked at.
function _M.is_reference(value)
  return type(value) == "string" and find(value, "^{vault://.*}$") ~= nil
end

local holds_others = {
  array = true, set = true, map = true, record = true, foreign = true, ["function"] = true,
}

-- True when a field's value is a reference where the field may be one. What it stands for is not
-- known to a schema: nothing but its being there can be checked.
function _M.is_referenced(node, value)
  return node.referenceable == true and not holds_others[node.type] and _M.is_reference(value)
end

-- True when value is there and is neither "" nor an empty table.
function _M.is_filled(value)
  if value == nil or value == null or value == "" then
    return false
  end
  return type(value) ~= "table" or next(value) ~= nil
end

-- type name -> function(value) -> boolean
_M.checks = {
  string = function(value)
    return type(value) == "string"
  end,
  number = function(value)
    return type(value) == "number" and value == value
  end,
  integer = function(value)
    return type(value) == "number" and value % 1 == 0
  end,
  boolean = function(value)
    return type(value) == "boolean"
  end,
  ["function"] = function(value)
    return type(value) == "function"
  end,
  array = _M.is_sequence,
  set = _M.is_sequence,
  map = is_keyed,
  record = is_keyed,
  foreign = is_keyed,
}

return _M
