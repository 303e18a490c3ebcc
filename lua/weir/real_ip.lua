-- Who the client really is: the peer's address, or, when the peer is one of
-- trusted_ips, the address that real_ip_header names. Worked out once for each
-- request, when somebody asks, and kept in the context.

local conf = require "weir.conf"
local ip = require "weir.ip"
local weir = require "weir.ffi"

local C = weir.C
local sv = weir.sv
local ffi_string = weir.ffi.string

local find = string.find
local gmatch = string.gmatch
local gsub = string.gsub
local lower = string.lower
local match = string.match

local REMOTE_ADDR = tonumber(C.WEIR_REQ_REMOTE_ADDR)
local REMOTE_PORT = tonumber(C.WEIR_REQ_REMOTE_PORT)
local HEADERS = tonumber(C.WEIR_HEADERS_REQUEST)


local _M = {}


-- What weir.conf says; read at the first use. A worker lives as long as its configuration.
local header_name, recursive


local function configure()
  header_name = gsub(lower(conf.get("real_ip_header")), "_", "-")
  recursive = conf.bool("real_ip_recursive")
end


-- All values of the header, in their order, as one list.
local function addresses_in_header(req)
  local out = {}
  local i = 0
  while C.weir_header_at(req, HEADERS, i, sv, sv + 1) == 0 do
    if lower(ffi_string(sv[0].p, sv[0].n)) == header_name then
      for address in gmatch(ffi_string(sv[1].p, sv[1].n), "[^,%s]+") do
        out[#out + 1] = address
      end
    end
    i = i + 1
  end
  return out
end


-- The last address of the list; with real_ip_recursive the last that is not
-- trusted itself. A text that is no address ends the walk: what stood behind it counts.
local function pick(list)
  local address, port
  for i = #list, 1, -1 do
    local candidate, candidate_port = ip.split_port(list[i])
    if not candidate then
      break
    end
    address, port = candidate, candidate_port
    if not recursive or not ip.is_trusted(candidate) then
      break
    end
  end
  return address, port
end


local function resolve(ctx)
  local req = ctx.req
  C.weir_req_get(req, REMOTE_ADDR, sv)
  local address = ffi_string(sv[0].p, sv[0].n)
  local port = C.weir_req_number(req, REMOTE_PORT)
  local is_trusted = ip.is_trusted(address)
  ctx.peer_ip, ctx.peer_trusted = address, is_trusted
  if is_trusted then
    if not header_name then
      configure()
    end
    local real, real_port = pick(addresses_in_header(req))
    if real then
      address, port = real, real_port or 0
    end
  end
  ctx.client_ip, ctx.client_port = address, port
end


-- The address of the peer that the web server sees.
function _M.peer(ctx)
  if not ctx.peer_ip then
    resolve(ctx)
  end
  return ctx.peer_ip
end


-- True if that peer is one of trusted_ips: only then its X-Forwarded-* are believed.
function _M.is_trusted(ctx)
  if not ctx.peer_ip then
    resolve(ctx)
  end
  return ctx.peer_trusted
end


-- The client's address after real-ip processing.
function _M.address(ctx)
  if not ctx.peer_ip then
    resolve(ctx)
  end
  return ctx.client_ip
end


-- The client's port after real-ip processing; 0 when the header did not name one.
function _M.port(ctx)
  if not ctx.peer_ip then
    resolve(ctx)
  end
  return ctx.client_port
end


-- The first value of an X-Forwarded-* header if the peer is trusted; nil otherwise.
function _M.forwarded(ctx, name)
  if not _M.is_trusted(ctx) or C.weir_header_get(ctx.req, HEADERS, name, #name, sv) ~= 0 then
    return nil
  end
  local value = ffi_string(sv[0].p, sv[0].n)
  if find(value, ",", 1, true) then
    value = match(value, "^[^,]*")
  end
  return match(value, "^%s*(.-)%s*$")
end


return _M
