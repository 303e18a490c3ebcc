-- Internet addresses: parsing IPv4 and IPv6 texts, sets of addresses and CIDR
-- blocks, and the one set that weir.conf names: trusted_ips. An address is four
-- 32-bit numbers; IPv4 lies in the mapped block ::ffff:0:0/96, so that one
-- comparison serves both. Every input is bounded by the length of an address.

local bit = require "bit"

local band = bit.band
local bor = bit.bor
local byte = string.byte
local find = string.find
local gmatch = string.gmatch
local gsub = string.gsub
local lshift = bit.lshift
local match = string.match
local sub = string.sub
local tobit = bit.tobit
local tonumber = tonumber


local _M = {}

local MAX_TEXT = 45
local MAPPED = 0xffff
local UNIX = "unix:"


local function parse4(text)
  local a, b, c, d = match(text, "^(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)$")
  if not a then
    return nil
  end
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  if a > 255 or b > 255 or c > 255 or d > 255 then
    return nil
  end
  return bor(lshift(a, 24), lshift(b, 16), lshift(c, 8), d)
end


-- Appends the 16-bit groups of a colon separated text; an IPv4 tail counts as two.
local function groups_of(text, out)
  if text == "" then
    return true
  end
  if find(text, "^:") or find(text, ":$") or find(text, "::", 1, true) then
    return false
  end
  for part in gmatch(text, "[^:]+") do
    local v4 = find(part, ".", 1, true) and parse4(part)
    if v4 then
      out[#out + 1] = band(bit.rshift(v4, 16), 0xffff)
      out[#out + 1] = band(v4, 0xffff)
    elseif match(part, "^%x%x?%x?%x?$") then
      out[#out + 1] = tonumber(part, 16)
    else
      return false
    end
  end
  return true
end


-- An IPv4 tail may stand at the very end only.
local function tail_is_last(text)
  local dot = find(text, ".", 1, true)
  return not dot or not find(text, ":", dot, true)
end


local function parse6(text)
  if not tail_is_last(text) then
    return nil
  end
  local groups = {}
  local gap = find(text, "::", 1, true)
  if gap then
    local behind = {}
    if not groups_of(sub(text, 1, gap - 1), groups) or not groups_of(sub(text, gap + 2), behind)
    then
      return nil
    end
    if #groups + #behind > 7 then
      return nil
    end
    while #groups + #behind < 8 do
      groups[#groups + 1] = 0
    end
    for i = 1, #behind do
      groups[#groups + 1] = behind[i]
    end
  elseif not groups_of(text, groups) then
    return nil
  end
  if #groups ~= 8 then
    return nil
  end
  local function word(i)
    return bor(lshift(groups[i], 16), groups[i + 1])
  end
  return word(1), word(3), word(5), word(7)
end


-- The four words of an address, and whether it is IPv4; nil when the text is none.
-- Brackets around IPv6 are accepted, a zone or a port is not.
function _M.parse(text)
  if #text > MAX_TEXT + 2 then
    return nil
  end
  local v4 = parse4(text)
  if v4 then
    return 0, 0, MAPPED, v4, true
  end
  if byte(text) == 91 then
    text = match(text, "^%[(.*)%]$")
  end
  if not text or not find(text, ":", 1, true) then
    return nil
  end
  local a, b, c, d = parse6(text)
  if not a then
    return nil
  end
  return a, b, c, d, false
end


-- True if the text is an IPv4 or IPv6 address.
function _M.is_address(text)
  return _M.parse(text) ~= nil
end


local function mask(bits)
  if bits <= 0 then
    return 0
  elseif bits >= 32 then
    return -1
  end
  return lshift(-1, 32 - bits)
end


local function new_block(a, b, c, d, bits)
  local block = { ma = mask(bits), mb = mask(bits - 32), mc = mask(bits - 64),
                  md = mask(bits - 96) }
  block.a, block.b = band(a, block.ma), band(b, block.mb)
  block.c, block.d = band(c, block.mc), band(d, block.md)
  return block
end


-- "10.0.0.0/8", "::1", "[::1]" -> a block; nil and the reason otherwise.
local function parse_block(text)
  local address, length = match(text, "^([^/]+)/(%d+)$")
  local a, b, c, d, is_v4 = _M.parse(address or text)
  if not a then
    return nil, "invalid ip or cidr range: '" .. text .. "'"
  end
  local max = is_v4 and 32 or 128
  local bits = length and tonumber(length) or max
  if bits > max then
    return nil, "invalid ip or cidr range: '" .. text .. "'"
  end
  return new_block(a, b, tobit(c), d, is_v4 and bits + 96 or bits)
end


local set = {}
set.__index = set


-- True if the address lies in one of the blocks. What is no address lies in none.
function set:contains(text)
  if self.empty then
    return false
  end
  local known = self.seen[text]
  if known == nil then
    known = self:look_up(text)
    if self.seen_count >= 1024 then
      self.seen, self.seen_count = {}, 0
    end
    self.seen[text] = known
    self.seen_count = self.seen_count + 1
  end
  return known
end


function set:look_up(text)
  if sub(text, 1, #UNIX) == UNIX then
    return self.unix
  end
  local a, b, c, d = _M.parse(text)
  if not a then
    return false
  end
  for i = 1, #self do
    local block = self[i]
    if band(a, block.ma) == block.a and band(b, block.mb) == block.b
       and band(c, block.mc) == block.c and band(d, block.md) == block.d
    then
      return true
    end
  end
  return false
end


-- A set of addresses and CIDR blocks; "unix:" stands for peers without an
-- address. nil and the reason when one of the texts is neither.
function _M.new_set(list)
  local self = { empty = #list == 0, unix = false, seen = {}, seen_count = 0 }
  for i = 1, #list do
    local text = gsub(list[i], "%s+", "")
    if text == UNIX then
      self.unix = true
    else
      local block, err = parse_block(text)
      if not block then
        return nil, err
      end
      self[#self + 1] = block
    end
  end
  return setmetatable(self, set)
end


local trusted


-- True if the address is one of trusted_ips. The list is read at the first use: a
-- worker lives as long as its configuration.
function _M.is_trusted(text)
  if not trusted then
    trusted = assert(_M.new_set(require("weir.conf").list("trusted_ips")))
  end
  return trusted:contains(text)
end


-- "192.0.2.1:80" -> "192.0.2.1", 80; "[::1]:80" -> "::1", 80; a bare address -> address, nil.
-- nil when there is no address in it.
function _M.split_port(text)
  local address, port = match(text, "^%[([%x:.]+)%]:?(%d*)$")
  if not address then
    address, port = match(text, "^([%d.]+):(%d+)$")
  end
  address = address or text
  if not _M.is_address(address) then
    return nil
  end
  port = tonumber(port)
  return address, port and port <= 65535 and port or nil
end


return _M
