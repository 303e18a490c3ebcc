-- The headers that tell a client of its limits: X-RateLimit-* for each window,
-- RateLimit-Limit, -Remaining and -Reset for the one that matters most, and the
-- structured fields of the IETF draft. Five or more headers on each response are
-- most of a limiting plugin's work: they go to C directly, and their texts are
-- made once for each config. Windows are walked by calls in the place of loops:
-- with one window a loop would be left at once each time, and the JIT would give
-- up on what it stands in.

local weir = require "weir.ffi"

local C = weir.C

local ceil = math.ceil
local floor = math.floor
local format = string.format
local tonumber = tonumber
local tostring = tostring

local RESPONSE = tonumber(C.WEIR_HEADERS_RESPONSE)

-- The largest integer of a structured field.
local INTEGER_MAX = 999999999999999


local _M = {}


-- Decimal digits; tostring would write large numbers as 1e+15.
local function text_of(n)
  return n < 1e14 and tostring(n) or format("%.0f", n)
end


local function integer_of(n)
  return n < INTEGER_MAX and floor(n) or INTEGER_MAX
end


-- A window as the functions below show it. suffix: what ends its X-RateLimit-* names; policy:
-- its name in the draft's fields; size_s: its length, nil where that changes (a month).
function _M.window(suffix, limit, policy, size_s)
  return {
    limit = limit,
    limit_text = text_of(limit),
    limit_header = "X-RateLimit-Limit-" .. suffix,
    remaining_header = "X-RateLimit-Remaining-" .. suffix,
    policy_name = format('"%s"', policy),
    policy = format('"%s";q=%.0f', policy, integer_of(limit))
      .. (size_s and format(";w=%.0f", size_s) or ""),
  }
end


-- The field RateLimit-Policy for an array of such windows: it never changes.
function _M.policies(shown)
  local out = {}
  for i, window in ipairs(shown) do
    out[i] = window.policy
  end
  return table.concat(out, ", ")
end


local function set_text(req, name, text)
  C.weir_header_set(req, RESPONSE, name, #name, text, #text)
end
_M.set_text = set_text


local function set_number(req, name, n)
  C.weir_header_set_number(req, RESPONSE, name, #name, n)
end
_M.set_number = set_number


-- The seconds that a client is told: never 0.
local function seconds(reset_ms)
  local s = ceil(tonumber(reset_ms) / 1000)
  return s > 1 and s or 1
end
_M.seconds = seconds


-- How many more requests a window has room for.
local function remaining(limit, used)
  local left = floor(limit - used)
  return left > 0 and left or 0
end
_M.remaining = remaining


-- The window that RateLimit-* describe: of those that rejected the request the one
-- that ends last, otherwise the one with the least room. The larger window on a tie.
local function choose(shown, used, reset_ms, charged)
  local chosen, chosen_worth = 0, nil
  for i = 0, #shown - 1 do
    local limit = shown[i + 1].limit
    local worth
    if charged > 0 then
      worth = -remaining(limit, used[i] + charged)
    elseif used[i] + 1 > limit then
      worth = tonumber(reset_ms[i])
    end
    if worth and (not chosen_worth or worth >= chosen_worth) then
      chosen, chosen_worth = i, worth
    end
  end
  return chosen
end


-- The two headers of each window from number i on.
local function set_windows(req, shown, used, charged, i)
  local window = shown[i]
  if not window then
    return
  end
  set_text(req, window.limit_header, window.limit_text)
  set_number(req, window.remaining_header, remaining(window.limit, used[i - 1] + charged))
  return set_windows(req, shown, used, charged, i + 1)
end


-- Sets all of them. shown: an array of window(); used and reset_ms: as counter.admit gave
-- them; charged: what the request was charged, 0 if it was rejected. Returns the seconds
-- to the end of the window that was described, which is what Retry-After says.
function _M.set(req, shown, used, reset_ms, charged)
  local i = #shown > 1 and choose(shown, used, reset_ms, charged) or 0
  local window = shown[i + 1]
  local reset_s = seconds(reset_ms[i])
  set_windows(req, shown, used, charged, 1)
  set_text(req, "RateLimit-Limit", window.limit_text)
  set_number(req, "RateLimit-Remaining", remaining(window.limit, used[i] + charged))
  set_number(req, "RateLimit-Reset", reset_s)
  return reset_s
end


-- The field RateLimit from window i on, behind text.
local function states(shown, used, reset_ms, charged, i, text)
  local window = shown[i]
  if not window then
    return text
  end
  local left = integer_of(remaining(window.limit, used[i - 1] + charged))
  text = text .. (i > 1 and ", " or "") .. window.policy_name .. ";r=" .. text_of(left)
    .. ";t=" .. seconds(reset_ms[i - 1])
  return states(shown, used, reset_ms, charged, i + 1, text)
end


-- The draft's fields: policies is the text of policies(shown).
function _M.set_draft(req, policies, shown, used, reset_ms, charged)
  set_text(req, "RateLimit-Policy", policies)
  set_text(req, "RateLimit", states(shown, used, reset_ms, charged, 1, ""))
end


return _M
