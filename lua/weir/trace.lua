-- The error handler of everything that plugins run in: a text with a traceback.
-- The exit value of kong.response.exit travels through as it is.

local EXIT = require "weir.exit"

local traceback, tostring, type = debug.traceback, tostring, type


return function(err)
  if err == EXIT then
    return err
  end
  return traceback(type(err) == "string" and err or tostring(err), 2)
end
