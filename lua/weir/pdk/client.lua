-- kong.client: who sent the request. Addresses come from weir.real_ip, which
-- works them out once for each request.

local phases = require "weir.phases"
local real_ip = require "weir.real_ip"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C = weir.C
local sv = weir.sv
local ffi_string = weir.ffi.string
local band = require("bit").band

local lower = string.lower
local tonumber = tonumber
local wrong_phase = phases.wrong

local ANY = phases.request
local ROUTED = phases.access + phases.response + phases.header_filter + phases.body_filter
             + phases.log

local SCHEME = tonumber(C.WEIR_REQ_SCHEME)
local REMOTE_PORT = tonumber(C.WEIR_REQ_REMOTE_PORT)


local _M = {}


--- The address of the peer that is connected to the web server: the client, or a
-- proxy before it.
-- @function kong.client.get_ip
-- @phases request
-- @treturn string the address
-- @usage
-- kong.client.get_ip() -- "203.0.113.7"
function _M.get_ip()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return ctx.peer_ip or (real_ip.peer(ctx))
end


--- The address of the client: that of the peer, or, if the peer is one of
-- `trusted_ips`, the one that `real_ip_header` names.
-- @function kong.client.get_forwarded_ip
-- @phases request
-- @treturn string the address
-- @usage
-- kong.client.get_forwarded_ip() -- "198.51.100.4"
function _M.get_forwarded_ip()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return ctx.client_ip or (real_ip.address(ctx))
end


--- The port of the peer that is connected to the web server.
-- @function kong.client.get_port
-- @phases request
-- @treturn number the port
-- @usage
-- kong.client.get_port() -- 51034
function _M.get_port()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return C.weir_req_number(ctx.req, REMOTE_PORT)
end


--- The port of the client, if the address of kong.client.get_forwarded_ip came with one.
-- @function kong.client.get_forwarded_port
-- @phases request
-- @treturn number the port; 0 if a header named the address without a port
-- @usage
-- kong.client.get_forwarded_port() -- 51034
function _M.get_forwarded_port()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return (real_ip.port(ctx))
end


--- The protocol of the request, as the matched route sees it: the route's own if it
-- has a single one, otherwise `https` for a request over TLS, else `http`.
-- @function kong.client.get_protocol
-- @phases access, response, header_filter, body_filter, log
-- @param allow_terminated boolean|nil also `https` if a trusted peer says so by X-Forwarded-Proto
-- @treturn string|nil the protocol; nil if no route matched
-- @treturn string|nil why it is not known
-- @usage
-- kong.client.get_protocol() -- "https"
function _M.get_protocol(allow_terminated)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ROUTED) == 0 then
    wrong_phase(ctx, ROUTED)
  end
  local route = ctx.route
  if not route then
    return nil, "No active route found"
  end
  local protocols = route.protocols
  if protocols and #protocols == 1 then
    return protocols[1]
  end
  C.weir_req_get(ctx.req, SCHEME, sv)
  local scheme = ffi_string(sv[0].p, sv[0].n)
  if scheme ~= "https" and allow_terminated then
    local forwarded = real_ip.forwarded(ctx, "x-forwarded-proto")
    if forwarded and lower(forwarded) == "https" then
      return "https"
    end
  end
  return scheme
end


return _M
