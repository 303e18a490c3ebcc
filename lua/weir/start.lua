-- The phases that a worker runs once, before its first request: init_worker of
-- every loaded plugin, then configure. They may wait and start timers. A plugin
-- that fails here is reported; the worker serves nevertheless.

local log = require "weir.log"
local phases = require "weir.phases"
local trace = require "weir.trace"
local wait = require "weir.wait"

local xpcall = xpcall


local function run(phase, list)
  local ctx = { phase = phase }

  wait.ctx = ctx
  for i = 1, list.n do
    ctx.plugin = list.names[i]

    local ok, err = xpcall(list.handlers[i], trace, list.plugins[i], list.confs[i] or nil)

    if not ok then
      log.err("[", ctx.plugin, "] ", phases.names[phase], " phase: ", err)
    end
  end
  wait.ctx = nil
end


-- For boot: runs both phases of a plan, in the coroutine that calls it.
return function(plan)
  run(phases.init_worker, plan.init_worker)
  run(phases.configure, plan.configure)
end
