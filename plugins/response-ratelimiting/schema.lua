-- What a response-ratelimiting plugin's config may hold. Messages, and where they
-- stand, are Kong's; this is only a description, the checker is weir.schema.

local fields = require "weir.limiting.fields"
local messages = require "weir.schema.messages"
local redis = require "weir.schema.redis"
local schema = require "weir.schema"
local typedefs = require "weir.schema.typedefs"
local types = require "weir.schema.types"

local NAME = "response-ratelimiting"


-- One limit: numbers by period.
local function limit_schema()
  local numbers = {}
  for i, period in ipairs(fields.PERIODS) do
    numbers[i] = { [period] = {
      type = "number", gt = 0,
      description = "The number of units that may be used up in one calendar " .. period .. ".",
    } }
  end
  return assert(schema.new({
    fields = numbers, entity_checks = { { at_least_one_of = fields.PERIODS } },
  }))
end

local LIMIT = limit_schema()


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
  ok, err = fields.check_order(limit)
  return ok, err and "the " .. err
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
        { policy = fields.policy() },
        { fault_tolerant = fields.fault_tolerant },
        { redis = redis.record },
        { block_on_first_violation = {
          type = "boolean", required = true, default = false,
          description = "Whether a request is rejected before it reaches the service when one of "
            .. "the limits has no units left.",
        } },
        { hide_client_headers = fields.hide_client_headers },
        { draft_headers = fields.draft_headers },
        { dry_run = fields.dry_run },
      },
    } },
  },
  entity_checks = redis.require_target({}, "policy"),
}
