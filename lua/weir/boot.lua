-- What C calls: loads configuration and plugins, then hands over the entry
-- points of the Lua half. Every Lua state of weir begins here.

require "weir.prelude"

local runloop = require "weir.runloop"
local secret = require "weir.secret"
local timer = require "weir.timer"
local weir = require "weir.ffi"

local C, ffi = weir.C, weir.ffi

_G.kong = require "weir.pdk" -- luacheck: ignore 122


-- Workers must not all draw the same numbers.
do
  local seed = ffi.new("uint32_t[1]")

  C.weir_random(ffi.cast("char *", seed), 4)
  math.randomseed(seed[0])
end


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

  look_up = secret.on_ask,

  -- in a coroutine, once, before the first request
  start = function()
    secret.prepare()
    C.weir_secrets_ready()
    require("weir.start")(state.plan)
  end,

  check = function()
    return require("weir.check")()
  end,

  command = function(argv)
    return require("weir.cli.main")(argv)
  end,

  -- The same for a command that may wait: what to run in a coroutine, and the table
  -- whose field status will be the exit status, and answer what it says to C, if anything.
  task = function(argv)
    local outcome = {}

    return function()
      local ok, status, answer = xpcall(require("weir.cli.main"), require("weir.trace"), argv)

      if not ok then
        io.stderr:write("weir: ", tostring(status), "\n")
      end
      outcome.answer = ok and answer or nil
      outcome.status = ok and status or 1
    end, outcome
  end,
}
