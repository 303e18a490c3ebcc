-- Timers: functions that run later in a coroutine of their own, and sleep.
-- A timer belongs to the worker, not to the request that started it.

local C = require("weir.ffi").C
local log = require "weir.log"
local phases = require "weir.phases"
local wait = require "weir.wait"

local error, type, unpack, xpcall = error, type, unpack, xpcall
local select = select
local traceback = debug.traceback

-- What waits, by number; numbers are used again.
local timers = {}
local free = {}

local _M = { MAX = 16384, count = 0 }


local function take_number()
  local n = #free

  if n > 0 then
    local id = free[n]

    free[n] = nil
    return id
  end
  return #timers + 1
end


-- As at, for the host itself: plugins that use all timers up do not stop it.
function _M.start(delay_s, fn, ...)
  local id = take_number()
  local ctx = wait.ctx

  timers[id] = { fn = fn, n = select("#", ...), plugin = ctx and ctx.plugin, ... }
  _M.count = _M.count + 1
  C.weir_timer_start(id, delay_s)
end


-- Runs fn(...) once, delay_s seconds from now. true | nil, "too many timers".
function _M.at(delay_s, fn, ...)
  if type(delay_s) ~= "number" or delay_s < 0 then
    error("the delay must be a number of seconds, 0 or more", 2)
  end
  if type(fn) ~= "function" then
    error("a timer needs a function", 2)
  end
  if _M.count >= _M.MAX then
    return nil, "too many timers"
  end
  _M.start(delay_s, fn, ...)
  return true
end


-- Runs fn(...) every interval_s seconds until the worker ends; never twice at once.
function _M.every(interval_s, fn, ...)
  if type(interval_s) ~= "number" or interval_s <= 0 then
    error("the interval must be a number of seconds, more than 0", 2)
  end

  local args = { n = select("#", ...), ... }
  local function again()
    local ok, err = xpcall(fn, traceback, unpack(args, 1, args.n))

    if not ok then
      log.err("timer: ", err)
    end
    _M.start(interval_s, again)
  end

  return _M.at(interval_s, again)
end


-- Lets the request or timer that calls it wait.
function _M.sleep(seconds)
  if C.weir_sleep(seconds) == -101 then
    wait()
  end
end


-- For C: runs the timer of that number.
function _M.run(id)
  local t = timers[id]

  timers[id] = false
  free[#free + 1] = id
  _M.count = _M.count - 1
  wait.ctx = { phase = phases.timer, plugin = t.plugin }

  local ok, err = xpcall(t.fn, traceback, unpack(t, 1, t.n))

  if not ok then
    log.err(t.plugin and ("[" .. t.plugin .. "] ") or "", "timer: ", err)
  end
  wait.ctx = nil
end


return _M
