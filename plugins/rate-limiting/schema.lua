-- What a rate-limiting plugin's config may hold. Messages are Kong's; this is
-- only a description, the checker is weir.schema.

local fields = require "weir.limiting.fields"
local redis = require "weir.schema.redis"
local site = require "weir.schema.site"
local typedefs = require "weir.schema.typedefs"
local types = require "weir.schema.types"

local NAME = "rate-limiting"

local CONFIG_LIMITS = {}
for i, period in ipairs(fields.PERIODS) do
  CONFIG_LIMITS[i] = "config." .. period
end


local function check_limits(entity)
  local ok, err = fields.check_order(entity.config)
  if not ok then
    return nil, { config = "The " .. err }
  end
  return true
end


local function check_sync_rate(entity)
  local config = entity.config
  if config.sync_rate == -1 then
    return true
  elseif config.policy ~= "redis" then
    return nil, { config = "sync_rate can only be used with the redis policy" }
  elseif config.sync_rate < 0.02 then
    return nil, { config = "sync_rate must be greater than 0.02, or -1 to disable" }
  end
  return true
end


-- COMPAT(kong): the larger plugin bore this name, too, in Kong Enterprise before 1.0. What of
-- a config of its form came from a web form may be lists with commas, and its counters
-- were those of the cluster unless it said otherwise.
local function as_list(value, item)
  if type(value) == "string" then
    local list = {}
    for text in value:gmatch("[^,%s]+") do
      list[#list + 1] = item(text) or text
    end
    return list
  end
  return type(value) == "number" and { value } or value
end


local function default_strategy(config)
  local is_known = table.concat(site.strategies(), " "):find("cluster", 1, true)
  return is_known and config.sync_rate ~= -1 and "cluster" or "local"
end


-- The name of the plugin that is meant by a config, its config, and what is said of it; nil
-- if it is this one.
local function successor(config)
  if types.is_null(config.limit) or types.is_null(config.window_size) then
    return nil
  end
  local out = {}
  for name, value in pairs(config) do
    out[name] = value
  end
  out.limit = as_list(config.limit, tonumber)
  out.window_size = as_list(config.window_size, tonumber)
  if type(config.redis) == "table" then
    config.redis.sentinel_addresses = as_list(config.redis.sentinel_addresses, tostring)
  end
  if types.is_null(config.strategy) then
    out.strategy = default_strategy(config)
  end
  return "rate-limiting-advanced", out, NAME .. ": a config with limit and window_size is "
    .. "deprecated, please use rate-limiting-advanced instead"
end


local function limit(period)
  return {
    type = "number", gt = 0,
    description = "The number of requests that are let through in one calendar " .. period .. ".",
  }
end


return {
  name = NAME,
  successor = successor,
  fields = {
    { protocols = typedefs.protocols_http },
    { config = {
      type = "record",
      shorthand_fields = redis.aliases(NAME),
      fields = {
        { second = limit("second") },
        { minute = limit("minute") },
        { hour = limit("hour") },
        { day = limit("day") },
        { month = limit("month") },
        { year = limit("year") },
        { limit_by = {
          type = "string", default = "consumer",
          one_of = { "consumer", "credential", "ip", "service", "header", "path" },
          description = "What is counted together. A request that has no such thing is counted "
            .. "by the client's address.",
        } },
        { header_name = typedefs.header_name {
          description = "The header whose value is counted by, if limit_by is header.",
        } },
        { path = typedefs.path {
          description = "The path that is counted by, if limit_by is path.",
        } },
        { policy = fields.policy() },
        { fault_tolerant = fields.fault_tolerant },
        { redis = redis.record },
        { hide_client_headers = fields.hide_client_headers },
        { error_code = fields.error_code },
        { error_message = fields.error_message },
        { sync_rate = {
          type = "number", required = true, default = -1,
          description = "The seconds between two exchanges of counters with Redis; -1 asks it on "
            .. "every request.",
        } },
        { draft_headers = fields.draft_headers },
        { dry_run = fields.dry_run },
      },
    } },
  },
  entity_checks = redis.require_target({
    { at_least_one_of = CONFIG_LIMITS },
    { conditional = {
      if_field = "config.limit_by", if_match = { eq = "header" },
      then_field = "config.header_name", then_match = { required = true },
    } },
    { conditional = {
      if_field = "config.limit_by", if_match = { eq = "path" },
      then_field = "config.path", then_match = { required = true },
    } },
    { custom_entity_check = { field_sources = { "config" }, fn = check_limits } },
    { custom_entity_check = { field_sources = { "config" }, fn = check_sync_rate } },
  }, "policy"),
}
