-- What a rate-limiting-advanced config may hold. Messages are Kong's where Kong's
-- are known; this is only a description, the checker is weir.schema.

local null = require("weir.json").null
local fields = require "weir.limiting.fields"
local redis = require "weir.schema.redis"
local site = require "weir.schema.site"
local typedefs = require "weir.schema.typedefs"

local NAME = "rate-limiting-advanced"

-- As many as one decision can have (weir.counter), and the longest that is counted in.
local WINDOWS_MAX = 8
local SIZE_MAX_S = 100 * 366 * 86400

local IDENTIFIERS = {
  "ip", "credential", "consumer", "service", "header", "path", "route",
}

local NO_GROUPS = "consumer groups are not supported"


local function check_lengths(entity)
  local config = entity.config
  if #config.limit ~= #config.window_size then
    return nil, "You must provide the same number of windows and limits"
  end
  return true
end


-- With -1 the counters are those of each node, whatever the strategy.
local function check_strategy(entity)
  local config = entity.config
  if config.strategy ~= "cluster" or config.sync_rate == -1 then
    return true
  end
  local strategies = site.strategies()
  for _, strategy in ipairs(strategies) do
    if strategy == "cluster" then
      return true
    end
  end
  return nil, { ["config.strategy"] = "expected one of: " .. table.concat(strategies, ", ") }
end


local function check_sync_rate(rate)
  if rate == -1 or rate == 0 or rate >= 0.02 then
    return true
  end
  return nil, "must be -1, 0, or at least 0.02"
end


local function needs(field, kind)
  return { conditional = {
    if_field = "config.identifier", if_match = { eq = kind },
    then_field = "config." .. field, then_match = { required = true },
  } }, { conditional = {
    if_field = "config.compound_identifier", if_match = { contains = kind },
    then_field = "config." .. field, then_match = { required = true },
  } }
end


-- The identifier does not matter where there is a compound one.
local function unless_compound(check)
  check.conditional.unless_filled = { "config.compound_identifier" }
  return check
end

local header, header_in_compound = needs("header_name", "header")
local path, path_in_compound = needs("path", "path")


local function throttling(default, description)
  return { type = "number", required = true, default = default, between = { 1, 1000000 },
    description = description }
end


return {
  name = NAME,
  fields = {
    { protocols = typedefs.protocols_http },
    { config = {
      type = "record",
      shorthand_fields = redis.aliases(NAME),
      fields = {
        { limit = {
          type = "array", required = true, len_min = 1, len_max = WINDOWS_MAX,
          elements = { type = "number", gt = 0 },
          description = "How many requests are let through, in each of the windows.",
        } },
        { window_size = {
          type = "array", required = true, len_min = 1, len_max = WINDOWS_MAX,
          elements = { type = "number", gt = 0, between = { 0.001, SIZE_MAX_S } },
          description = "The windows' sizes in seconds, in the order of limit.",
        } },
        { window_type = {
          type = "string", required = true, default = "sliding", one_of = { "sliding", "fixed" },
          description = "Whether what was counted in the window before weighs as far as that "
            .. "window is not yet over, or not at all.",
        } },
        { identifier = {
          type = "string", required = true, default = "consumer", one_of = IDENTIFIERS,
          description = "What is counted together. A request that has no such thing is counted "
            .. "by the client's address.",
        } },
        { compound_identifier = {
          type = "array", elements = { type = "string", one_of = IDENTIFIERS },
          description = "Several of them, which together are what is counted by; goes before "
            .. "identifier.",
        } },
        { counter_key = {
          type = "string",
          one_of = { "consumer.id", "consumer.username", "consumer.custom_id" },
          description = "What of a consumer is counted by.",
        } },
        { header_name = typedefs.header_name {
          description = "The header whose value is counted by, if that is asked for.",
        } },
        { path = typedefs.path {
          description = "The path that is counted by, if that is asked for.",
        } },
        { strategy = {
          type = "string", required = true, default = "local",
          one_of = { "cluster", "redis", "local" },
          description = "Where counters are: local keeps them in the memory that all workers "
            .. "of this machine share, cluster in the database of weir.conf, redis in Redis.",
        } },
        { sync_rate = {
          type = "number", custom_validator = check_sync_rate,
          description = "The seconds between two exchanges of counters with the store; 0 or "
            .. "nothing asks it on every request, -1 never: each node counts by itself.",
        } },
        { namespace = {
          type = "string",
          description = "Plugins of the same namespace share their counters; by default each "
            .. "has its own.",
        } },
        { dictionary_name = {
          type = "string", required = true, default = "kong_rate_limiting_counters",
          description = "Without effect: weir has one table of counters.",
        } },
        { lock_dictionary_name = {
          type = "string", required = true, default = "kong_locks",
          description = "Without effect, as dictionary_name.",
        } },
        { redis = redis.record },
        { hide_client_headers = {
          type = "boolean", default = false,
          description = "Whether the headers about the limit are left out.",
        } },
        { retry_after_jitter_max = {
          type = "number", default = 0, between = { 0, 2147483647 },
          description = "The most seconds that are added to Retry-After by chance, so that not "
            .. "all clients come again at once.",
        } },
        { disable_penalty = {
          type = "boolean", default = false,
          description = "Whether rejected requests do not count. In fixed windows they never do.",
        } },
        { error_code = fields.error_code },
        { error_message = fields.error_message },
        { enforce_consumer_groups = {
          type = "boolean", default = false, one_of = { false }, err = NO_GROUPS,
          description = "Only false: there are no consumer groups.",
        } },
        { consumer_groups = {
          type = "array", elements = { type = "string" }, eq = null, err = NO_GROUPS,
          description = "Only null: there are no consumer groups.",
        } },
        { throttling = {
          type = "record", required = true, description = "Whether requests that find no room "
            .. "are held for a while.",
          fields = {
            { enabled = {
              type = "boolean", required = true, default = false,
              description = "Whether a request that finds no room is held, and tried again.",
            } },
            { interval = throttling(5, "The seconds between two tries.") },
            { queue_limit = throttling(5, "How many requests a worker holds at most; others are "
              .. "rejected at once.") },
            { retry_times = throttling(3, "How often a held request is tried again.") },
          },
        } },
        { draft_headers = fields.draft_headers },
        { dry_run = fields.dry_run },
      },
    } },
  },
  entity_checks = redis.require_target({
    { custom_entity_check = {
      field_sources = { "config.limit", "config.window_size" }, fn = check_lengths,
    } },
    { custom_entity_check = { field_sources = { "config" }, fn = check_strategy } },
    unless_compound(header), header_in_compound, unless_compound(path), path_in_compound,
  }, "strategy"),
}
