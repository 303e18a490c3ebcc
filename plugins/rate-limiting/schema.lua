-- What a rate-limiting plugin's config may hold. Messages are Kong's; this is
-- only a description, the checker is weir.schema.

local typedefs = require "weir.schema.typedefs"

local PERIODS = { "second", "minute", "hour", "day", "month", "year" }

local CONFIG_LIMITS = {}
for i, period in ipairs(PERIODS) do
  CONFIG_LIMITS[i] = "config." .. period
end


-- Through the schema an absent number may be nil or a null value.
local function limit_of(config, period)
  local limit = config[period]
  return type(limit) == "number" and limit or nil
end


-- A larger period that allows less would make the smaller one's limit unreachable.
local function check_limits(entity)
  local config = entity.config
  for i = 1, #PERIODS do
    local smaller = limit_of(config, PERIODS[i])
    for j = i + 1, smaller and #PERIODS or 0 do
      local larger = limit_of(config, PERIODS[j])
      if larger and larger < smaller then
        return nil, { config = ("The limit for %s(%.1f) cannot be lower than the limit for " ..
                                "%s(%.1f)"):format(PERIODS[j], larger, PERIODS[i], smaller) }
      end
    end
  end
  return true
end


local function check_sync_rate(entity)
  if entity.config.sync_rate ~= -1 then
    return nil, { config = "sync_rate can only be used with the redis policy" }
  end
  return true
end


local function limit(period)
  return {
    type = "number", gt = 0,
    description = "The number of requests that are let through in one calendar " .. period .. ".",
  }
end


return {
  name = "rate-limiting",
  fields = {
    { protocols = typedefs.protocols_http },
    { config = {
      type = "record",
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
        { policy = {
          type = "string", default = "local", one_of = { "local" },
          description = "Where counters are: local keeps them in the memory that all workers "
            .. "of this machine share.",
        } },
        { fault_tolerant = {
          type = "boolean", required = true, default = true,
          description = "Whether requests pass while counters cannot be reached. Those of the "
            .. "policy local always can.",
        } },
        { hide_client_headers = {
          type = "boolean", required = true, default = false,
          description = "Whether the headers about the limit are left out.",
        } },
        { error_code = {
          type = "number", default = 429, gt = 0, between = { 400, 599 },
          description = "The status of a rejection.",
        } },
        { error_message = {
          type = "string", default = "API rate limit exceeded",
          description = "The message of a rejection.",
        } },
        { sync_rate = {
          type = "number", required = true, default = -1,
          description = "How often counters are exchanged with a store: -1 is on every request, "
            .. "the only value for the policy local.",
        } },
      },
    } },
  },
  entity_checks = {
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
  },
}
