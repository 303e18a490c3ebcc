-- What the limiting plugins share beside identifiers (weir.limiting.identifier)
-- and headers (weir.limiting.headers): the store of a config, what is prepared
-- for a config, the answer when the store fails, dry runs.
--
-- For operators each of their handlers has a function
--   handler.counters(conf, identifier, by) -> array | nil, err
-- conf is as the plan makes it (it holds the scope's ids). identifier is the value that
-- requests are counted by; by names its kind, nil: that which conf counts by. It
-- gives { name =, store =, identity =, windows =, titles = } for each of its sets of
-- windows, made for weir.counter: name tells sets apart ("" where there is one), titles[i]
-- names window i - 1. A new array for each call: its windows belong to the caller.

local counter = require "weir.counter"
local identifier = require "weir.limiting.identifier"
local log = require "weir.log"
local response = require "weir.pdk.response"
local wait = require "weir.wait"

local C = require("weir.ffi").C

local ABORTED = tonumber(C.WEIR_REQ_ABORTED)

local NO_ID = "00000000-0000-0000-0000-000000000000"

local UNEXPECTED = { message = "An unexpected error occurred" }


local _M = {}


-- From the smallest window to the largest; no length where it changes.
_M.PERIODS = {
  { name = "second", title = "Second", size_s = 1 },
  { name = "minute", title = "Minute", size_s = 60 },
  { name = "hour", title = "Hour", size_s = 3600 },
  { name = "day", title = "Day", size_s = 86400 },
  { name = "month", title = "Month" },
  { name = "year", title = "Year" },
}


-- A table from configs to what was prepared for them; a config that is dropped goes with
-- it. What is prepared must not hold its config, or it would stay for ever.
function _M.cache()
  return setmetatable({}, { __mode = "k" })
end


-- What keys of a plugin begin with: its name for it and the scope that it is configured for.
function _M.prefix(word, conf)
  return word .. ":" .. (conf.route_id or NO_ID) .. ":" .. (conf.service_id or NO_ID) .. ":"
end


-- The store of a config: strategy is local, cluster or redis, sync_rate in seconds (nil or
-- less than 0: each question goes to the store). An error where there is no such store. forget() is
-- called when it is to be opened anew, because a vault has given another address.
function _M.open(strategy, redis, sync_rate, forget)
  if strategy == "local" then
    redis, sync_rate = nil, nil
  elseif sync_rate and sync_rate < 0 then
    sync_rate = nil
  end
  return assert(counter.open(strategy, redis, sync_rate, forget))
end


-- True when the client of the request has left, which ends what the request waits for.
local function is_gone()
  return C.weir_req_number(wait.ctx.req, ABORTED) ~= 0
end
_M.is_gone = is_gone


-- Ends a request whose client has left: the service is not to be asked for it. To be called last.
local function leave()
  return response.exit(499)
end
_M.leave = leave


-- The store does not answer: the request passes or, if the config tolerates no faults,
-- is answered. To be called last. The store's side has logged why.
function _M.fail(conf)
  if is_gone() then
    return leave()
  end
  if conf.fault_tolerant == false then
    return response.exit(500, UNEXPECTED)
  end
end


-- Says that a request passed because of dry_run. by_what: its identifier.
function _M.log_dry_run(by_what, detail)
  local ctx = wait.ctx
  local route = ctx.route
  log.notice("[", ctx.plugin, "] would have been denied: route ",
             route and (route.name or route.id) or "none", ", ", identifier.shown(by_what),
             detail or "")
end


return _M
