-- What C calls: loads configuration and plugins, then hands over the entry
-- points of the Lua half. Every Lua state of weir begins here.

require "weir.prelude"

local runloop = require "weir.runloop"
local timer = require "weir.timer"

_G.kong = require "weir.pdk" -- luacheck: ignore 122


-- What requests are served by, once it is loaded.
local state


-- Loads everything that requests need. nil, or the text of what is wrong.
local function load()
  local err

  state, err = require("weir.config").load()
  if not state then
    return err
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
    require("weir.start")(state.plan)
  end,

  check = function()
    return require("weir.check")()
  end,

  command = function(argv)
    return require("weir.cli.main")(argv)
  end,

  -- The same for a command that may wait: what to run in a coroutine, and the table
  -- whose field status will be the exit status.
  task = function(argv)
    local outcome = {}

    return function()
      local ok, status = xpcall(require("weir.cli.main"), require("weir.trace"), argv)

      if not ok then
        io.stderr:write("weir: ", tostring(status), "\n")
      end
      outcome.status = ok and status or 1
    end, outcome
  end,
}
