-- Waiting. `wait()` is the only place that yields to C: whoever called a C
-- function that returned WEIR_WAIT calls it at once, and asks for the result
-- when it returns. `wait.ctx` is what runs now: the context of a request or of
-- a timer; it is set again after every wait, because others ran meanwhile.
-- src/lua/whereabouts.c reads it too.

local raw_yield = coroutine.yield

-- What a coroutine of a plugin's own passes up until it reaches C (see prelude).
local SENTINEL = {}

local _M = { ctx = nil, SENTINEL = SENTINEL }


local function wait()
  local ctx = _M.ctx

  raw_yield(SENTINEL)
  _M.ctx = ctx
end


return setmetatable(_M, { __call = wait })
