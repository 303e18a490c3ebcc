-- What the schemas of the limiting plugins have in common: fields of their configs,
-- and the rule that a larger period allows no less than a smaller one.

local site = require "weir.schema.site"


local _M = {}


_M.PERIODS = { "second", "minute", "hour", "day", "month", "year" }

-- Which there are depends on weir.conf.
function _M.policy()
  return {
    type = "string", default = "local", one_of = site.strategies(),
    description = "Where counters are: local keeps them in the memory that all workers "
      .. "of this machine share, cluster in the database of weir.conf, redis in Redis.",
  }
end

_M.fault_tolerant = {
  type = "boolean", required = true, default = true,
  description = "Whether requests pass while counters cannot be reached. Those of the "
    .. "policy local always can.",
}

_M.hide_client_headers = {
  type = "boolean", required = true, default = false,
  description = "Whether the headers about the limit are left out of responses.",
}

_M.error_code = {
  type = "number", default = 429, gt = 0, between = { 400, 599 },
  description = "The status of a rejection.",
}

_M.error_message = {
  type = "string", default = "API rate limit exceeded",
  description = "The message of a rejection.",
}

_M.draft_headers = {
  type = "boolean", required = true, default = false,
  description = "Whether the IETF draft's headers RateLimit-Policy and RateLimit are sent, too.",
}

_M.dry_run = {
  type = "boolean", required = true, default = false,
  description = "Whether requests that find no room are only logged, and pass.",
}


-- Through the schema an absent number may be nil or a null value.
local function number_at(limits, period)
  local n = limits[period]
  return type(n) == "number" and n or nil
end


-- limits: numbers by period. True, or nil and Kong's message without its first word: a larger
-- period that allows less would make the smaller one's limit unreachable.
function _M.check_order(limits)
  for i, period in ipairs(_M.PERIODS) do
    local smaller = number_at(limits, period)
    for j = i + 1, smaller and #_M.PERIODS or 0 do
      local larger = number_at(limits, _M.PERIODS[j])
      if larger and larger < smaller then
        return nil, ("limit for %s(%.1f) cannot be lower than the limit for %s(%.1f)")
          :format(_M.PERIODS[j], larger, period, smaller)
      end
    end
  end
  return true
end


return _M
