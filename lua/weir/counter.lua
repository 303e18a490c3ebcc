-- The counters in shared memory: admit, charge and peek over a fixed set of
-- windows. Owns the arrays that pass between Lua and C; they are made once for
-- each set of windows and overwritten by each call, so results are read at once.

local weir = require "weir.ffi"

local C = weir.C
local ffi = weir.ffi


local _M = {}


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


-- Admits cost units to identity in all windows, or in none. Returns whether it
-- did, and two arrays (from 0) with the state before the call: what was counted,
-- and the milliseconds to each window's end. They live until the next call.
function _M.admit(identity, windows, cost)
  local used, reset_ms = windows.used, windows.reset_ms
  local granted = C.weir_counter_admit(identity, #identity, windows.n, windows.what,
                                       windows.limit, windows.sliding, cost, used, reset_ms)
  return granted == 1, used, reset_ms
end


-- Counts amount units (which may be negative) whatever the limits are.
function _M.charge(identity, windows, amount)
  C.weir_counter_charge(identity, #identity, windows.n, windows.what, windows.sliding, amount)
end


-- Reads: the same two arrays as admit.
function _M.peek(identity, windows)
  local used, reset_ms = windows.used, windows.reset_ms
  C.weir_counter_peek(identity, #identity, windows.n, windows.what, windows.sliding, used,
                      reset_ms)
  return used, reset_ms
end


return _M
