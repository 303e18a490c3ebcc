-- The keys of weir.conf, as Lua values. The texts come from C, which has
-- checked them; a key that does not exist is a mistake of the caller.

local weir = require "weir.ffi"

local C, sv, str = weir.C, weir.sv, weir.str
local error = error

local origin = weir.ffi.new("weir_str[1]")

local _M = {}


-- The value as text, the default filled in.
function _M.get(key)
  if C.weir_conf_get(key, #key, sv) ~= 0 then
    error("weir.conf has no key " .. key, 2)
  end
  return str(sv[0])
end


-- Where it was written, for messages.
function _M.origin(key)
  return C.weir_conf_origin(key, #key, sv) == 0 and str(sv[0]) or "default"
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


-- All keys but vault_<type>_<field>, as { name =, text = the value as it was written, is_secret =
-- the value is one, and not in text }.
function _M.keys()
  local keys = {}
  local code = C.weir_conf_key(0, sv[0], sv[1])

  while code >= 0 do
    keys[#keys + 1] = { name = str(sv[0]), text = str(sv[1]), is_secret = code == 1 }
    code = C.weir_conf_key(#keys, sv[0], sv[1])
  end
  return keys
end


-- The keys vault_<type>_<field>, as { name = "<type>_<field>", text =, origin = "file:line" }.
-- The texts may be secrets: no message may show them.
function _M.vault_settings()
  local settings = {}

  while C.weir_conf_vault(#settings, sv[0], sv[1], origin[0]) == 0 do
    settings[#settings + 1] = { name = str(sv[0]), text = str(sv[1]), origin = str(origin[0]) }
  end
  return settings
end


return _M
