-- The value that kong.response.exit raises to leave a phase. It is compared by
-- identity: whoever catches an error and finds this one must pass it on or treat
-- the phase as ended by a response. A plugin that wraps a call in pcall and then
-- prints what it caught sees a readable text.

return setmetatable({}, {
  __tostring = function()
    return "the phase was left by kong.response.exit; an enclosing pcall must raise this again"
  end,
  __newindex = function()
    error("the exit value cannot be changed", 2)
  end,
})
