-- Which handlers run for a request, with which conf: worked out once per
-- configuration, so that a request only walks dense arrays. A plan is never
-- changed; requests in flight keep the one that they started with.

local null = require("weir.json").null

local plan = {}
plan.__index = plan

local _M = {}

local request_phases = { "access", "response", "header_filter", "body_filter", "log" }

-- A copy without nulls, so that plugins see absent fields as nil.
local function without_nulls(value)
  if type(value) ~= "table" then
    return value
  end
  local out = {}
  for key, item in pairs(value) do
    if item ~= null then
      out[key] = without_nulls(item)
    end
  end
  return out
end

-- What the handlers of a configured plugin get. bind(conf, plugin, id), which may be nil,
-- binds it to the secrets that it refers to and gives why it cannot, or nil. The conf | nil, err.
function _M.conf_of(entity, plugin, bind)
  local conf = without_nulls(entity.config or {})
  local err = bind and bind(conf, plugin, entity.id)
  if err then
    return nil, ("the plugin %s (%s): %s"):format(entity.name, entity.id, err)
  end
  conf.__plugin_id = entity.id
  conf.route_id = entity.route and entity.route.id
  conf.service_id = entity.service and entity.service.id
  conf.plugin_instance_name = entity.instance_name
  return conf
end

-- The loaded plugins in the order that they run: PRIORITY descending, then name descending.
local function in_order(plugins)
  local out = {}
  for _, plugin in pairs(plugins) do
    out[#out + 1] = plugin
  end
  table.sort(out, function(a, b)
    if a.priority ~= b.priority then
      return a.priority > b.priority
    end
    return a.name > b.name
  end)
  return out
end

local GLOBAL = "*"

local function scope_key(route, service)
  return (route and route.id or GLOBAL) .. "/" .. (service and service.id or GLOBAL)
end

-- name -> scope -> {conf, id}, of the plugins that are switched on | nil, err.
local function by_scope(entities, plugins, bind)
  local out = {}
  for _, entity in ipairs(entities) do
    local plugin = plugins[entity.name]
    if entity.enabled ~= false then
      if not plugin then
        return nil, "plugin '" .. entity.name .. "' is configured but not loaded"
      end
      local conf, err = _M.conf_of(entity, plugin, bind)
      if not conf then
        return nil, err
      end
      local scopes = out[entity.name] or {}
      out[entity.name] = scopes
      scopes[scope_key(entity.route, entity.service)] = { conf = conf, id = entity.id }
    end
  end
  return out
end

-- The most specific conf of a plugin for a route; nil when none applies.
local function pick(scopes, route, service)
  if not scopes then
    return nil
  end
  local found
  if route and service then
    found = scopes[scope_key(route, service)]
  end
  if route then
    found = found or scopes[scope_key(route, nil)]
  end
  if service then
    found = found or scopes[scope_key(nil, service)]
  end
  return found or scopes[scope_key(nil, nil)]
end

local function new_list()
  return { n = 0, handlers = {}, plugins = {}, confs = {}, names = {}, ids = {} }
end

local function append(list, plugin, phase, conf, id)
  local n = list.n + 1
  list.n = n
  list.handlers[n] = plugin.handler[phase]
  list.plugins[n] = plugin.handler
  list.confs[n] = conf or false
  list.names[n] = plugin.name
  list.ids[n] = id or false
end

local function serves(route, protocol)
  for _, each in ipairs(route.protocols or { protocol }) do
    if each == protocol then
      return true
    end
  end
  return false
end

-- The lists of a route (nil: of requests that match none).
local function make_lists(ordered, scopes, route, rewrite)
  local lists = { rewrite = rewrite }
  for _, phase in ipairs(request_phases) do
    lists[phase] = new_list()
  end
  for _, plugin in ipairs(ordered) do
    local found = pick(scopes[plugin.name], route, route and route.service)
    if found then
      for _, phase in ipairs(request_phases) do
        if plugin.handler[phase] then
          append(lists[phase], plugin, phase, found.conf, found.id)
        end
      end
    end
  end
  lists.buffered = lists.response.n > 0
  lists.https_only = route ~= nil and not serves(route, "http")
  return lists
end

-- rewrite runs before a route is known: only what is configured for all.
local function make_rewrite(ordered, scopes)
  local list = new_list()
  for _, plugin in ipairs(ordered) do
    local found = plugin.handler.rewrite and pick(scopes[plugin.name])
    if found then
      append(list, plugin, "rewrite", found.conf, found.id)
    end
  end
  return list
end

-- What runs when a worker starts: init_worker of all that is loaded, and
-- configure with all confs of the plugin, or nil when it has none.
local function make_start(ordered, entities, scopes)
  local init_worker, configure = new_list(), new_list()
  for _, plugin in ipairs(ordered) do
    if plugin.handler.init_worker then
      append(init_worker, plugin, "init_worker")
    end
    if plugin.handler.configure then
      local confs
      for _, entity in ipairs(entities) do
        if entity.name == plugin.name and entity.enabled ~= false then
          confs = confs or {}
          confs[#confs + 1] = scopes[plugin.name][scope_key(entity.route, entity.service)].conf
        end
      end
      append(configure, plugin, "configure", confs)
    end
  end
  return init_worker, configure
end

-- The plan of a configuration (store.declarative) with the plugins of the
-- loader. Fields: none (the lists of requests without a route), init_worker,
-- configure. A list is {n, handlers, plugins, confs, names, ids}: run
-- handlers[i](plugins[i], confs[i]); a missing conf or id is false.
-- bind: as for conf_of.
function _M.new(config, plugins, bind)
  local ordered = in_order(plugins)
  local scopes, err = by_scope(config.plugins, plugins, bind)
  if not scopes then
    return nil, err
  end
  local rewrite = make_rewrite(ordered, scopes)
  local self = setmetatable({
    none = make_lists(ordered, scopes, nil, rewrite), by_route = {},
  }, plan)
  self.init_worker, self.configure = make_start(ordered, config.plugins, scopes)
  for _, route in ipairs(config.routes) do
    self.by_route[route] = make_lists(ordered, scopes, route, rewrite)
  end
  return self
end

-- The lists of a route entity, or of no route: {rewrite, access, response,
-- header_filter, body_filter, log, buffered}.
function plan:lists(route)
  return route and self.by_route[route] or self.none
end

return _M
