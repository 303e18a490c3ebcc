-- rate-limiting: counts requests in calendar windows and rejects those that find
-- no room. One decision over all windows: a rejected request counts in none. All
-- that can be worked out from a config is worked out once, at its first request.

local counter = require "weir.counter"

local kong = kong

local ceil = math.ceil
local floor = math.floor
local tonumber = tonumber


-- From the smallest window to the largest.
local PERIODS = {
  { name = "second", title = "Second" },
  { name = "minute", title = "Minute" },
  { name = "hour", title = "Hour" },
  { name = "day", title = "Day" },
  { name = "month", title = "Month" },
  { name = "year", title = "Year" },
}

local NO_ID = "00000000-0000-0000-0000-000000000000"


local RateLimiting = {
  PRIORITY = 910,
  VERSION = "3.0.0",
}


-- Config -> what is prepared for it. A config that a reload dropped goes with it.
local prepared = setmetatable({}, { __mode = "k" })


local function prepare(conf)
  local list, shown = {}, {}
  for _, period in ipairs(PERIODS) do
    local limit = conf[period.name]
    if limit then
      list[#list + 1] = { period = period.name, limit = limit }
      shown[#shown + 1] = {
        limit = limit,
        limit_text = tostring(limit),
        limit_header = "X-RateLimit-Limit-" .. period.title,
        remaining_header = "X-RateLimit-Remaining-" .. period.title,
      }
    end
  end
  local own = {
    windows = counter.windows(list),
    shown = shown,
    prefix = "ratelimit:" .. (conf.route_id or NO_ID) .. ":" .. (conf.service_id or NO_ID) .. ":",
  }
  prepared[conf] = own
  return own
end


-- What requests are counted by; consumers and credentials are known only once an
-- authentication plugin has said who the client is, until then the address stands in.
local function identifier_of(conf)
  local by = conf.limit_by
  local identifier
  if by == "service" then
    local service = kong.router.get_service()
    identifier = service and service.id
  elseif by == "header" then
    identifier = kong.request.get_header(conf.header_name)
  elseif by == "path" then
    local path = kong.request.get_path()
    identifier = path == conf.path and path
  end
  return identifier or kong.client.get_forwarded_ip()
end


local function seconds(reset_ms)
  local s = ceil(tonumber(reset_ms) / 1000)
  return s > 1 and s or 1
end


-- How many more requests a window has room for, behind this one.
local function remaining(limit, used)
  local left = floor(limit - used)
  return left > 0 and left or 0
end


-- The window that RateLimit-* describe: of those that rejected the request the one
-- that ends last, otherwise the one with the least room. The larger window on a tie.
local function choose(shown, used, reset_ms, granted)
  local chosen, chosen_worth = 0, nil
  for i = 0, #shown - 1 do
    local limit = shown[i + 1].limit
    local worth
    if granted then
      worth = -remaining(limit, used[i] + 1)
    elseif used[i] + 1 > limit then
      worth = tonumber(reset_ms[i])
    end
    if worth and (not chosen_worth or worth >= chosen_worth) then
      chosen, chosen_worth = i, worth
    end
  end
  return chosen
end


local function set_headers(shown, used, reset_ms, granted)
  local set_header = kong.response.set_header
  local charged = granted and 1 or 0
  for i = 0, #shown - 1 do
    local window = shown[i + 1]
    set_header(window.limit_header, window.limit_text)
    set_header(window.remaining_header, tostring(remaining(window.limit, used[i] + charged)))
  end
  local i = choose(shown, used, reset_ms, granted)
  local window = shown[i + 1]
  local reset = tostring(seconds(reset_ms[i]))
  set_header("RateLimit-Limit", window.limit_text)
  set_header("RateLimit-Remaining", tostring(remaining(window.limit, used[i] + charged)))
  set_header("RateLimit-Reset", reset)
  if not granted then
    set_header("Retry-After", reset)
  end
end


function RateLimiting:access(conf)
  local own = prepared[conf] or prepare(conf)
  local granted, used, reset_ms = counter.admit(own.prefix .. identifier_of(conf), own.windows, 1)
  if not conf.hide_client_headers then
    set_headers(own.shown, used, reset_ms, granted)
  end
  if not granted then
    return kong.response.error(conf.error_code, conf.error_message)
  end
end


return RateLimiting
