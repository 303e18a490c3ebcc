-- A configured plugin: its name, its scope, and a config that the plugin's
-- own schema checks, which may narrow its protocols or refuse a scope, too.

local json = require("weir.json")
local typed = require("weir.entities.typed")
local typedefs = require("weir.schema.typedefs")
local types = require("weir.schema.types")

local fields = {
  { id = typedefs.uuid },
  { created_at = typedefs.auto_timestamp_s },
  { updated_at = typedefs.auto_timestamp_s },
  { name = { type = "string", required = true, indexed = true } },
  { instance_name = typedefs.utf8_name },
  { enabled = { type = "boolean", required = true, default = true } },
  { protocols = typedefs.protocols },
  { tags = typedefs.tags },
  { service = { type = "foreign", reference = "services" } },
  { route = { type = "foreign", reference = "routes" } },
  { consumer = typedefs.no_consumer },
  { config = { type = "record", required = true, fields = {} } },
}

local _M = {}

-- The schema of one plugin's entities, or nil, "path: reason" and the path.
function _M.subschema(definition)
  local sub, problem, at = typed.subschema(fields, definition, "plugin")
  if sub then
    sub.successor = definition.successor
  end
  return sub, problem, at
end

local plugins = {}
plugins.__index = plugins

-- The schema of all plugin entities. `subschemas` maps names to what subschema() gave.
function _M.new(subschemas)
  return setmetatable({ subschemas = subschemas }, plugins)
end

local function name_error(name)
  if name == nil or name == json.null then
    return "required field missing"
  end
  if type(name) ~= "string" then
    return "expected a string"
  end
  return "plugin '" .. name .. "' not enabled; add it to the 'plugins' configuration property"
    .. ", or its directory to 'plugin_dir'"
end

-- A config may be of a form that meant another plugin once: changes value's name and config, in
-- place, to that one's. A schema says so by successor(config) -> name, config, words | nil.
function plugins:translate(value)
  local sub = type(value.name) == "string" and self.subschemas[value.name]
  if sub and sub.successor and types.checks.record(value.config) then
    local name, config, words = sub.successor(value.config)
    if name then
      require("weir.deprecation").say({ words })
      value.name, value.config = name, config
    end
  end
end

-- The schema of an entity; nil where its plugin is unknown.
function plugins:schema_of(value)
  return type(value.name) == "string" and self.subschemas[value.name] or nil
end

-- As schema:accept: the completed entity, or nil and errors.
function plugins:accept(value)
  if type(value) ~= "table" then
    return nil, { ["@entity"] = { "expected a record" } }
  end
  self:translate(value)
  local sub = self:schema_of(value)
  if not sub then
    return nil, { name = name_error(value.name) }
  end
  return sub:accept(value)
end

return _M
