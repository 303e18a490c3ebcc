-- Collects garbage soon, although little of it is there: what was a secret a moment
-- ago is to be gone (src/lua/heap.c wipes it). In small steps, between requests.

local timer = require "weir.timer"

local EVERY_S = 0.02
local STEPS = 100 -- about a tenth of a millisecond
local CYCLES = 2  -- the one that runs may have seen it alive

local collectgarbage = collectgarbage

local _M = {}

local cycles_left = 0


local function go_on()
  for _ = 1, STEPS do
    if collectgarbage("step", 0) then
      cycles_left = cycles_left - 1
      break
    end
  end
  if cycles_left > 0 then
    timer.start(EVERY_S, go_on)
  end
end


-- Never waits. What is garbage now is gone a second or a few later.
function _M.collect_soon()
  local is_running = cycles_left > 0
  cycles_left = CYCLES
  if not is_running then
    timer.start(EVERY_S, go_on)
  end
end


return _M
