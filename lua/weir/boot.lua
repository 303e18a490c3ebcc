-- What C calls: loads configuration and plugins, then hands over the entry
-- points of the Lua half. Every Lua state of weir begins here.

require "weir.prelude"

local runloop = require "weir.runloop"
local timer = require "weir.timer"


-- Loads everything that requests need. nil, or the text of what is wrong.
local function load()
  local ok, state, err = pcall(require("weir.config").load)

  if not ok then
    return tostring(state)
  end
  if not state then
    return tostring(err)
  end
  require("weir.respond").load()
  runloop.serve(state.plan, state.router)
  return nil
end


return {
  request = runloop.request,
  timer = timer.run,
  load = load,

  -- in a coroutine, once, before the first request
  start = function()
    require("weir.start")()
  end,

  check = function()
    return require("weir.check")()
  end,

  command = function(argv)
    return require("weir.cli.main")(argv)
  end,
}
