-- The keys of weir.conf, as Lua values. The texts come from C, which has
-- checked them; a key that does not exist is a mistake of the caller.

local weir = require "weir.ffi"

local C, sv, str = weir.C, weir.sv, weir.str
local error = error

local _M = {}


-- The value as text, the default filled in.
function _M.get(key)
  if C.weir_conf_get(key, #key, sv) ~= 0 then
    error("weir.conf has no key " .. key, 2)
  end
  return str(sv[0])
end


function _M.bool(key)
  return _M.get(key) == "on"
end


-- The items of a list key; empty for an empty list and for `off`.
function _M.list(key)
  local items, i = {}, 0

  while C.weir_conf_list(key, #key, i, sv) == 0 do
    i = i + 1
    items[i] = str(sv[0])
  end
  if i == 1 and items[1] == "off" then
    items[1] = nil
  end
  return items
end


return _M
