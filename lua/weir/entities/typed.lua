-- Entities of many types, each with a schema of its own: plugins, vaults. A
-- type's definition is laid over the fields that all of them have, so that it
-- can narrow one of these or refuse it, and says what `config` may hold.

local schema = require("weir.schema")

local _M = {}

local function overlay(base, changes)
  local out = {}
  for name, value in pairs(base or {}) do
    out[name] = value
  end
  for name, value in pairs(changes) do
    out[name] = value
  end
  return out
end

local function combined_fields(fields, own, word)
  local changes, out = {}, {}
  for _, item in ipairs(own) do
    local name, attrs = next(item)
    changes[name] = attrs
  end
  for i, item in ipairs(fields) do
    local name, attrs = next(item)
    out[i] = { [name] = changes[name] and overlay(attrs, changes[name]) or attrs }
    changes[name] = nil
  end
  local extra = next(changes)
  if extra then
    return nil, extra .. ": a " .. word
      .. " has no such field (its own fields belong into config)", extra
  end
  return out
end

-- The schema of one type's entities, or nil, "path: reason" and the path. fields: those of all
-- types; word: what such an entity is called.
function _M.subschema(fields, definition, word)
  if type(definition) ~= "table" or type(definition.fields) ~= "table" then
    return nil, "a schema is a table with 'name' and 'fields'"
  end
  for i, item in ipairs(definition.fields) do
    if type(item) ~= "table" or type(next(item)) ~= "string"
      or type(item[next(item)]) ~= "table" then
      return nil, "entry " .. i .. " of 'fields' must be of the form { name = { ... } }"
    end
  end
  local merged, err, path = combined_fields(fields, definition.fields, word)
  if not merged then
    return nil, err, path
  end
  return schema.new({
    name = definition.name,
    fields = merged,
    entity_checks = definition.entity_checks,
    transformations = definition.transformations,
  }, { complete_records = true })
end

return _M
