-- The error handler of everything that plugins run in: a text with a traceback.
-- The exit value of kong.response.exit travels through as it is.

local EXIT = require "weir.exit"

local traceback, tostring, type = debug.traceback, tostring, type


-- What was raised and is no text: "table: 0x..." tells nobody anything.
local function text_of(err)
  local meta = debug.getmetatable(err)
  if err == nil or type(err) == "table" and not (meta and meta.__tostring) then
    return "an error that is no text, but " .. (err == nil and "nil" or "a table")
  end
  return tostring(err)
end


return function(err)
  if err == EXIT then
    return err
  end
  return traceback(type(err) == "string" and err or text_of(err), 2)
end
