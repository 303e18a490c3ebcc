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
local concat, setmetatable = table.concat, setmetatable
local ffi_string = ffi.string

local ABORTED = C.WEIR_REQ_ABORTED
local WAIT = weir.WAIT
local NO_ADDRESS, TIMEOUT = -1, -5
local SOURCE_SERVICE = 3

local _M = {}


local function get(req, what)
  C.weir_req_get(req, what, sv)
  return str(sv[0])
end


-- The Host field of services, by service: those of a plan that is gone go with it.
local host_fields = setmetatable({}, { __mode = "k" })


local function service_host(service)
  local host = host_fields[service]

  if not host then
    host = service.port == 80 and service.host or service.host .. ":" .. service.port
    host_fields[service] = host
  end
  return host
end


local function host_field(ctx, req, match)
  local own = ctx.upstream

  if own and own.host_header then
    return own.host_header
  end
  return match.route.preserve_host and get(req, C.WEIR_REQ_HOST) or service_host(match.service)
end


-- What the upstream is told of the client; see weir_ffi.h.
local function describe(ctx, req, match)
  local host, client = host_field(ctx, req, match), real_ip.address(ctx)
  local prefix = match.strip and match.prefix or ""

  if prefix == "/" then
    prefix = ""
  end
  C.weir_upstream_describe(req, host, #host, real_ip.is_trusted(ctx) and 1 or 0,
                           client, #client, prefix, #prefix)
end


-- The request target as it goes on the wire.
local function target_of(ctx, req, match)
  local own = ctx.upstream
  local path = own and own.path or
               upstream_path.build(match.service, match.route, match, get(req, C.WEIR_REQ_PATH))
  local query = get(req, C.WEIR_REQ_QUERY)

  return query == "" and path or path .. "?" .. query
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


local function start(ctx, req, match)
  local service, own = match.service, ctx.upstream
  local target = target_of(ctx, req, match)
  local host = own and own.host or service.host
  local port = own and own.port or service.port

  ctx.upstream_uri = target
  describe(ctx, req, match)
  return C.weir_upstream_start(req, host, #host, port, target, #target,
                               own and own.retries or service.retries,
                               own and own.connect_timeout or service.connect_timeout,
                               own and own.write_timeout or service.write_timeout,
                               own and own.read_timeout or service.read_timeout,
                               match.route.request_buffering and 1 or 0)
end


-- A function of its own, as what stands behind a wait is not compiled otherwise.
local function take(ctx, req, rc)
  if rc == WAIT then
    rc = C.weir_upstream_result(req)
  end
  if rc >= 0 then
    C.weir_upstream_accept(req)
    C.weir_resp_set_source(req, SOURCE_SERVICE)
    ctx.proxied = true
  elseif C.weir_req_number(req, ABORTED) == 0 then
    failed(ctx, rc)
  end
end


-- Sends the request to its service and waits for the answer's head. The answer,
-- or what is said instead of it, lies in ctx and C when this returns.
function _M.proxy(ctx, match)
  local req = ctx.req

  if C.weir_req_number(req, ABORTED) == 1 then
    return -- the client has left while a plugin waited
  end

  local rc = start(ctx, req, match)

  if rc == WAIT then
    wait()
  end
  take(ctx, req, rc)
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
      if C.weir_req_number(req, ABORTED) == 0 then
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
