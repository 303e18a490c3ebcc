-- The counters that requests are limited by: admit, charge and peek over a fixed
-- set of windows, in the store that counter.open gave. Owns the arrays that pass
-- between Lua and C; they are made once for each set of windows and overwritten
-- by each call, so results are read at once, before anything else may wait.

local weir = require "weir.ffi"

local C = weir.C
local ffi = weir.ffi


local _M = {}


-- The store that lies in the memory that all workers of this machine share.
local LOCAL = 0

-- The most windows that one decision may have.
local WINDOWS_MAX = 8

local PERIODS = { second = 1, minute = 2, hour = 3, day = 4, month = 5, year = 6 }

-- A set of windows, from a list of { limit = number, period = "minute" } or
-- { limit = number, size_s = number }. options.sliding: the part of the previous
-- window that still weighs is counted too.
function _M.windows(list, options)
  local n = #list
  if n < 1 or n > WINDOWS_MAX then
    error("there must be 1 to " .. WINDOWS_MAX .. " windows", 2)
  end
  local self = {
    n = n,
    what = ffi.new("int64_t[?]", n),
    limit = ffi.new("double[?]", n),
    used = ffi.new("double[?]", n),
    previous = ffi.new("double[?]", n),
    reset_ms = ffi.new("int64_t[?]", n),
    sliding = options and options.sliding and 1 or 0,
  }
  for i = 1, n do
    local window = list[i]
    local what = PERIODS[window.period] or (window.size_s and -window.size_s * 1000)
    if not what then
      error("a window needs a period or size_s", 2)
    end
    self.what[i - 1] = what
    self.limit[i - 1] = window.limit or 0
  end
  return self
end


-- The store of a plugin's strategy: "local". Returns nil and why not, if there is none.
function _M.open(strategy)
  if strategy == "local" then
    return LOCAL
  end
  return nil, "there is no store of counters named " .. tostring(strategy)
end


-- Admits cost units (at least 1) to identity in all windows, or in none. Returns whether it
-- did, and two arrays (from 0) with the state before the call: what was counted, and the
-- milliseconds to each window's end. windows.previous is a third: what was counted in the
-- whole of the previous window, if they are sliding. They live until the next call.
-- Where the store does not answer: nil and why. May wait, unless the store is local.
function _M.admit(_, identity, windows, cost)
  local used, reset_ms = windows.used, windows.reset_ms
  local granted = C.weir_counter_admit(identity, #identity, windows.n, windows.what,
                                       windows.limit, windows.sliding, cost, used,
                                       windows.previous, reset_ms)
  return granted == 1, used, reset_ms
end


-- Counts amount units (which may be negative) whatever the limits are. Never waits.
function _M.charge(_, identity, windows, amount)
  C.weir_counter_charge(identity, #identity, windows.n, windows.what, windows.sliding, amount)
end


-- Reads: the same arrays as admit, or nil and why. May wait, unless the store is local.
function _M.peek(_, identity, windows)
  local used, reset_ms = windows.used, windows.reset_ms
  C.weir_counter_peek(identity, #identity, windows.n, windows.what, windows.sliding, used,
                      windows.previous, reset_ms)
  return used, reset_ms
end


return _M
