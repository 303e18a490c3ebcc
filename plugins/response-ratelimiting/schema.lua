-- What a response-ratelimiting plugin's config may hold. Messages, and where they
-- stand, are Kong's; this is only a description, the checker is weir.schema.

local messages = require "weir.schema.messages"
local redis = require "weir.schema.redis"
local schema = require "weir.schema"
local site = require "weir.schema.site"
local typedefs = require "weir.schema.typedefs"
local types = require "weir.schema.types"

local NAME = "response-ratelimiting"

local PERIODS = { "second", "minute", "hour", "day", "month", "year" }


-- One limit: numbers by period.
local function limit_schema()
  local fields = {}
  for i, period in ipairs(PERIODS) do
    fields[i] = { [period] = {
      type = "number", gt = 0,
      description = "The number of units that may be used up in one calendar " .. period .. ".",
    } }
  end
  return assert(schema.new({ fields = fields, entity_checks = { { at_least_one_of = PERIODS } } }))
end

local LIMIT = limit_schema()


local function number_at(limit, period)
  local n = limit[period]
  return type(n) == "number" and n or nil
end


-- A larger period that allows less would make the smaller one's limit unreachable.
local function check_order(limit)
  for i = 1, #PERIODS do
    local smaller = number_at(limit, PERIODS[i])
    for j = i + 1, smaller and #PERIODS or 0 do
      local larger = number_at(limit, PERIODS[j])
      if larger and larger < smaller then
        return nil, ("the limit for %s(%.1f) cannot be lower than the limit for %s(%.1f)")
          :format(PERIODS[j], larger, PERIODS[i], smaller)
      end
    end
  end
  return true
end


-- A limit's name becomes a part of names of headers, and stands before a "=" in a list.
local function check_name(name)
  if type(name) ~= "string" then
    return nil, messages.types.string
  end
  if name:find("^[%w_.-]+$") then
    return true
  end
  return nil, "bad limit name '" .. name
    .. "', allowed characters are A-Z, a-z, 0-9, '_', '-', and '.'"
end


local function check_limit(name, limit)
  local ok, err = check_name(name)
  if not ok then
    return nil, err
  elseif types.is_null(limit) then
    return nil, messages.required
  elseif not types.checks.record(limit) then
    return nil, messages.types.record
  end
  ok, err = LIMIT:validate(limit)
  if not ok then
    return nil, err
  end
  return check_order(limit)
end


local function by_text(a, b)
  return tostring(a) < tostring(b)
end


-- COMPAT(kong): what is wrong with one of the limits is said of `limits`, without its name.
local function check_limits(limits)
  local names = {}
  for name in pairs(limits) do
    names[#names + 1] = name
  end
  table.sort(names, by_text)
  for _, name in ipairs(names) do
    local ok, err = check_limit(name, limits[name])
    if not ok then
      return nil, err
    end
  end
  return true
end


return {
  name = NAME,
  fields = {
    { protocols = typedefs.protocols_http },
    { config = {
      type = "record",
      shorthand_fields = redis.aliases(NAME),
      fields = {
        { limits = {
          type = "map", required = true, len_min = 1, custom_validator = check_limits,
          description = "The limits: a name for each, and how many of its units a client may use "
            .. "up in a calendar second, minute, hour, day, month or year.",
        } },
        { header_name = typedefs.header_name {
          default = "x-kong-limit",
          description = "The header of the service's response that says what the request cost.",
        } },
        { limit_by = {
          type = "string", default = "consumer", one_of = { "consumer", "credential", "ip" },
          description = "What is counted together. A request that has no such thing is counted "
            .. "by the client's address.",
        } },
        { policy = {
          type = "string", default = "local", one_of = site.strategies(),
          description = "Where counters are: local keeps them in the memory that all workers "
            .. "of this machine share, cluster in the database of weir.conf, redis in Redis.",
        } },
        { fault_tolerant = {
          type = "boolean", required = true, default = true,
          description = "Whether requests pass while counters cannot be reached. Those of the "
            .. "policy local always can.",
        } },
        { redis = redis.record },
        { block_on_first_violation = {
          type = "boolean", required = true, default = false,
          description = "Whether a request is rejected before it reaches the service when one of "
            .. "the limits has no units left.",
        } },
        { hide_client_headers = {
          type = "boolean", required = true, default = false,
          description = "Whether the headers about the limits are left out of responses.",
        } },
        { draft_headers = {
          type = "boolean", required = true, default = false,
          description = "Whether the IETF draft's headers RateLimit-Policy and RateLimit are "
            .. "sent too.",
        } },
        { dry_run = {
          type = "boolean", required = true, default = false,
          description = "Whether what would be denied is only logged.",
        } },
      },
    } },
  },
  entity_checks = redis.require_target({}, "policy"),
}
