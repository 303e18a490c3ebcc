-- rate-limiting: counts requests in calendar windows and rejects those that find
-- no room. One decision over all windows: a rejected request counts in none. All
-- that can be worked out from a config is worked out once, at its first request.
-- Five or more headers on each response are most of the work: they go to C directly.

local counter = require "weir.counter"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local kong = kong
local C = weir.C

local ceil = math.ceil
local floor = math.floor
local format = string.format
local tonumber = tonumber
local tostring = tostring


-- From the smallest window to the largest.
local PERIODS = {
  { name = "second", title = "Second" },
  { name = "minute", title = "Minute" },
  { name = "hour", title = "Hour" },
  { name = "day", title = "Day" },
  { name = "month", title = "Month" },
  { name = "year", title = "Year" },
}

local RESPONSE = tonumber(C.WEIR_HEADERS_RESPONSE)

local NO_ID = "00000000-0000-0000-0000-000000000000"


local RateLimiting = {
  PRIORITY = 910,
  VERSION = "3.0.0",
}


-- Config -> what is prepared for it. A config that a reload dropped goes with it.
local prepared = setmetatable({}, { __mode = "k" })


-- Decimal digits; tostring would write large numbers as 1e+15.
local function text_of(n)
  return n < 1e14 and tostring(n) or format("%.0f", n)
end


local function prepare(conf)
  local list, shown = {}, {}
  for _, period in ipairs(PERIODS) do
    local limit = conf[period.name]
    if limit then
      list[#list + 1] = { period = period.name, limit = limit }
      shown[#shown + 1] = {
        limit = limit,
        limit_text = text_of(limit),
        limit_header = "X-RateLimit-Limit-" .. period.title,
        remaining_header = "X-RateLimit-Remaining-" .. period.title,
      }
    end
  end
  local own = {
    store = assert(counter.open(conf.policy or "local")),
    windows = counter.windows(list),
    shown = shown,
    prefix = "ratelimit:" .. (conf.route_id or NO_ID) .. ":" .. (conf.service_id or NO_ID) .. ":",
    kind = (conf.limit_by or "ip") .. "=",
  }
  prepared[conf] = own
  return own
end


-- What requests are counted by; consumers and credentials are known only once an
-- authentication plugin has said who the client is, until then the address stands in.
-- What is no address bears its kind: a client that sends another's address as the value
-- of a header must not use up what that other has left.
local function identifier_of(conf, kind)
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
  return identifier and kind .. identifier or kong.client.get_forwarded_ip()
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


local function set_text(req, name, text)
  C.weir_header_set(req, RESPONSE, name, #name, text, #text)
end


local function set_number(req, name, n)
  C.weir_header_set_number(req, RESPONSE, name, #name, n)
end


-- The two headers of each window from number i on. No loop: with one window it would be
-- left at once each time, and the JIT would give up on what it stands in.
local function set_windows(req, shown, used, charged, i)
  local window = shown[i]
  if not window then
    return
  end
  set_text(req, window.limit_header, window.limit_text)
  set_number(req, window.remaining_header, remaining(window.limit, used[i - 1] + charged))
  return set_windows(req, shown, used, charged, i + 1)
end


local function set_headers(req, shown, used, reset_ms, granted)
  local charged = granted and 1 or 0
  local i = #shown > 1 and choose(shown, used, reset_ms, granted) or 0
  local window = shown[i + 1]
  local reset_s = seconds(reset_ms[i])
  set_windows(req, shown, used, charged, 1)
  set_text(req, "RateLimit-Limit", window.limit_text)
  set_number(req, "RateLimit-Remaining", remaining(window.limit, used[i] + charged))
  set_number(req, "RateLimit-Reset", reset_s)
  if not granted then
    set_number(req, "Retry-After", reset_s)
  end
end


function RateLimiting:access(conf)
  local own = prepared[conf] or prepare(conf)
  local granted, used, reset_ms = counter.admit(own.store, own.prefix ..
                                                identifier_of(conf, own.kind), own.windows, 1)
  if not conf.hide_client_headers then
    set_headers(wait.ctx.req, own.shown, used, reset_ms, granted)
  end
  if not granted then
    return kong.response.error(conf.error_code or 429, conf.error_message)
  end
end


return RateLimiting
