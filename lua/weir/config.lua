-- The configuration of this process: plugins, what is declared, the router and
-- the plan that follow from it. Loaded as a whole or not at all; every error is
-- a line of text that says where.

local conf = require "weir.conf"
local credential = require "weir.cloud.credential"
local declarative = require "weir.store.declarative"
local loader = require "weir.loader"
local plan = require "weir.plan"
local references = require "weir.references"
local router = require "weir.router"
local vault = require "weir.vault"
local vault_loader = require "weir.vault.loader"
local weir = require "weir.ffi"

local C, sv, str = weir.C, weir.sv, weir.str

local _M = {}


-- What the declarative file says: a configuration | nil, error text.
local function declared(plugins, types)
  if C.weir_conf_declarative(sv, sv + 1) ~= 0 then
    return { vaults = {}, services = {}, routes = {}, plugins = {} }
  end

  local path, text = str(sv[0]), str(sv[1])
  local config, errors = declarative.parse(text, loader.subschemas(plugins), path, {
    vaults = loader.subschemas(types), check_reference = vault.check,
  })

  if not config then
    return nil, declarative.errors_to_string(errors, path)
  end
  return config
end


-- The types of vaults, and the secrets of weir.conf itself: the types | nil, error texts.
local function open_vaults()
  local types, errors = vault_loader.load_configured()

  if #errors > 0 then
    return nil, errors
  end
  errors = vault.use(types, nil, conf.vault_settings())
  for _, key in ipairs(conf.keys()) do
    -- what is still a reference is a password that C uses and this process keeps
    if vault.is_reference(key.text) and conf.get(key.name) == key.text then
      local _, err = vault.cell(key.text)

      if err then
        errors[#errors + 1] = ("%s: %s: %s"):format(conf.origin(key.name), key.name, err)
      end
    end
  end
  if #errors > 0 then
    return nil, errors
  end
  return types
end


-- Binds a plugin's conf to the secrets that it refers to; why it cannot, or nil. id: its entry's.
function _M.bind(plugin_conf, plugin, id)
  local _, err = references.bind(plugin.schema.root.by_name.config, plugin_conf, vault.cell,
                                ("the plugin %s (%s): config"):format(plugin.name, id))
  local redis = plugin_conf.redis

  if not err and type(redis) == "table" and redis.cloud_authentication then
    credential.name_of(redis) -- looked up with the others, before the first request
  end
  return err
end


-- { plugins =, vaults = (their types), config =, router =, plan = } | nil, error text of one or
-- more lines.
function _M.load()
  local plugins, errors = loader.load_configured()
  local types, vault_errors = open_vaults()

  for _, text in ipairs(vault_errors or {}) do
    errors[#errors + 1] = text
  end
  if #errors > 0 then
    return nil, table.concat(errors, "\n")
  end

  local config, err = declared(plugins, types)

  if not config then
    return nil, err
  end
  vault.declare(config.vaults)

  local state = { plugins = plugins, vaults = types, config = config }

  state.router, err = router.new(config.routes)
  if not state.router then
    return nil, err
  end
  state.plan, err = plan.new(config, plugins, _M.bind)
  if not state.plan then
    return nil, err
  end
  return state
end


return _M
