-- rate-limiting-advanced: counts requests in windows of any size, sliding or fixed,
-- and rejects, or holds for a while, those that find no room. One decision over all
-- windows. In sliding ones a rejected request counts unless the config says otherwise.
-- While the store does not answer, this machine's own counters decide.

local counter = require "weir.counter"
local headers = require "weir.limiting.headers"
local identifiers = require "weir.limiting.identifier"
local limiting = require "weir.limiting"
local json = require "weir.json"
local sliding = require "kong.plugins.rate-limiting-advanced.sliding"
local timer = require "weir.timer"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local kong = kong
local C = weir.C

local admit = counter.admit
local charge = counter.charge
local floor = math.floor
local identifier_of = identifiers.of
local identifier_of_all = identifiers.of_all
local set_headers = headers.set
local set_number = headers.set_number
local set_text = headers.set_text

local JSON = "application/json; charset=utf-8"

-- What the names of headers end with; that of another size is its number of seconds.
local SUFFIXES = {
  [1] = "Second", [60] = "Minute", [3600] = "Hour", [86400] = "Day", [2592000] = "Month",
  [31536000] = "Year",
}


local Advanced = {
  PRIORITY = 910,
  VERSION = "3.0.0",
}


local prepared = limiting.cache()


-- The windows from the smallest to the largest, for counter.windows. A size that stands
-- twice is counted once, by the lower limit.
local function windows_of(conf)
  local list, by_size = {}, {}
  for i, size_s in ipairs(conf.window_size) do
    local limit, same = conf.limit[i], by_size[size_s]
    if same then
      same.limit = limit < same.limit and limit or same.limit
    else
      by_size[size_s] = { size_s = size_s, limit = limit }
      list[#list + 1] = by_size[size_s]
    end
  end
  table.sort(list, function(a, b)
    return a.size_s < b.size_s
  end)
  return list, { sliding = conf.window_type ~= "fixed" }
end


local function name_of(size_s)
  return SUFFIXES[size_s] or tostring(size_s)
end


local function shown_of(list)
  local shown = {}
  for i, window in ipairs(list) do
    local name = name_of(window.size_s)
    shown[i] = headers.window(name, window.limit, name:lower(), window.size_s)
  end
  return shown
end


-- What a plugin that names no namespace has for one is its id: that stays the same over
-- reloads and on all nodes. No namespace can be made to look like another's key.
local function prefix_of(conf)
  local namespace = conf.namespace or conf.__plugin_id or ""
  namespace = namespace:gsub("[^%w._~-]", function(c)
    return ("%%%02X"):format(c:byte())
  end)
  return "ratelimit-advanced:" .. namespace .. ":"
end


-- With -1 nothing is exchanged: each node counts by itself, whatever the strategy.
local function open(conf, forget)
  local strategy = conf.sync_rate == -1 and "local" or conf.strategy or "local"
  return limiting.open(strategy, conf.redis, conf.sync_rate, forget)
end


-- The kinds of a compound identifier; nil where there is a single one.
local function kinds_of(conf)
  local kinds = conf.compound_identifier
  return kinds and #kinds > 0 and kinds or nil
end


local function prepare(conf)
  local list, options = windows_of(conf)
  local shown = shown_of(list)
  local by = conf.identifier or "ip"
  local own = {
    store = open(conf, function()
      prepared[conf] = nil
    end),
    fallback = limiting.open("local"),
    windows = counter.windows(list, options),
    sizes = sliding.sizes(list),
    shown = shown,
    draft = conf.draft_headers and headers.policies(shown),
    prefix = prefix_of(conf),
    kinds = kinds_of(conf),
    by = by,
    mark = identifiers.mark(by),
    is_sliding = options.sliding,
    penalty = options.sliding and not conf.disable_penalty and 1 or 0,
    body = json.encode({ message = conf.error_message or "Too many requests" }),
    throttling = conf.throttling and conf.throttling.enabled and conf.throttling or nil,
    held = 0,
  }
  prepared[conf] = own
  return own
end


-- As counter.admit, and the store that decided: the machine's own where the other is away.
-- nil if the client has left meanwhile.
local function decide(own, identity)
  local store = own.store
  local granted, used, reset_ms = admit(store, identity, own.windows, 1)
  if granted == nil then
    if limiting.is_gone() then
      return nil
    end
    store = own.fallback
    granted, used, reset_ms = admit(store, identity, own.windows, 1)
  end
  return granted, used, reset_ms, store
end


-- Tries again until there is room, so often and at such intervals as the config says. As
-- decide.
local function hold(own, identity, times)
  timer.sleep(own.throttling.interval)
  if limiting.is_gone() then
    return nil
  end
  local granted, used, reset_ms, store = decide(own, identity)
  if granted ~= false or times <= 1 then
    return granted, used, reset_ms, store
  end
  return hold(own, identity, times - 1)
end


local function hold_in_queue(own, identity)
  own.held = own.held + 1
  local ok, granted, used, reset_ms, store = pcall(hold, own, identity,
                                                   own.throttling.retry_times)
  own.held = own.held - 1
  if not ok then
    error(granted, 0)
  end
  return granted, used, reset_ms, store
end


local function random_to(max)
  local bytes = weir.ffi.new("uint32_t[1]")
  C.weir_random(weir.ffi.cast("char *", bytes), 4)
  return floor(bytes[0] / 2 ^ 32 * (max + 1))
end


-- COMPAT(kong): this plugin's body is compact JSON, whatever the client accepts.
local function deny(conf, own, retry_s)
  local req = wait.ctx.req
  if retry_s then
    local jitter = conf.retry_after_jitter_max or 0
    set_number(req, "Retry-After", retry_s + (jitter > 0 and random_to(jitter) or 0))
  end
  set_text(req, "Content-Type", JSON)
  return kong.response.exit(conf.error_code or 429, own.body)
end


-- The seconds to the end of the window that was described; nil if headers are hidden.
local function show(conf, own, used, reset_ms, charged)
  if conf.hide_client_headers then
    return nil
  end
  local req = wait.ctx.req
  local reset_s = set_headers(req, own.shown, used, reset_ms, charged)
  if own.draft then
    headers.set_draft(req, own.draft, own.shown, used, reset_ms, charged)
  end
  return reset_s
end


-- The request found no room. Headers come first: the arrays live until the next question.
local function reject(conf, own, identifier, used, reset_ms, store)
  if own.is_sliding then
    sliding.set_room(own.windows, own.sizes, used, reset_ms, own.penalty, 1)
  end
  local retry_s = show(conf, own, used, reset_ms, 0)
  if own.penalty > 0 then
    charge(store, own.prefix .. identifier, own.windows, 1)
  end
  if conf.dry_run then
    return limiting.log_dry_run(identifier)
  end
  return deny(conf, own, retry_s)
end


function Advanced:access(conf)
  local own = prepared[conf] or prepare(conf)
  local identifier
  if own.kinds then
    identifier = identifier_of_all(own.kinds, conf.header_name, conf.path, 1, "")
  else
    identifier = identifier_of(own.by, own.mark, conf.header_name, conf.path)
  end
  local identity = own.prefix .. identifier
  local granted, used, reset_ms, store = decide(own, identity)
  if granted == false and own.throttling and own.held < own.throttling.queue_limit
    and not conf.dry_run then
    granted, used, reset_ms, store = hold_in_queue(own, identity)
  end
  if granted == nil then
    return limiting.leave()
  elseif not granted then
    return reject(conf, own, identifier, used, reset_ms, store)
  end
  show(conf, own, used, reset_ms, 1)
end


local function given(conf, value, by)
  local kinds = not by and kinds_of(conf)
  if kinds then
    return identifiers.given_all(kinds, value)
  end
  return identifiers.given(by or conf.identifier or "ip", value)
end


-- See weir.limiting.
function Advanced.counters(conf, value, by)
  local list, options = windows_of(conf)
  local identifier, err = given(conf, value, by)
  if not identifier then
    return nil, err
  end
  local titles = {}
  for i, window in ipairs(list) do
    titles[i] = name_of(window.size_s):lower()
  end
  return { {
    name = "",
    store = open(conf),
    identity = prefix_of(conf) .. identifier,
    windows = counter.windows(list, options),
    titles = titles,
  } }
end


return Advanced
