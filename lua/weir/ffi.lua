-- The boundary to C: declares weir_ffi.h (its text comes with the binary) and
-- keeps the scratch cells that out-parameters use. A cell is read before the
-- next call that fills it, never kept.

local abi = require "weir.abi"
local ffi = require "ffi"

local host = weir_host -- luacheck: globals weir_host
weir_host = nil

if not host then
  error("weir.ffi works only inside the weir program")
end

if abi.sum(host.cdef) ~= abi.SUM then
  error("the Lua files in " .. host.data_dir .. " are of another build than this weir ("
        .. host.version .. "): install both from the same one", 0)
end

ffi.cdef(host.cdef)

local C = ffi.C
local ffi_string = ffi.string

local _M = {
  C = C,
  ffi = ffi,
  -- two cells: most calls need one, header iteration needs a name and a value
  sv = ffi.new("weir_str[2]"),
  NONE = -100,
  WAIT = -101,
  data_dir = host.data_dir,
  version = host.version,
  -- true when the function that calls it was the last act of a plugin's handler
  is_last_call = host.is_last_call,
}


-- The bytes of a weir_str as a Lua string.
function _M.str(s)
  return ffi_string(s.p, s.n)
end


-- What an error code of C means, in words.
function _M.strerror(code)
  return ffi_string(C.weir_strerror(code))
end


return _M
