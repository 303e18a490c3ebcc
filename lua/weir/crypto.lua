-- Digests and codings, by OpenSSL: what signatures of requests and encoded
-- secrets need. All of them take and give Lua strings of bytes; what stood in
-- C meanwhile is wiped. Nothing here is a cipher.

local weir = require("weir.ffi")

local C, ffi = weir.C, weir.ffi
local byte, find, format, gsub, rep = string.byte, string.find, string.format, string.gsub,
  string.rep

local digest = ffi.new("unsigned char[32]")
local signature = ffi.new("unsigned char[?]", C.WEIR_SIGNATURE_MAX)

local _M = {}


local function take(buffer, n)
  local bytes = ffi.string(buffer, n)

  ffi.fill(buffer, n)
  return bytes
end


-- The 32 bytes of SHA-256.
function _M.sha256(bytes)
  C.weir_sha256(bytes, #bytes, digest)
  return take(digest, 32)
end


-- One SHA-256 of several texts, each of which may be nil: a key for what depends on them.
function _M.digest(...)
  local parts = {}
  for i = 1, select("#", ...) do
    local part = select(i, ...)
    parts[i] = part == nil and "-" or #tostring(part) .. ":" .. tostring(part)
  end
  return _M.sha256(table.concat(parts, ","))
end


-- The 32 bytes of HMAC with SHA-256.
function _M.hmac_sha256(key, bytes)
  if C.weir_hmac_sha256(key, #key, bytes, #bytes, digest) ~= 0 then
    error("the key is too long", 2)
  end
  return take(digest, 32)
end


local function hex_of(char)
  return format("%02x", byte(char))
end


-- Two lower-case digits a byte.
function _M.hex(bytes)
  return (gsub(bytes, ".", hex_of))
end


-- RFC 4648, with padding, in one line.
function _M.base64(bytes)
  local buffer = ffi.new("unsigned char[?]", math.floor((#bytes + 2) / 3) * 4 + 1)
  local n = C.weir_base64(bytes, #bytes, buffer)

  if n < 0 then
    error("too many bytes", 2)
  end
  return take(buffer, n)
end


-- What base64 text stands for; nil if it is none. White space in it counts for nothing, and the
-- padding may be missing.
function _M.unbase64(text)
  if find(text, "%s") then
    text = gsub(text, "%s+", "")
  end
  if #text % 4 > 1 and not find(text, "=", 1, true) then
    text = text .. rep("=", 4 - #text % 4)
  end
  local buffer = ffi.new("unsigned char[?]", #text + 1)
  local n = C.weir_unbase64(text, #text, buffer)

  return n >= 0 and take(buffer, n) or nil
end


-- The form for URLs and tokens: - and _, no padding.
function _M.base64url(bytes)
  return (gsub(gsub(gsub(_M.base64(bytes), "+", "-"), "/", "_"), "=", ""))
end


-- The bytes of the RS256 signature (RFC 7518) of bytes with a private RSA key in PEM; nil and what
-- is wrong with the key.
function _M.sign_rs256(pem, bytes)
  local n = C.weir_sign_rs256(pem, #pem, bytes, #bytes, signature, weir.sv)

  if n < 0 then
    return nil, weir.str(weir.sv[0])
  end
  return take(signature, n)
end


-- Whether two strings are the same; the time tells nothing but their lengths.
function _M.equal(a, b)
  return #a == #b and C.weir_equal(a, b, #a) ~= 0
end


return _M
