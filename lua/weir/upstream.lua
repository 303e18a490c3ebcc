-- The exchange with a route's service: the request's target and headers, the
-- wait for the answer, and what becomes of failures. The bytes are C's business.

local errors = require "weir.errors"
local log = require "weir.log"
local real_ip = require "weir.real_ip"
local respond = require "weir.respond"
local upstream_path = require "weir.upstream_path"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C, sv, str, ffi = weir.C, weir.sv, weir.str, weir.ffi
local concat, tostring = table.concat, tostring
local ffi_string = ffi.string

local REQUEST = C.WEIR_HEADERS_REQUEST
local VIA = "1.1 weir/" .. weir.version
local NO_ADDRESS, TIMEOUT = -1, -5
local SOURCE_SERVICE = 3

local _M = {}


local function get(req, what)
  C.weir_req_get(req, what, sv)
  return str(sv[0])
end


local function header(req, name)
  if C.weir_header_get(req, REQUEST, name, #name, sv) == 0 then
    return str(sv[0])
  end
  return nil
end


local function set_header(req, name, value)
  C.weir_header_set(req, REQUEST, name, #name, value, #value)
end


-- X-Forwarded-*: what a trusted peer said stays, everybody else is overruled.
local function set_forwarded(ctx, req, match)
  local peer = real_ip.peer(ctx)
  local trusted = real_ip.is_trusted(ctx)
  local so_far = header(req, "X-Forwarded-For")
  local host = get(req, C.WEIR_REQ_HOST):match("^(.-):?%d*$")
  local function own(name, value)
    if value and not (trusted and header(req, name)) then
      set_header(req, name, value)
    end
  end

  set_header(req, "X-Forwarded-For", so_far and so_far .. ", " .. peer or peer)
  own("X-Forwarded-Proto", get(req, C.WEIR_REQ_SCHEME))
  own("X-Forwarded-Host", host)
  own("X-Forwarded-Port", tostring(C.weir_req_number(req, C.WEIR_REQ_SERVER_PORT)))
  own("X-Forwarded-Path", get(req, C.WEIR_REQ_RAW_PATH))
  if match.strip and match.prefix and match.prefix ~= "/" then
    own("X-Forwarded-Prefix", match.prefix)
  elseif not trusted then
    C.weir_header_clear(req, REQUEST, "X-Forwarded-Prefix", 18)
  end
  set_header(req, "X-Real-IP", real_ip.address(ctx))
end


local function service_host(service)
  if service.port == 80 then
    return service.host
  end
  return service.host .. ":" .. service.port
end


local function set_headers(ctx, req, match)
  local via = header(req, "Via")

  set_forwarded(ctx, req, match)
  set_header(req, "Via", via and via .. ", " .. VIA or VIA)
  set_header(req, "X-Kong-Request-Id", get(req, C.WEIR_REQ_ID))
  if ctx.upstream and ctx.upstream.host_header then
    set_header(req, "Host", ctx.upstream.host_header)
  elseif not match.route.preserve_host then
    set_header(req, "Host", service_host(match.service))
  end
end


-- The request target as it goes on the wire.
local function target_of(ctx, req, match)
  local own = ctx.upstream
  local path = own and own.path or
               upstream_path.build(match.service, match.route, match, get(req, C.WEIR_REQ_PATH))
  local query = get(req, C.WEIR_REQ_QUERY)

  return query == "" and path or concat({ path, "?", query })
end


local function failed(ctx, rc)
  local reason = ffi_string(C.weir_upstream_reason(ctx.req))
  local route = ctx.route

  log.err("upstream: ", reason, ", route ", route.name or route.id, ", request ",
          get(ctx.req, C.WEIR_REQ_ID))
  if rc == NO_ADDRESS then
    respond.error(ctx, 503, "name resolution failed")
    return
  end

  local status = rc == TIMEOUT and 504 or 502

  respond.error(ctx, status, errors.message(status))
end


-- Sends the request to its service and waits for the answer's head. The answer,
-- or what is said instead of it, lies in ctx and C when this returns.
function _M.proxy(ctx, match)
  local req, service, own = ctx.req, match.service, ctx.upstream
  local target = target_of(ctx, req, match)
  ctx.upstream_uri = target

  local host = own and own.host or service.host
  local port = own and own.port or service.port

  set_headers(ctx, req, match)

  local rc = C.weir_upstream_start(req, host, #host, port, target, #target,
                                   own and own.retries or service.retries,
                                   own and own.connect_timeout or service.connect_timeout,
                                   own and own.write_timeout or service.write_timeout,
                                   own and own.read_timeout or service.read_timeout)

  if rc == C.WEIR_WAIT then
    wait()
    rc = C.weir_upstream_result(req)
  end
  if rc < 0 then
    if C.weir_req_number(req, C.WEIR_REQ_ABORTED) == 0 then
      failed(ctx, rc)
    end
    return
  end
  C.weir_upstream_accept(req)
  C.weir_resp_set_source(req, SOURCE_SERVICE)
  ctx.proxied = true
end


-- Reads the whole body into ctx.buffered_body, for the response phase.
function _M.buffer(ctx)
  local req, pieces, n = ctx.req, {}, 0

  while true do
    local rc = C.weir_upstream_read(req, sv)

    if rc == C.WEIR_WAIT then
      wait()
    elseif rc == 0 then
      n = n + 1
      pieces[n] = str(sv[0])
    elseif rc < 0 then
      if C.weir_req_number(req, C.WEIR_REQ_ABORTED) == 0 then
        failed(ctx, rc)
      end
      return
    else
      ctx.buffered_body = concat(pieces)
      return
    end
  end
end


return _M
