-- response-ratelimiting: limits what requests cost, as the service says in a header of
-- its response. Before the service is asked, it is told what is left; when it has
-- answered, all costs are counted or, where nothing was left, the answer is withheld.
-- The header is the service's word to weir: it never reaches the client.
--
-- What is known of the limits lies, for each request, in arrays over the windows of all
-- limits, from 0, as those of weir.counter: used, and reset_ms if it is shown. Lists are
-- walked by calls in the place of loops: the JIT would find a loop over one limit left at
-- once each time, and give up on what it stands in.

local costs = require "kong.plugins.response-ratelimiting.costs"
local counter = require "weir.counter"
local errors = require "weir.errors"
local headers = require "weir.limiting.headers"
local identifiers = require "weir.limiting.identifier"
local limiting = require "weir.limiting"
local respond = require "weir.respond"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local kong = kong
local C = weir.C
local sv = weir.sv
local ffi_string = weir.ffi.string

local ceil = math.ceil
local find = string.find
local gsub = string.gsub
local lower = string.lower
local remaining = headers.remaining
local set_number = headers.set_number
local set_text = headers.set_text
local tonumber = tonumber


local REQUEST = tonumber(C.WEIR_HEADERS_REQUEST)
local RESPONSE = tonumber(C.WEIR_HEADERS_RESPONSE)
local UPSTREAM = tonumber(C.WEIR_HEADERS_UPSTREAM)
local IS_AUTHORIZER = tonumber(C.WEIR_REQ_IS_AUTHORIZER)

local HEADER_NAME = "x-kong-limit"

-- What described the body that is withheld, or would let a cache keep its absence.
local OF_THE_BODY = {
  "Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Content-Range",
  "Accept-Ranges", "ETag", "Last-Modified", "Cache-Control", "Expires",
}


local ResponseRateLimiting = {
  PRIORITY = 900,
  VERSION = "3.0.0",
}


local prepared = limiting.cache()


-- One limit, for counter.windows; the names of its periods; how they are shown.
local function windows_of(name, periods)
  local list, titles, shown = {}, {}, {}
  for _, period in ipairs(limiting.PERIODS) do
    local limit = periods[period.name]
    if limit then
      local n = #list + 1
      list[n] = { period = period.name, limit = limit }
      titles[n] = period.name
      shown[n] = headers.window(name .. "-" .. period.title, limit, name .. "-" .. period.name,
                                period.size_s)
    end
  end
  return list, titles, shown
end


-- full: what is used up in each window when nothing is left. at: where its windows begin in the
-- arrays over all.
local function prepare_limit(name, periods, at)
  local list, _, shown = windows_of(name, periods)
  local full = {}
  for i, window in ipairs(list) do
    full[i - 1] = ceil(window.limit)
  end
  return {
    name = name, at = at, n = #list, full = full, shown = shown, list = list,
    windows = counter.windows(list),
    suffix = ":" .. name,
    service_header = "X-RateLimit-Remaining-" .. name,
  }
end


-- By name, so that each request and each node asks in the same order.
local function names_of(limits)
  local names = {}
  for name in pairs(limits) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end


local function prepare(conf)
  local limits, by_name, shown = {}, {}, {}
  for i, name in ipairs(names_of(conf.limits)) do
    local limit = prepare_limit(name, conf.limits[name], #shown)
    limits[i], by_name[name] = limit, limit
    for _, window in ipairs(limit.shown) do
      shown[#shown + 1] = window
    end
  end
  local by, policy = conf.limit_by or "ip", conf.policy or "local"
  local own = {
    store = limiting.open(policy, conf.redis, nil, function()
      prepared[conf] = nil
    end),
    asks_together = policy ~= "local" and #limits > 1,
    free_sets = {},
    limits = limits,
    by_name = by_name,
    shown = shown,
    draft = conf.draft_headers and headers.policies(shown),
    header_name = lower(conf.header_name or HEADER_NAME),
    prefix = limiting.prefix("response-ratelimit", conf),
    by = by,
    mark = identifiers.mark(by),
  }
  prepared[conf] = own
  return own
end


-- ---- before the service is asked

-- Takes over what a store said of a limit.
local function keep(state, limit, used, reset_ms)
  local at = limit.at
  for i = 0, limit.n - 1 do
    state.used[at + i] = used[i]
    if state.reset_ms then
      state.reset_ms[at + i] = reset_ms[i]
    end
  end
end


-- Reads what is used up of the limits from number i on; false if the store does not answer.
local function peek_from(own, state, i)
  local limit = own.limits[i]
  if not limit then
    return true
  end
  local used, reset_ms = counter.peek(own.store, state.identity .. limit.suffix, limit.windows)
  if not used then
    return false
  end
  keep(state, limit, used, reset_ms)
  return peek_from(own, state, i + 1)
end


-- A set of windows for each limit, to be given back to own.free_sets: the answers lie in them
-- while others are waited for, so that nobody else may use them meanwhile.
local function take_sets(own)
  local n = #own.free_sets
  local sets = own.free_sets[n]
  own.free_sets[n] = nil
  if not sets then
    sets = {}
    for i, limit in ipairs(own.limits) do
      sets[i] = counter.windows(limit.list)
    end
  end
  return sets
end


-- The same of all limits, in one turn of questions.
local function peek_together(own, state)
  local sets, identities = take_sets(own), {}
  for i, limit in ipairs(own.limits) do
    identities[i] = state.identity .. limit.suffix
  end
  local known = counter.peek_all(own.store, identities, sets)
  if known then
    for i, limit in ipairs(own.limits) do
      keep(state, limit, sets[i].used, sets[i].reset_ms)
    end
  end
  own.free_sets[#own.free_sets + 1] = sets
  return known == true
end


-- What is left of a limit: the least over its windows.
local function least_left(limit, used)
  local least
  for i = 1, limit.n do
    local left = remaining(limit.shown[i].limit, used[limit.at + i - 1])
    least = least and least < left and least or left
  end
  return least
end


-- Tells the service what is left of the limits from number i on. If that is not known, what a
-- client says of it is not passed on either.
local function tell_service(req, limits, state, i)
  local limit = limits[i]
  if not limit then
    return
  end
  local name = limit.service_header
  if state.known then
    C.weir_header_set_number(req, REQUEST, name, #name, least_left(limit, state.used))
  else
    C.weir_header_clear(req, REQUEST, name, #name)
  end
  return tell_service(req, limits, state, i + 1)
end


local function is_used_up(limit, used)
  for i = 0, limit.n - 1 do
    if used[limit.at + i] >= limit.full[i] then
      return true
    end
  end
  return false
end


-- The first limit from number i on of which nothing is left; nil if there is none.
local function first_used_up(limits, used, i)
  local limit = limits[i]
  if limit and not is_used_up(limit, used) then
    return first_used_up(limits, used, i + 1)
  end
  return limit
end


-- Once for a request: before the service is asked, or behind.
local function log_dry_run(state, limit)
  if not state.is_logged then
    state.is_logged = true
    limiting.log_dry_run(state.identifier, ", limit '" .. limit.name .. "'")
  end
end


function ResponseRateLimiting:access(conf)
  local req = wait.ctx.req
  if C.weir_req_number(req, IS_AUTHORIZER) == 1 then
    return -- no answer of a service will be seen
  end
  local own = prepared[conf] or prepare(conf)
  local identifier = identifiers.of(own.by, own.mark)
  local state = { identifier = identifier, identity = own.prefix .. identifier, used = {},
                  reset_ms = own.draft and {} }
  kong.ctx.plugin.state = state -- luacheck: ignore 122
  if own.asks_together then
    state.known = peek_together(own, state)
  else
    state.known = peek_from(own, state, 1)
  end
  tell_service(req, own.limits, state, 1)
  if not state.known then
    return limiting.fail(conf)
  end
  local limit = conf.block_on_first_violation and first_used_up(own.limits, state.used, 1)
  if not limit then
    return
  end
  if conf.dry_run then
    return log_dry_run(state, limit)
  end
  return kong.response.error(429, "API rate limit exceeded for '" .. limit.name .. "'")
end


-- ---- when the service has answered

local function log_bad_costs(own, bad, first)
  kong.log.warn("what is no cost in the service's header ", own.header_name, ": ", first,
                bad > 1 and ", and " .. bad - 1 .. " more" or "")
end


-- Whether a field of the service's is the header of that name: "_" stands for "-", too.
local function is_named(field, name)
  field = lower(field)
  return field == name or field == gsub(name, "_", "-")
end


-- The costs that the service named, by name of the limit; nil if it has no such header.
local function read_costs(own, req)
  local found, bad, first = nil, 0, nil
  local name, n, i = own.header_name, #own.header_name, 0
  while C.weir_header_at(req, UPSTREAM, i, sv, sv + 1) == 0 do
    if sv[0].n == n and is_named(ffi_string(sv[0].p, n), name) then
      found = found or {}
      local more, one = costs.read(ffi_string(sv[1].p, sv[1].n), own.by_name, found)
      bad, first = bad + more, first or one
    end
    i = i + 1
  end
  if bad > 0 then
    log_bad_costs(own, bad, first)
  end
  return found
end


-- Counts a cost if anything was left before it: it may overshoot. With limits that are higher by
-- all of the cost but one unit, room for it is room for one unit.
local function admit(own, state, limit, cost)
  local windows = limit.windows
  for i = 0, limit.n - 1 do
    windows.limit[i] = limit.full[i] + cost - 1
  end
  return counter.admit(own.store, state.identity .. limit.suffix, windows, cost)
end


-- first: the number of the first window that is meant, nil: of all.
local function charge(own, state, limit, amount, first)
  counter.charge(own.store, state.identity .. limit.suffix, limit.windows, amount, first)
end


-- Gives back what was counted of the limits before number i, in the windows that still last:
-- in the next ones it would be others' units. Smaller windows end first.
local function give_back(own, state, found, i)
  local now_s = C.weir_now()
  for k = 1, i - 1 do
    local limit = own.limits[k]
    local cost = found[limit.name]
    if cost and cost > 0 then
      local first = 0
      while first < limit.n and state.ends_s[limit.at + first] <= now_s do
        first = first + 1
      end
      if first < limit.n then
        charge(own, state, limit, -cost, first)
      end
    end
  end
end


-- When the windows end, or a little before, where something may have to be given back.
local function keep_ends(own, state, limit, asked_s, reset_ms)
  if not own.limits[2] then
    return
  end
  state.ends_s = state.ends_s or {}
  for i = 0, limit.n - 1 do
    state.ends_s[limit.at + i] = asked_s + tonumber(reset_ms[i]) / 1000
  end
end


-- Counts the costs above 0 from limit number i on, all or none. True; false and the limit of
-- which nothing was left; nil if the store does not answer.
local function admit_from(own, state, found, i)
  local limit = own.limits[i]
  if not limit then
    return true
  end
  local cost = found[limit.name]
  if cost and cost > 0 then
    local asked_s = C.weir_now()
    local granted, used, reset_ms = admit(own, state, limit, cost)
    if granted ~= nil then
      keep(state, limit, used, reset_ms)
      keep_ends(own, state, limit, asked_s, reset_ms)
    end
    if not granted then
      give_back(own, state, found, i)
      return granted, limit
    end
  end
  return admit_from(own, state, found, i + 1)
end


-- Costs below 0 give units back, but no more than were used up.
local function refund(own, state, limit, cost)
  kong.log.info("the service gives back ", -cost, " of the limit '", limit.name, "'")
  charge(own, state, limit, cost)
end


-- The costs from limit number i on are all counted: used gets to know, refunds are made.
local function settle(own, state, found, i)
  local limit = own.limits[i]
  if not limit then
    return
  end
  local cost = found[limit.name]
  if cost and cost < 0 then
    refund(own, state, limit, cost)
  end
  for k = limit.at, cost and limit.at + limit.n - 1 or -1 do
    local sum = state.used[k] + cost
    state.used[k] = sum > 0 and sum or 0
  end
  return settle(own, state, found, i + 1)
end


-- Counts without a question: the store did not answer when it was asked, and may again.
local function charge_all(own, state, found)
  for name, cost in pairs(found) do
    if cost ~= 0 then
      charge(own, state, own.by_name[name], cost)
    end
  end
end


-- Counts what the answer costs: the results of admit_from.
local function count(own, state, found)
  local counted, limit = admit_from(own, state, found, 1)
  if counted then
    settle(own, state, found, 1)
  end
  return counted, limit
end


-- The answer becomes an empty 429; what the service still sends of its own is not read.
local function withhold(ctx)
  for _, name in ipairs(OF_THE_BODY) do
    C.weir_header_clear(ctx.req, RESPONSE, name, #name)
  end
  respond.replace(ctx)
  ctx.exit_body = nil
  kong.response.exit(429)
end


-- The answer becomes weir's own 500, if the config tolerates no faults.
local function fail(ctx, conf)
  if conf.fault_tolerant == false then
    respond.error(ctx, 500, errors.unexpected)
    C.weir_resp_set_status(ctx.req, 500)
  end
end


local function set_windows(req, shown, used, i)
  local window = shown[i]
  if not window then
    return
  end
  set_text(req, window.limit_header, window.limit_text)
  set_number(req, window.remaining_header, remaining(window.limit, used[i - 1]))
  return set_windows(req, shown, used, i + 1)
end


local function set_headers(req, own, state)
  set_windows(req, own.shown, state.used, 1)
  if own.draft then
    headers.set_draft(req, own.draft, own.shown, state.used, state.reset_ms, 0)
  end
end


-- Takes the header away from the client.
local function hide(req, name)
  C.weir_header_clear(req, RESPONSE, name, #name)
  if find(name, "_", 1, true) then
    hide(req, (gsub(name, "_", "-")))
  end
end


function ResponseRateLimiting:header_filter(conf)
  local ctx = wait.ctx
  local req = ctx.req
  hide(req, conf.header_name or HEADER_NAME)

  local state = kong.ctx.plugin.state
  if not state then
    return -- the request was answered before access, or there is no service
  end
  local own = prepared[conf] or prepare(conf)
  local found = read_costs(own, req)
  if not state.known then
    return found and charge_all(own, state, found)
  end
  local counted, limit = true, nil
  if found then
    counted, limit = count(own, state, found)
  end
  if counted == nil then
    return fail(ctx, conf)
  end
  if not counted and conf.dry_run then
    log_dry_run(state, limit)
  elseif not counted then
    withhold(ctx)
  end
  if not conf.hide_client_headers then
    set_headers(req, own, state)
  end
end


-- See weir.limiting.
function ResponseRateLimiting.counters(conf, identifier, by)
  local out = {}
  local store = limiting.open(conf.policy or "local", conf.redis)
  local identity = limiting.prefix("response-ratelimit", conf)
    .. identifiers.given(by or conf.limit_by or "ip", identifier)
  for i, name in ipairs(names_of(conf.limits)) do
    local list, titles = windows_of(name, conf.limits[name])
    out[i] = {
      name = name, store = store, identity = identity .. ":" .. name,
      windows = counter.windows(list), titles = titles,
    }
  end
  return out
end


return ResponseRateLimiting
