-- A request's way through the phases: rewrite, route, access, upstream,
-- header_filter, body_filter, log. One function runs in one coroutine from the
-- request's head to its line in the access log. What runs is in the plan:
-- dense arrays of handlers, so that a phase without plugins costs nothing.

local errors = require "weir.errors"
local EXIT = require "weir.exit"
local phases = require "weir.phases"
local real_ip = require "weir.real_ip"
local respond = require "weir.respond"
local trace = require "weir.trace"
local upstream = require "weir.upstream"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C, sv, str = weir.C, weir.sv, weir.str
local clear = require "table.clear"
local next, xpcall = next, xpcall

local METHOD, PATH = C.WEIR_REQ_METHOD, C.WEIR_REQ_PATH
local HOST = C.WEIR_REQ_HOST
local IS_AUTHORIZER, ABORTED = C.WEIR_REQ_IS_AUTHORIZER, C.WEIR_REQ_ABORTED
local REWRITE, ACCESS, RESPONSE = phases.rewrite, phases.access, phases.response
local LOG = phases.log

local _M = {}

-- What requests are served by. Replaced as a whole; a request in flight keeps
-- the plan that it started with.
local current_plan, current_router

-- Contexts of finished requests, emptied, to be used again.
local pool, pooled = {}, 0
local POOL_MAX = 256


-- From now on requests are served by this plan and this router.
function _M.serve(plan, router)
  current_plan, current_router = plan, router
end


local function take_context(req)
  local ctx

  if pooled > 0 then
    ctx = pool[pooled]
    pooled = pooled - 1
  else
    ctx = {}
  end
  ctx.req = req
  return ctx
end


-- To clear the whole table would take its keys away too, which the next request would have to
-- put in again, at more than the cost of its routing.
local function release_context(ctx)
  ctx.req, ctx.phase, ctx.plugin, ctx.lists = nil, nil, nil, nil
  ctx.match, ctx.route, ctx.service, ctx.proxied = nil, nil, nil, nil
  ctx.authorizer, ctx.exited, ctx.exit_status, ctx.exit_body = nil, nil, nil, nil
  ctx.peer_ip, ctx.peer_trusted, ctx.client_ip, ctx.client_port = nil, nil, nil, nil
  if next(ctx) ~= nil then -- what few requests have
    clear(ctx)
  end
  if pooled < POOL_MAX then
    pooled = pooled + 1
    pool[pooled] = ctx
  end
end


-- Why a handler was the last one of its phase: it failed, or it answered.
local function stop(ctx, ok, err)
  if not ok and err ~= EXIT then
    respond.report(ctx, err)
    ctx.plugin = nil
    respond.error(ctx, 500, errors.unexpected)
  end
  ctx.plugin = nil
  return false
end


-- The handlers from number i on. A call in the place of a loop: lists are so short that the
-- JIT would find a loop left at once each time, and give up on whatever it stands in.
local function run_from(ctx, list, i)
  if i > list.n then
    ctx.plugin = nil
    return true
  end
  ctx.plugin = list.names[i]

  local ok, err = xpcall(list.handlers[i], trace, list.plugins[i], list.confs[i])

  if not ok or ctx.exited then
    return stop(ctx, ok, err)
  end
  return run_from(ctx, list, i + 1)
end


-- Runs the handlers of a phase. False when the phase was left by a response.
local function run(ctx, phase, list)
  ctx.phase = phase
  return list.n == 0 or run_from(ctx, list, 1)
end

_M.run = run


-- Log handlers cannot answer any more: a failure is reported and the next one runs.
local function run_log(ctx, list, i)
  if i > list.n then
    ctx.plugin = nil
    return
  end
  ctx.plugin = list.names[i]

  local ok, err = xpcall(list.handlers[i], trace, list.plugins[i], list.confs[i])

  if not ok and err ~= EXIT then
    respond.report(ctx, err)
  end
  return run_log(ctx, list, i + 1)
end


local function scheme_of(req)
  C.weir_req_get(req, C.WEIR_REQ_SCHEME, sv)
  return str(sv[0])
end


local function find_route(ctx, req)
  C.weir_req_get(req, METHOD, sv)
  local method = str(sv[0])

  C.weir_req_get(req, HOST, sv)
  local host = str(sv[0])

  C.weir_req_get(req, PATH, sv)

  local match = current_router:match(method, host, str(sv[0]), ctx)

  if match then
    ctx.match = match
    ctx.route = match.route
    ctx.service = match.service
  end
  return match
end


local function is_https(ctx)
  return (real_ip.forwarded(ctx, "X-Forwarded-Proto") or scheme_of(ctx.req)) == "https"
end


-- Route, access and, for a responder, the upstream. What plugins or weir answer
-- instead lies in ctx when this returns.
local function route_and_access(ctx, req, plan)
  local match = find_route(ctx, req)
  local authorizer = C.weir_req_number(req, IS_AUTHORIZER) == 1

  ctx.lists = plan:lists(match and match.route)
  if not match and not authorizer then
    respond.error(ctx, 404, errors.no_route)
  elseif ctx.lists.https_only and not is_https(ctx) then
    respond.https_only(ctx, match.route)
  elseif run(ctx, ACCESS, ctx.lists.access) then
    if authorizer then
      respond.allow(ctx)
    elseif not match.service then
      respond.error(ctx, 503, errors.no_service)
    else
      upstream.proxy(ctx, match)
    end
  end
end


local function phases_of(ctx, req)
  local plan = current_plan

  ctx.lists = plan.none
  if run(ctx, REWRITE, plan.none.rewrite) then
    route_and_access(ctx, req, plan)
  end
  if ctx.proxied and (ctx.buffering or ctx.lists.response.n > 0) then
    upstream.buffer(ctx)
    if ctx.proxied and not run(ctx, RESPONSE, ctx.lists.response) then
      respond.replace(ctx)
    end
  end
end


-- All but the log phase.
local function serve(ctx, req)
  phases_of(ctx, req)
  if C.weir_req_number(req, ABORTED) == 0 then
    respond.send(ctx)
  end
end


-- What is no plugin's fault: a regular expression of a route that was given up,
-- or a mistake of weir's own.
local function recover(ctx, req, err)
  ctx.plugin = "weir"
  respond.report(ctx, err)
  ctx.plugin = nil
  if C.weir_req_number(req, ABORTED) == 0 then
    respond.recover(ctx)
  end
end


-- For C: serves the request that the running coroutine belongs to.
function _M.request()
  local req = C.weir_current()
  local ctx = take_context(req)

  wait.ctx = ctx

  local ok, err = xpcall(serve, trace, ctx, req)

  if not ok then
    recover(ctx, req, err)
  end
  ctx.phase = LOG
  run_log(ctx, ctx.lists.log, 1)
  wait.ctx = nil
  release_context(ctx)
  C.weir_req_done(req)
end


return _M
