-- Tells when files of others change: by inotify, in one coroutine that waits for
-- all of them. What the system cannot watch is looked at now and then instead.
-- Every watch stays until the worker ends.

local log = require "weir.log"
local timer = require "weir.timer"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C, sv, str, WAIT = weir.C, weir.sv, weir.str, weir.WAIT

local POLL_S = 60


local _M = {}

-- by C's number
local callbacks = {}
local is_waiting, has_warned


local function poll(changed, why)
  if not has_warned then
    has_warned = true
    log.warn("files cannot be watched, so they are looked at every ", POLL_S, " s: ", why)
  end
  timer.every(POLL_S, changed)
end


-- Watched again first: what changes from then on is told, so what is read then is the newest.
local function on_changed(number)
  local changed = callbacks[number]
  if C.weir_watch_again(number, sv) < 0 then
    callbacks[number] = nil
    poll(changed, str(sv[0]))
  end
  changed()
end


local function wait_for_all()
  while true do
    local number = C.weir_watch_next()
    if number == WAIT then
      wait()
    else
      on_changed(number)
    end
  end
end


-- Calls changed() whenever the file that an absolute path leads to may be another or hold
-- something else, be it there now or not. changed must not wait.
function _M.file(path, changed)
  local number = C.weir_watch_open(path, #path, sv)
  if number < 0 then
    return poll(changed, str(sv[0]))
  end
  callbacks[number] = changed
  if not is_waiting then
    is_waiting = true
    timer.start(0, wait_for_all)
  end
end


return _M
