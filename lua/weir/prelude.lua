-- Changes the coroutine library so that plugins may wait inside coroutines of
-- their own: a wait in an inner coroutine is passed up to the request's, which
-- alone can yield to C. A plugin's own yields stay between it and its resume.

local wait = require "weir.wait"

local SENTINEL = wait.SENTINEL
local raw_create, raw_resume = coroutine.create, coroutine.resume
local raw_yield, running = coroutine.yield, coroutine.running
local error = error

-- threads that plugins made: only those may yield to a resume in Lua
local created = setmetatable({}, { __mode = "k" })


local function create(fn)
  local co = raw_create(fn)

  created[co] = true
  return co
end


-- Goes on for as long as the inner coroutine waits for C.
local function pass_up(co, ok, value, ...)
  if ok and value == SENTINEL then
    local ctx = wait.ctx

    raw_yield(SENTINEL)
    wait.ctx = ctx
    return pass_up(co, raw_resume(co))
  end
  return ok, value, ...
end


local function resume(co, ...)
  return pass_up(co, raw_resume(co, ...))
end


local function unwrap(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end


local function wrap(fn)
  local co = create(fn)

  return function(...)
    return unwrap(resume(co, ...))
  end
end


local function yield(...)
  local co = running()

  if not co or not created[co] then
    error("coroutine.yield outside of a coroutine that the plugin made", 2)
  end
  return raw_yield(...)
end


coroutine.create = create -- luacheck: ignore 122
coroutine.resume = resume -- luacheck: ignore 122
coroutine.wrap = wrap -- luacheck: ignore 122
coroutine.yield = yield -- luacheck: ignore 122

