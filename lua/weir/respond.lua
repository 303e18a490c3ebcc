-- The answer: what a plugin, weir or the upstream said goes through
-- header_filter and body_filter and out. Until `send` it is kept in ctx:
-- exit_status and exit_body for a made answer, proxied for an upstream's.

local conf = require "weir.conf"
local errors = require "weir.errors"
local EXIT = require "weir.exit"
local log = require "weir.log"
local phases = require "weir.phases"
local trace = require "weir.trace"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C, sv, str, ffi = weir.C, weir.sv, weir.str, weir.ffi
local floor, ipairs, tostring, xpcall = math.floor, ipairs, tostring, xpcall
local ffi_string = ffi.string

local REQUEST, RESPONSE = C.WEIR_HEADERS_REQUEST, C.WEIR_HEADERS_RESPONSE
local ID, START_US = C.WEIR_REQ_ID, C.WEIR_REQ_START_US
local UPSTREAM_START_US = C.WEIR_REQ_UPSTREAM_START_US
local UPSTREAM_HEAD_US = C.WEIR_REQ_UPSTREAM_HEAD_US
local IS_AUTHORIZER, ABORTED = C.WEIR_REQ_IS_AUTHORIZER, C.WEIR_REQ_ABORTED
local HEADER_FILTER, BODY_FILTER = phases.header_filter, phases.body_filter
local SOURCE_ERROR = 2

local TOKEN = "weir/" .. weir.version
local VIA = "1.1 " .. TOKEN

local _M = {}

-- Which headers weir adds of its own accord (the key `headers`).
local adds = {}


-- Reads the configuration; called before the first request.
function _M.load()
  local names = {}

  for _, name in ipairs(conf.list("headers")) do
    names[name:lower()] = true
  end
  adds.via = names.server_tokens or names.via
  adds.server = names.server_tokens or names.server
  adds.upstream_latency = names.latency_tokens or names["x-kong-upstream-latency"]
  adds.proxy_latency = names.latency_tokens or names["x-kong-proxy-latency"]
  adds.response_latency = names.latency_tokens or names["x-kong-response-latency"]
  adds.upstream_status = names["x-kong-upstream-status"]
  adds.request_id = names["x-kong-request-id"]
  adds.id_in_body = conf.bool("error_request_id")
end


local function set_header(req, name, value)
  C.weir_header_set(req, RESPONSE, name, #name, value, #value)
end


local function accept_of(req)
  if C.weir_header_get(req, REQUEST, "Accept", 6, sv) == 0 then
    return str(sv[0])
  end
  return nil
end


-- What the upstream said gives way to an answer of weir's own.
local function drop_proxied(ctx, req)
  while C.weir_header_at(req, RESPONSE, 0, sv, sv + 1) == 0 do
    C.weir_header_clear(req, RESPONSE, sv[0].p, sv[0].n)
  end
  ctx.proxied = nil
end


-- An answer of weir's own: message in the form that the client accepts. COMPAT(kong): that
-- something failed is told in compact JSON to all.
function _M.error(ctx, status, message)
  local req = ctx.req

  if ctx.proxied then
    drop_proxied(ctx, req)
  end

  local failed = message == errors.unexpected
  local content_type = failed and errors.JSON or errors.choose(accept_of(req))
  local id

  if adds.id_in_body and not failed then
    C.weir_req_get(req, ID, sv)
    id = str(sv[0])
  end
  C.weir_resp_set_source(req, SOURCE_ERROR)
  set_header(req, "Content-Type", content_type)
  ctx.exited = true
  ctx.exit_status = status
  ctx.exit_body = errors.body(message, content_type, id)
end


-- A route that wants TLS was asked without.
function _M.https_only(ctx, route)
  local status, req = route.https_redirect_status_code, ctx.req

  if not status or status == 426 then
    _M.error(ctx, 426, "Please use HTTPS protocol")
    return
  end
  C.weir_req_get(req, C.WEIR_REQ_HOST, sv)

  local host = str(sv[0]):gsub(":%d+$", "")

  C.weir_req_get(req, C.WEIR_REQ_URI, sv)
  set_header(req, "Location", "https://" .. host .. str(sv[0]))
  _M.error(ctx, status, "Please use HTTPS protocol")
end


-- After a failure of weir's own: a 500, or the end of what has begun.
function _M.recover(ctx)
  local req = ctx.req

  if C.weir_req_number(req, C.WEIR_REQ_HEAD_SENT) == 0 then
    _M.error(ctx, 500, errors.unexpected)
    C.weir_resp_all(req, 500, ctx.exit_body, #ctx.exit_body)
  elseif C.weir_req_number(req, C.WEIR_REQ_ANSWERED) == 0 then
    C.weir_resp_break(req)
    C.weir_resp_end(req)
  end
end


-- A plugin has answered in the place of the upstream, whose body is dropped with
-- what described it.
function _M.replace(ctx)
  C.weir_header_clear(ctx.req, RESPONSE, "Content-Encoding", 16)
  ctx.proxied, ctx.buffered_body = nil, nil
end


-- An authorizer lets the request through.
function _M.allow(ctx)
  ctx.exit_status = 200
  ctx.exit_body = nil
end


-- One line: who failed where, for whom, why.
function _M.report(ctx, err)
  local route = ctx.route

  C.weir_req_get(ctx.req, ID, sv)
  log.err("[", ctx.plugin, "] ", phases.names[ctx.phase], " phase, route ",
          route and (route.name or route.id) or "none", ", request ", str(sv[0]), ": ", err)
end


-- A filter that fails does so for each piece of a body: once tells it.
local function report_filter(ctx, phase, err)
  local failed = ctx.failed_filters

  if phase == BODY_FILTER then
    if failed and failed[ctx.plugin] then
      return
    end
    failed = failed or {}
    failed[ctx.plugin] = true
    ctx.failed_filters = failed
  end
  _M.report(ctx, err)
end


-- The filters from number i on (no loop: see run_from in weir.runloop). One that fails is
-- reported and the next one runs; false says that one did.
local function filter_from(ctx, phase, list, i, good)
  if i > list.n then
    ctx.plugin = nil
    return good
  end
  ctx.plugin = list.names[i]

  local ok, err = xpcall(list.handlers[i], trace, list.plugins[i], list.confs[i])

  if not ok and err ~= EXIT then
    report_filter(ctx, phase, err)
    good = false
  end
  return filter_from(ctx, phase, list, i + 1, good)
end


local function run_filters(ctx, phase, list)
  ctx.phase = phase
  return filter_from(ctx, phase, list, 1, true)
end


local function milliseconds(req, from, to)
  local us = (to and C.weir_req_number(req, to) or C.weir_mono_us()) - C.weir_req_number(req, from)

  return tostring(us > 0 and floor(us / 1000) or 0)
end


local function add_proxied(req)
  if adds.via then
    local via = VIA

    if C.weir_header_get(req, RESPONSE, "Via", 3, sv) == 0 then
      via = str(sv[0]) .. ", " .. VIA
    end
    set_header(req, "Via", via)
  end
  if adds.upstream_latency then
    set_header(req, "X-Kong-Upstream-Latency",
               milliseconds(req, UPSTREAM_START_US, UPSTREAM_HEAD_US))
  end
  if adds.proxy_latency then
    set_header(req, "X-Kong-Proxy-Latency", milliseconds(req, START_US, UPSTREAM_START_US))
  end
  if adds.upstream_status then
    set_header(req, "X-Kong-Upstream-Status",
               tostring(C.weir_req_number(req, C.WEIR_REQ_UPSTREAM_STATUS)))
  end
end


-- The headers of the key `headers`. An authorizer's answer belongs to the front:
-- it gets the request's id only.
local function add_own_headers(ctx, req)
  if ctx.proxied then
    add_proxied(req)
  elseif not ctx.authorizer then
    if adds.server then
      set_header(req, "Server", TOKEN)
    end
    if adds.response_latency then
      set_header(req, "X-Kong-Response-Latency", milliseconds(req, START_US))
    end
  end
  if adds.request_id then
    C.weir_req_get(req, ID, sv)
    C.weir_header_set(req, RESPONSE, "X-Kong-Request-Id", 17, sv[0].p, sv[0].n)
  end
end


-- Runs the body filters over one piece; what they leave is returned.
local function filter_body(ctx, list, chunk, eof)
  ctx.body_chunk = chunk
  ctx.body_eof = eof
  run_filters(ctx, BODY_FILTER, list)
  return ctx.body_chunk
end


local function send_made(ctx, req, list)
  local body = ctx.exit_body or ""

  if list.n > 0 then
    body = filter_body(ctx, list, body, true) or ""
  end
  C.weir_resp_all(req, C.weir_req_number(req, C.WEIR_REQ_STATUS), body, #body)
end


local function body_out(req, chunk)
  if chunk and chunk ~= "" and C.weir_resp_body(req, chunk, #chunk) == C.WEIR_WAIT then
    wait()
  end
end


local function upstream_broke(ctx, req, rc)
  if C.weir_req_number(req, ABORTED) == 0 then
    log.err("upstream: the body broke off: ", ffi_string(C.weir_upstream_reason(req)), " (",
            weir.strerror(rc), "), route ", ctx.route.name or ctx.route.id)
  end
  C.weir_resp_break(req)
end


-- A call in the place of a loop: see run_from in weir.runloop.
local function forward(ctx, req)
  local rc = C.weir_upstream_forward(req)

  if rc == C.WEIR_WAIT then
    wait()
    return forward(ctx, req)
  end
  if rc < 0 then
    upstream_broke(ctx, req, rc)
  end
end


local function forward_filtered(ctx, req, list)
  while true do
    local rc = C.weir_upstream_read(req, sv)

    if rc == C.WEIR_WAIT then
      wait()
    elseif rc == 0 then
      body_out(req, filter_body(ctx, list, str(sv[0]), false))
      if ctx.body_eof then
        return -- a filter has replaced the rest
      end
    else
      if rc < 0 then
        upstream_broke(ctx, req, rc)
      else
        body_out(req, filter_body(ctx, list, "", true))
      end
      return
    end
  end
end


local function send_proxied(ctx, req, list)
  if ctx.buffered_body then
    local body = ctx.buffered_body

    if list.n > 0 then
      body = filter_body(ctx, list, body, true) or ""
    end
    C.weir_resp_set_length(req, #body)
    C.weir_resp_head(req)
    body_out(req, body)
  elseif list.n > 0 then
    C.weir_upstream_head(req, 1)
    forward_filtered(ctx, req, list)
  else
    C.weir_upstream_head(req, 0)
    forward(ctx, req)
  end
  C.weir_resp_end(req)
end


-- A plugin that answers in the place of what was asked for lets nobody through, whatever its
-- status: of an authorizer, 200 would be a yes.
local function keep_refusal(ctx, req)
  if ctx.exited and C.weir_req_number(req, C.WEIR_REQ_STATUS) == 200 then
    C.weir_resp_set_status(req, 403)
  end
end


-- Sends the answer that lies in ctx.
function _M.send(ctx)
  local req, lists = ctx.req, ctx.lists

  ctx.authorizer = C.weir_req_number(req, IS_AUTHORIZER) == 1
  if not ctx.proxied then
    C.weir_resp_set_status(req, ctx.exit_status or 200)
  end
  if lists.header_filter.n > 0 and not run_filters(ctx, HEADER_FILTER, lists.header_filter) then
    _M.error(ctx, 500, errors.unexpected)
    C.weir_resp_set_status(req, 500)
  end
  if ctx.authorizer then
    keep_refusal(ctx, req)
  end
  add_own_headers(ctx, req)
  if ctx.proxied then
    send_proxied(ctx, req, lists.body_filter)
  else
    send_made(ctx, req, lists.body_filter)
  end
end


return _M
