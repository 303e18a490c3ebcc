-- Finds and loads plugins: directories of plugin_dir that hold handler.lua and
-- schema.lua, and plugins installed as Lua modules kong.plugins.<name>. How they
-- are found and how mistakes are named is in weir.loader.kind; here is what a
-- handler must be.

local kind = require("weir.loader.kind")
local line_of = require("weir.source").line_of
local plugin_entities = require("weir.entities.plugins")

local _M = {}

-- The phases that a handler may implement, in the order that they are listed.
_M.phases = {
  "init_worker", "configure", "rewrite", "access", "response", "header_filter", "body_filter",
  "log",
}

local loader = kind.new {
  word = "plugin", below = "", main = "handler", main_word = "handler",
  modules = "kong.plugins", subschema = plugin_entities.subschema,
}

function loader:check_header(handler, file)
  local priority = handler.PRIORITY
  local good = true
  if type(priority) ~= "number" or priority % 1 ~= 0 then
    self:fail(file, line_of(file, "PRIORITY"), "PRIORITY must be an integer")
    good = false
  end
  return self:check_version(handler, file) and good
end

function loader:check_phases(handler, file)
  local good = true
  for _, phase in ipairs(_M.phases) do
    good = self:check_function(handler, phase, file) and good
  end
  if handler.response and (handler.header_filter or handler.body_filter) then
    self:fail(file, line_of(file, "%f[%w_]response%f[^%w_]"),
      "response cannot be combined with header_filter or body_filter")
    good = false
  end
  return good
end

function loader:check(handler, file)
  local header, phases = self:check_header(handler, file), self:check_phases(handler, file)
  return header and phases
end

-- Loads the plugins that `enabled` (words of the `plugins` key) selects from
-- dirs: name -> {name, dir, handler, schema, priority, version}. The second
-- value is an array of error texts; what they concern is left out.
function _M.load(dirs, enabled, origin)
  local plugins = {}
  return plugins, kind.load(loader, dirs, enabled, origin,
    function(name, dir, handler, schema, definition)
      package.loaded["kong.plugins." .. name .. ".handler"] = handler
      package.loaded["kong.plugins." .. name .. ".schema"] = definition
      plugins[name] = {
        name = name, dir = dir, handler = handler, schema = schema,
        priority = handler.PRIORITY, version = handler.VERSION,
      }
    end)
end

-- As load, with what weir.conf says; names, if given, stand for its `plugins` key.
function _M.load_configured(names)
  return _M.load(kind.conf_dirs(), names or kind.conf_list("plugins"),
    not names and kind.conf_origin("plugins") or nil)
end

-- plugin name -> schema, as the entities want it.
function _M.subschemas(plugins)
  local out = {}
  for name, plugin in pairs(plugins) do
    out[name] = plugin.schema
  end
  return out
end

return _M
