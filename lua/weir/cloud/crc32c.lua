-- CRC-32C, Castagnoli's (RFC 3720, B.4), by which Google's APIs guard payloads.

local bit = require "bit"

local band, bnot, bxor, rshift, tobit = bit.band, bit.bnot, bit.bxor, bit.rshift, bit.tobit
local byte = string.byte

local POLYNOMIAL = 0x82f63b78 -- reflected

local table_of = {}
for i = 0, 255 do
  local crc = i
  for _ = 1, 8 do
    crc = band(crc, 1) == 1 and bxor(rshift(crc, 1), POLYNOMIAL) or rshift(crc, 1)
  end
  table_of[i] = tobit(crc)
end


-- The checksum of bytes, 0 to 2^32 - 1.
return function(bytes)
  local crc = bnot(0)
  for i = 1, #bytes do
    crc = bxor(rshift(crc, 8), table_of[band(bxor(crc, byte(bytes, i)), 255)])
  end
  return bnot(crc) % 4294967296
end
