-- UUIDs: random ones (version 4), and ones that a name decides (version 5),
-- so that an entity of a declarative file keeps its id, and with it its
-- counters, from one load to the next.

local weir = require("weir.ffi")

local C, ffi = weir.C, weir.ffi

local _M = {}

local raw = ffi.new("unsigned char[20]")
local format = string.format

local function text(version)
  raw[6] = raw[6] % 16 + version * 16
  raw[8] = raw[8] % 64 + 128
  return format("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
    raw[0], raw[1], raw[2], raw[3], raw[4], raw[5], raw[6], raw[7], raw[8], raw[9], raw[10],
    raw[11], raw[12], raw[13], raw[14], raw[15])
end

-- A random UUID.
function _M.v4()
  if C.weir_random(ffi.cast("char *", raw), 16) ~= 0 then
    error("no random bytes to be had")
  end
  return text(4)
end

local function bytes_of(uuid)
  return (uuid:gsub("-", ""):gsub("%x%x", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

-- The UUID that `name` has inside of the namespace (a UUID).
function _M.v5(namespace, name)
  local bytes = bytes_of(namespace) .. name
  C.weir_sha1(bytes, #bytes, raw)
  return text(5)
end

-- True for the text of a UUID.
function _M.is_valid(value)
  return type(value) == "string" and #value == 36
    and value:find("^%x+%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x+$") == 1 and value:sub(9, 9) == "-"
end

return _M
