-- A configured vault: a prefix that references name it by, its type, and a
-- config that the type's own schema checks. A prefix is never a type's name,
-- which references may say, too.

local json = require("weir.json")
local messages = require("weir.schema.messages")
local typed = require("weir.entities.typed")
local typedefs = require("weir.schema.typedefs")

local fields = {
  { id = typedefs.uuid },
  { created_at = typedefs.auto_timestamp_s },
  { updated_at = typedefs.auto_timestamp_s },
  { tags = typedefs.tags },
  { prefix = {
    type = "string", required = true, unique = true, match = "^[a-z][a-z0-9-]*[a-z0-9]$",
    err = "expected two or more small letters, digits and '-', a letter first and no '-' last",
  } },
  { name = { type = "string", required = true } },
  { description = { type = "string" } },
  { config = { type = "record", required = true, fields = {} } },
}

local _M = {}

-- The schema of the entities of one type of vault, from what the type's schema.lua returns; or
-- nil, "path: reason" and the path.
function _M.subschema(definition)
  return typed.subschema(fields, definition, "vault")
end

local vaults = {}
vaults.__index = vaults

-- The schema of all vault entities. `subschemas` maps names of types to what subschema() gave.
function _M.new(subschemas)
  local names = {}
  for name in pairs(subschemas) do
    names[#names + 1] = name
  end
  table.sort(names)
  return setmetatable({ subschemas = subschemas, names = names }, vaults)
end

-- The schema of an entity; nil where its type is unknown.
function vaults:schema_of(value)
  return type(value.name) == "string" and self.subschemas[value.name] or nil
end

local function name_error(name)
  if name == nil or name == json.null then
    return messages.required
  end
  if type(name) ~= "string" then
    return messages.types.string
  end
  return "vault '" .. name .. "' is not installed"
end

-- As schema:accept: the completed entity, or nil and errors.
function vaults:accept(value)
  if type(value) ~= "table" then
    return nil, { ["@entity"] = { messages.types.record } }
  end
  local sub = self:schema_of(value)
  if not sub then
    return nil, { name = name_error(value.name) }
  end
  local accepted, errors = sub:accept(value)
  if self.subschemas[value.prefix] then
    errors = errors or {}
    errors.prefix = messages.not_one_of:format(messages.list(self.names))
  end
  if errors then
    return nil, errors
  end
  return accepted
end

return _M
