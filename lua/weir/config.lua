-- The configuration of this process: plugins, what is declared, the router and
-- the plan that follow from it. Loaded as a whole or not at all; every error is
-- a line of text that says where.

local declarative = require "weir.store.declarative"
local loader = require "weir.loader"
local plan = require "weir.plan"
local router = require "weir.router"
local weir = require "weir.ffi"

local C, sv, str = weir.C, weir.sv, weir.str

local _M = {}


-- What the declarative file says: a configuration | nil, error text.
local function declared(plugins)
  if C.weir_conf_declarative(sv, sv + 1) ~= 0 then
    return { services = {}, routes = {}, plugins = {} }
  end

  local path, text = str(sv[0]), str(sv[1])
  local config, errors = declarative.parse(text, loader.subschemas(plugins), path)

  if not config then
    return nil, declarative.errors_to_string(errors, path)
  end
  return config
end


-- { plugins =, config =, router =, plan = } | nil, error text of one or more lines.
function _M.load()
  local plugins, errors = loader.load_configured()

  if #errors > 0 then
    return nil, table.concat(errors, "\n")
  end

  local config, err = declared(plugins)

  if not config then
    return nil, err
  end

  local state = { plugins = plugins, config = config }

  state.router, err = router.new(config.routes)
  if not state.router then
    return nil, err
  end
  state.plan, err = plan.new(config, plugins)
  if not state.plan then
    return nil, err
  end
  return state
end


return _M
