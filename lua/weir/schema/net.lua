-- Addresses, host names and URLs as schemas accept them. Pure text: nothing
-- here resolves a name.

local _M = {}

local find, match = string.find, string.match

-- True for a dotted IPv4 address.
function _M.is_ipv4(text)
  local a, b, c, d = match(text, "^(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)$")
  return a ~= nil and tonumber(a) < 256 and tonumber(b) < 256 and tonumber(c) < 256
    and tonumber(d) < 256
end

-- How many 16-bit groups a run of an IPv6 address holds; nil if it is malformed.
local function count_groups(text, may_end_in_v4)
  if text == "" then
    return 0
  end
  local n, at = 0, 1
  while true do
    local stop = find(text, ":", at, true)
    local group = text:sub(at, (stop or 0) - 1)
    if not stop and may_end_in_v4 and _M.is_ipv4(group) then
      return n + 2
    end
    if not find(group, "^%x%x?%x?%x?$") then
      return nil
    end
    n = n + 1
    if not stop then
      return n
    end
    at = stop + 1
  end
end

-- True for an IPv6 address, without brackets.
function _M.is_ipv6(text)
  local head, tail = match(text, "^(.-)::(.*)$")
  if not head then
    return count_groups(text, true) == 8
  end
  local before, after = count_groups(head, false), count_groups(tail, true)
  return before ~= nil and after ~= nil and before + after < 8
end

local is_ipv4, is_ipv6 = _M.is_ipv4, _M.is_ipv6

local function bare_v6(text)
  return match(text, "^%[(.+)%]$") or text
end

function _M.check_ip(text)
  if is_ipv4(text) or is_ipv6(text) then
    return true
  end
  return nil, "not an ip address: " .. text
end

local function is_cidr(text)
  local ip, bits = match(text, "^(.-)/(%d+)$")
  if not ip then
    return false
  end
  bits = tonumber(bits)
  return is_ipv4(ip) and bits <= 32 or is_ipv6(ip) and bits <= 128
end

function _M.check_cidr(text)
  if is_cidr(text) then
    return true
  end
  return nil, "invalid cidr range: Invalid IP: '" .. text .. "'"
end

function _M.check_ip_or_cidr(text)
  if is_ipv4(text) or is_ipv6(text) or is_cidr(text) then
    return true
  end
  return nil, "invalid ip or cidr range: '" .. text .. "'"
end

local function is_name(text)
  if #text > 253 or text == "" then
    return false
  end
  for label in (text:gsub("%.$", "") .. "."):gmatch("(.-)%.") do
    if #label > 63 or not find(label, "^[%w_]") or find(label, "[^%w_-]") or find(label, "%-$") then
      return false
    end
  end
  return not find(text, "^[%d.]+$")
end

-- Splits "host:port" and "[v6]:port"; port is nil when there is none.
local function split_port(text)
  local host, port = match(text, "^(%[.+%]):(%d+)$")
  if not host then
    host, port = match(text, "^([^:]+):(%d+)$")
  end
  return host or text, port and tonumber(port)
end
_M.split_port = split_port

local function is_host(text)
  return is_ipv4(text) or is_ipv6(bare_v6(text)) or is_name(text)
end

local function invalid(text)
  return nil, "invalid value: " .. text
end

function _M.check_host(text)
  local host, port = split_port(text)
  if port and host ~= text and not is_ipv6(text) then
    return nil, "must not have a port"
  end
  if is_host(text) then
    return true
  end
  return invalid(text)
end

function _M.check_host_with_port(text)
  local host, port = split_port(text)
  if is_ipv6(text) or is_host(host) and (not port or port > 0 and port < 65536) then
    return true
  end
  return invalid(text)
end

-- A route's host: a name or an address with or without port, or a name with
-- one "*" as its first or last label.
function _M.check_wildcard_host(text)
  local stars = select(2, text:gsub("%*", ""))
  if stars == 0 then
    return _M.check_host_with_port(text)
  end
  if stars > 1 then
    return nil, "only one wildcard must be specified"
  end
  local host = split_port(text)
  if not find(host, "^%*%.") and not find(host, "%.%*$") then
    return nil, "wildcard must be leftmost or rightmost character"
  end
  return _M.check_host_with_port((text:gsub("%*", "wildcard")))
end

function _M.check_sni(text)
  local host, port = split_port(text)
  if is_ipv4(host) or is_ipv6(bare_v6(host)) then
    return nil, "must not be an IP"
  end
  if port then
    return nil, "must not have a port"
  end
  if is_name(text) then
    return true
  end
  return invalid(text)
end

-- The parts of http://host[:port][/path]: a table, or nil and the reason.
function _M.parse_url(text)
  local scheme, rest = match(text, "^(%a[%w+.-]*)://(.+)$")
  if not scheme then
    return nil, "missing host in url"
  end
  local authority, path = match(rest, "^([^/?#]*)(.*)$")
  if find(authority, "@", 1, true) then
    return nil, "must not hold credentials"
  end
  local host, port = split_port(authority)
  if host == "" or not is_host(host) then
    return nil, "missing host in url"
  end
  if port and port > 65535 then
    return nil, "invalid port in url"
  end
  return { scheme = scheme:lower(), host = host, port = port, path = path ~= "" and path or nil }
end

function _M.check_url(text)
  local parts, err = _M.parse_url(text)
  if parts then
    return true
  end
  return nil, err
end

return _M
