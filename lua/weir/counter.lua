-- The counters that requests are limited by: admit, charge and peek over a fixed
-- set of windows, in the store that counter.open gave. Owns the arrays that pass
-- between Lua and C; they are made once for each set of windows and overwritten
-- by each call, so results are read at once, before anything else may wait.

local log = require "weir.log"
local settings_of = require "weir.settings"
local secret = require "weir.secret"
local weir = require "weir.ffi"
local wait = require "weir.wait"

local C = weir.C
local ffi = weir.ffi
local sv, str = weir.sv, weir.str
local WAIT = weir.WAIT
local SLOTS = 8 -- questions of one coroutine at once

local pairs = pairs
local floor = math.floor
local min = math.min



local _M = {}


-- The store that lies in the memory that all workers of this machine share.
local LOCAL = 0

-- One that cannot be opened yet.
local NOWHERE = -1

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
    local what = PERIODS[window.period] or (window.size_s and -floor(window.size_s * 1000 + 0.5))
    if not what then
      error("a window needs a period or size_s", 2)
    end
    self.what[i - 1] = what
    self.limit[i - 1] = window.limit or 0
  end
  return self
end


-- What a store was opened with, but for its secrets, may be read out of vaults as well: then it is
-- another store when that changes.
local function watch_values(redis, on_stale)
  for name, ref in pairs(redis["$refs"] or {}) do
    local cell = not settings_of.secrets[name] and secret.find(ref)
    if cell then
      secret.on_change(cell, on_stale)
    end
  end
end


-- The store of a plugin's strategy: "local" (the memory that all workers of this machine
-- share), "cluster" or "redis". redis: the config.redis of the plugin; where it names no server
-- that of weir.conf. sync_rate: seconds between exchanges of what was counted here; without it,
-- or with 0, each question goes to the store. Returns nil and why not, if there is none.
-- on_stale() is called when the config's values have changed, so that the store is to be opened
-- anew. With it, a store whose address no vault has given yet is one that does not answer.
function _M.open(strategy, redis, sync_rate, on_stale)
  if strategy == "local" then
    return LOCAL
  end
  local settings = ""
  if strategy == "redis" and redis then
    local ok
    if on_stale then
      watch_values(redis, on_stale)
    end
    ok, settings = pcall(settings_of.of_redis, redis)
    if not ok and on_stale then
      log.err("redis: ", settings)
      return NOWHERE
    elseif not ok then
      return nil, settings
    end
  end
  local store = C.weir_store_open(strategy, #strategy, settings, #settings, sync_rate or 0, sv)
  if store < 0 then
    return nil, str(sv[0])
  end
  return store
end


-- Why a store of open does not answer; nil when it does.
function _M.failure(store)
  if store ~= LOCAL and C.weir_store_failure(store, sv + 1) == 1 then
    C.weir_store_name(store, sv)
    return str(sv[0]) .. " does not answer: " .. str(sv[1])
  end
end


local function unanswered(store, code)
  local why = _M.failure(store)
  if why then
    return why
  end
  C.weir_store_name(store, sv)
  return str(sv[0]) .. " does not answer (" .. ffi.string(C.weir_strerror(code)) .. ")"
end


-- What the question in a slot was answered, now or after a wait.
local function take(store, slot, windows, code)
  while code == WAIT do
    code = C.weir_store_await(slot, windows.n, windows.used, windows.previous, windows.reset_ms)
    if code == WAIT then
      wait()
    end
  end
  if code < 0 then
    return nil, unanswered(store, code)
  end
  return code == 1, windows.used, windows.reset_ms
end


local function admit_there(store, identity, windows, cost)
  return take(store, 0, windows,
              C.weir_store_admit(store, 0, identity, #identity, windows.n, windows.what,
                                 windows.limit, windows.sliding, cost, windows.used,
                                 windows.previous, windows.reset_ms))
end


local function ask_peek(store, slot, identity, windows)
  return C.weir_store_peek(store, slot, identity, #identity, windows.n, windows.what,
                           windows.sliding, windows.used, windows.previous, windows.reset_ms)
end


-- Admits cost units (at least 1) to identity in all windows, or in none. Returns whether it
-- did, and two arrays (from 0) with the state before the call: what was counted, and the
-- milliseconds to each window's end. windows.previous is a third: what was counted in the
-- whole of the previous window, if they are sliding. They live until the next call.
-- Where the store does not answer: nil and why. May wait, unless the store is local.
function _M.admit(store, identity, windows, cost)
  if store ~= LOCAL then
    return admit_there(store, identity, windows, cost)
  end
  local used, reset_ms = windows.used, windows.reset_ms
  local granted = C.weir_counter_admit(identity, #identity, windows.n, windows.what,
                                       windows.limit, windows.sliding, cost, used,
                                       windows.previous, reset_ms)
  return granted == 1, used, reset_ms
end


-- Counts amount units (which may be negative) whatever the limits are, in all windows or, with
-- first, in those from that number (from 0) on. Never waits; what a store that does not answer
-- misses is lost, unless it has a sync_rate.
function _M.charge(store, identity, windows, amount, first)
  first = first or 0
  local n, what = windows.n - first, windows.what + first
  if store ~= LOCAL then
    C.weir_store_charge(store, identity, #identity, n, what, windows.sliding, amount)
  else
    C.weir_counter_charge(identity, #identity, n, what, windows.sliding, amount)
  end
end


-- Reads: the same arrays as admit, or nil and why. May wait, unless the store is local.
function _M.peek(store, identity, windows)
  if store ~= LOCAL then
    local good, used, reset_ms = take(store, 0, windows, ask_peek(store, 0, identity, windows))
    if good == nil then
      return nil, used -- why not
    end
    return used, reset_ms
  end
  C.weir_counter_peek(identity, #identity, windows.n, windows.what, windows.sliding, windows.used,
                      windows.previous, windows.reset_ms)
  return windows.used, windows.reset_ms
end


-- Reads several identities at once, each with a set of windows of its own: their used, previous
-- and reset_ms hold the answers. The questions travel together. True, or nil and why not.
function _M.peek_all(store, identities, sets)
  local codes, failure = {}, nil
  for first = 1, #identities, SLOTS do
    local last = min(first + SLOTS - 1, #identities)
    for i = first, last do
      codes[i] = store == LOCAL and _M.peek(store, identities[i], sets[i]) and 0
                 or ask_peek(store, i - first, identities[i], sets[i])
    end
    for i = first, last do -- each of them, whatever becomes of the others
      local good, why = take(store, i - first, sets[i], codes[i])
      if good == nil then
        failure = why
      end
    end
  end
  if failure then
    return nil, failure
  end
  return true
end


return _M
