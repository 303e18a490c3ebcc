-- Whether the program and the Lua files beside it belong together: the sum of
-- the declarations that these files were written for (src/lua/weir_ffi.h).
-- tools/check-ffi tells the new one when they have changed. Needs no host.

local _M = { SUM = 800098385 }


-- A number for the text's declarations, whatever its comments and blanks are.
function _M.sum(text)
  local sum = 0
  local bare = text:gsub("/%*.-%*/", ""):gsub("#[^\n]*", ""):gsub("%s+", "")
  for i = 1, #bare do
    sum = (sum * 31 + bare:byte(i)) % 2 ^ 32
  end
  return sum
end


return _M
