-- rate-limiting: counts requests in calendar windows and rejects those that find
-- no room. One decision over all windows: a rejected request counts in none. All
-- that can be worked out from a config is worked out once, at its first request.

local counter = require "weir.counter"
local headers = require "weir.limiting.headers"
local identifiers = require "weir.limiting.identifier"
local limiting = require "weir.limiting"
local wait = require "weir.wait"

local kong = kong

local admit = counter.admit
local identifier_of = identifiers.of
local set_headers = headers.set
local set_number = headers.set_number


local RateLimiting = {
  PRIORITY = 910,
  VERSION = "3.0.0",
}


local prepared = limiting.cache()


-- The configured windows, for counter.windows; the names of their periods; how they are shown.
local function windows_of(conf)
  local list, titles, shown = {}, {}, {}
  for _, period in ipairs(limiting.PERIODS) do
    local limit = conf[period.name]
    if limit then
      local n = #list + 1
      list[n] = { period = period.name, limit = limit }
      titles[n] = period.name
      shown[n] = headers.window(period.title, limit, period.name, period.size_s)
    end
  end
  return list, titles, shown
end


local function prepare(conf)
  local list, _, shown = windows_of(conf)
  local by = conf.limit_by or "ip"
  local own = {
    store = limiting.open(conf.policy or "local", conf.redis, conf.sync_rate, function()
      prepared[conf] = nil
    end),
    windows = counter.windows(list),
    shown = shown,
    draft = conf.draft_headers and headers.policies(shown),
    prefix = limiting.prefix("ratelimit", conf),
    by = by,
    mark = identifiers.mark(by),
  }
  prepared[conf] = own
  return own
end


local function deny(conf, retry_s)
  if not conf.hide_client_headers then
    set_number(wait.ctx.req, "Retry-After", retry_s)
  end
  return kong.response.error(conf.error_code or 429, conf.error_message)
end


function RateLimiting:access(conf)
  local own = prepared[conf] or prepare(conf)
  local identifier = identifier_of(own.by, own.mark, conf.header_name, conf.path)
  local granted, used, reset_ms = admit(own.store, own.prefix .. identifier, own.windows, 1)
  if granted == nil then
    return limiting.fail(conf)
  end
  local charged = granted and 1 or 0
  local retry_s
  if not conf.hide_client_headers then
    retry_s = set_headers(wait.ctx.req, own.shown, used, reset_ms, charged)
    if own.draft then
      headers.set_draft(wait.ctx.req, own.draft, own.shown, used, reset_ms, charged)
    end
  end
  if granted then
    return
  end
  if conf.dry_run then
    return limiting.log_dry_run(identifier)
  end
  return deny(conf, retry_s)
end


-- See weir.limiting.
function RateLimiting.counters(conf, identifier, by)
  local list, titles = windows_of(conf)
  return { {
    name = "",
    store = limiting.open(conf.policy or "local", conf.redis, conf.sync_rate),
    identity = limiting.prefix("ratelimit", conf)
      .. identifiers.given(by or conf.limit_by or "ip", identifier),
    windows = counter.windows(list),
    titles = titles,
  } }
end


return RateLimiting
