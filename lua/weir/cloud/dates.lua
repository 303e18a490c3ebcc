-- Moments as clouds write them, in seconds since the epoch: of RFC 3339 in UTC,
-- and of the Date field of HTTP. nil for what is neither. And the clock that never
-- steps, by which the end of what is lent is kept.

local C = require("weir.ffi").C

local floor, gsub, match = math.floor, string.gsub, string.match

local MONTHS = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9,
                 Oct = 10, Nov = 11, Dec = 12 }

local _M = {}


-- Days since the epoch; years are counted from March, so that a leap day is a year's last.
local function days_of(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  return 365 * year + floor(year / 4) - floor(year / 100) + floor(year / 400)
    + floor((153 * (month - 3) + 2) / 5) + day - 719469
end


local function moment(year, month, day, hour, minute, second)
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if month < 1 or month > 12 or day < 1 or day > 31 then
    return nil
  end
  return days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
end


-- 2026-11-21T20:59:14Z, also with a fraction, also with +00:00.
function _M.from_rfc3339(text)
  local year, month, day, hour, minute, second = match((gsub(text, "[+-]00:00$", "Z")),
    "^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)%.?%d*[Zz]$")
  return year and moment(year, month, day, hour, minute, second)
end


-- Sat, 21 Nov 2026 20:59:14 GMT
function _M.from_http(text)
  local day, month, year, hour, minute, second = match(text,
    "^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
  return MONTHS[month] and moment(year, MONTHS[month], day, hour, minute, second) or nil
end


-- What the clock that never steps says, in seconds.
function _M.steady_now()
  return C.weir_mono_us() / 1e6
end


-- What that clock will say at a moment.
function _M.steady(moment_s)
  return _M.steady_now() + moment_s - C.weir_now()
end


return _M
