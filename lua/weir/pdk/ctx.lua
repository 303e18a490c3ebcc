-- kong.ctx: tables that live as long as one request. `shared` is one for all
-- plugins, `plugin` one for each plugin. Both are made when somebody looks.

local phases = require "weir.phases"
local wait = require "weir.wait"

local band = require("bit").band

local error = error
local rawset = rawset
local setmetatable = setmetatable
local type = type
local wrong_phase = phases.wrong

local ANY = phases.request


local function plugin_name(ctx)
  return ctx.plugin or error("kong.ctx.plugin is there only while a plugin runs", 3)
end


local function plugin_table(ctx)
  local name = plugin_name(ctx)
  local all = ctx.plugin_ctx
  if not all then
    all = {}
    ctx.plugin_ctx = all
  end
  local own = all[name]
  if not own then
    own = {}
    all[name] = own
  end
  return own
end


--- A table that all plugins share while this request runs.
-- @function kong.ctx.shared
-- @phases request
-- @treturn table the table
-- @usage
-- kong.ctx.shared.user = "anna" -- in one plugin
-- kong.log(kong.ctx.shared.user) -- in another
local function get_shared(ctx)
  local shared = ctx.shared
  if not shared then
    shared = {}
    ctx.shared = shared
  end
  return shared
end


--- A table of this plugin alone while this request runs: what one phase stores,
-- later phases find.
-- @function kong.ctx.plugin
-- @phases request
-- @treturn table the table
-- @usage
-- kong.ctx.plugin.began = kong.request.get_start_time() -- in access
-- kong.log(kong.ctx.plugin.began) -- in log
local function get_plugin(ctx)
  return (plugin_table(ctx))
end


local meta = {}


function meta.__index(_, key)
  if key ~= "shared" and key ~= "plugin" then
    return nil
  end
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  if key == "shared" then
    return get_shared(ctx)
  end
  return get_plugin(ctx)
end


function meta.__newindex(self, key, value)
  if key ~= "shared" and key ~= "plugin" then
    rawset(self, key, value)
    return
  end
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  if type(value) ~= "table" then
    error("kong.ctx." .. key .. " must be a table", 2)
  end
  if key == "shared" then
    ctx.shared = value
  else
    plugin_table(ctx)
    ctx.plugin_ctx[plugin_name(ctx)] = value
  end
end


return setmetatable({}, meta)
