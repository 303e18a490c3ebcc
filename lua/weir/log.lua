-- The error log for the Lua half itself (plugins use kong.log). Levels are C's:
-- 0 emerg, 1 alert, 2 crit, 3 error, 4 warn, 5 notice, 6 info, 7 debug.

local C = require("weir.ffi").C

local concat, select, tostring = table.concat, select, tostring

local _M = {}


-- Writes one line; the arguments are joined as tostring gives them.
local function write(level, ...)
  if C.weir_log_enabled(level) == 0 then
    return
  end

  local parts = { ... }

  for i = 1, select("#", ...) do
    parts[i] = tostring(parts[i])
  end

  local text = concat(parts)

  C.weir_log(level, text, #text)
end

_M.write = write


function _M.err(...)
  write(3, ...)
end


function _M.warn(...)
  write(4, ...)
end


function _M.notice(...)
  write(5, ...)
end


function _M.info(...)
  write(6, ...)
end


function _M.debug(...)
  write(7, ...)
end


return _M
