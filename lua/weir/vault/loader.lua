-- Finds and loads vaults: directories vaults/<name> of plugin_dir that hold
-- init.lua and schema.lua, and vaults installed as Lua modules kong.vaults.<name>.
-- How they are found and how mistakes are named is in weir.loader.kind; here is
-- what a vault must be. It asks no vault for anything.

local kind = require("weir.loader.kind")
local line_of = require("weir.source").line_of
local vault_entities = require("weir.entities.vaults")

local _M = {}

local loader = kind.new {
  word = "vault", below = "/vaults", main = "init", main_word = "vault",
  modules = "kong.vaults", subschema = vault_entities.subschema,
}

function loader:check(strategy, file)
  local good = self:check_version(strategy, file)
  if strategy.get == nil then
    self:fail(file, line_of(file, "^return"), "a vault needs a function get")
    good = false
  end
  for _, name in ipairs({ "get", "init", "watch", "uses" }) do
    good = self:check_function(strategy, name, file) and good
  end
  return good
end

-- Loads the vaults that `enabled` (words of the `vaults` key) selects from the
-- directories vaults/ of dirs: name -> {name, dir, strategy, schema, version}. The
-- second value is an array of error texts; what they concern is left out.
function _M.load(dirs, enabled, origin)
  local types = {}
  return types, kind.load(loader, dirs, enabled, origin,
    function(name, dir, strategy, schema, definition)
      package.loaded["kong.vaults." .. name] = strategy
      package.loaded["kong.vaults." .. name .. ".init"] = strategy
      package.loaded["kong.vaults." .. name .. ".schema"] = definition
      types[name] = {
        name = name, dir = dir, strategy = strategy, schema = schema,
        version = strategy.VERSION,
      }
    end)
end

-- As load, with what weir.conf says.
function _M.load_configured()
  return _M.load(kind.conf_dirs(), kind.conf_list("vaults"),
    kind.conf_origin("vaults"))
end

return _M
