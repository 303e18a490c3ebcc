-- The keeper of this process's secrets: knows for each name how its value is
-- looked up, and when that is due again. Values lie in C (base/secret.h) and are
-- copied out at each use; nothing here holds one. Looking up runs in coroutines
-- of its own, so that no request waits for it, and none can cut it off. What a
-- worker has found its siblings take (shm/keepsake.h) instead of asking, too.
-- Times are those of the clock that never steps.

local crypto = require "weir.crypto"
local garbage = require "weir.garbage"
local log = require "weir.log"
local timer = require "weir.timer"
local trace = require "weir.trace"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C, sv, str = weir.C, weir.sv, weir.str
local found = weir.ffi.new("double[2]")

local PREPARE_S = 5     -- a worker waits that long for values before it serves without them
local NEG_TTL_S = 5     -- until a look-up that failed is tried again
local SOONEST_S = 0.1   -- until the next look-up, however short a ttl is
local ASKED_S = 1       -- between look-ups that somebody asked for, twice as long each time,
local ASKED_MAX_S = 10  -- up to this, as long as they find nothing new
local EARLY, SPREAD = 0.75, 0.15 -- the part of a ttl after which the next look-up is due


local _M = {}

-- in the order that they were made; by C's number; by name
local ordered, numbered, named = {}, {}, {}


local function now_s()
  return C.weir_mono_us() / 1e6
end


-- What the log and others are told of a look-up that raised an error.
local function first_line(text)
  return tostring(text):match("^[^\n]*")
end


local function bounded_ttl(options, ttl_s)
  if type(ttl_s) ~= "number" or ttl_s < 0 then
    ttl_s = nil
  end
  if options.ttl and options.ttl > 0 and (not ttl_s or options.ttl < ttl_s) then
    ttl_s = options.ttl
  end
  if ttl_s and options.max_ttl and ttl_s > options.max_ttl then
    ttl_s = options.max_ttl
  end
  if ttl_s and options.min_ttl and ttl_s < options.min_ttl then
    ttl_s = options.min_ttl
  end
  return ttl_s and ttl_s > 0 and ttl_s or nil
end


local function has_value(cell)
  return C.weir_secret_get(cell.id, sv) == 0
end


local on_wake


-- cell.wakes has the times of its timers, the next one last. One that comes too early waits for the
-- rest: values that change all the time need no others.
local function wake(cell, at)
  local wakes = cell.wakes
  local n = #wakes
  if at and not (n > 0 and wakes[n] <= at) then
    wakes[n + 1] = at
    timer.start(at - now_s(), on_wake, cell)
  end
end


-- There is one due look-up at most.
local function look_again(cell, delay_s)
  cell.due_at = delay_s and now_s() + delay_s
  wake(cell, cell.due_at)
end


-- C has a value, found at that time.
local function set(cell, good_at, ttl_s, is_changed)
  cell.good_at, cell.ttl_s = good_at, ttl_s
  if is_changed then
    log.info(cell.name, ": it has another value")
    garbage.collect_soon()
    cell.asked_gap_s = nil
    local told = cell.on_change or {}
    cell.on_change = nil
    for _, fn in ipairs(told) do
      fn()
    end
  end
end


local function succeed(cell)
  if cell.failure then
    log.notice(cell.name, ": found")
    cell.failure = nil
  end
  -- not all of a fleet at the same moment, nor a value that is used to its last second
  local due_at = cell.ttl_s and cell.good_at + cell.ttl_s * (EARLY + SPREAD * math.random())
  look_again(cell, due_at and math.max(SOONEST_S, due_at - now_s()))
end


-- Whether there is a newer value of another worker's, which is this one's from now on.
local function take(cell, kind)
  local changed = C.weir_secret_take(cell.id, cell.good_at or 0, kind, found)
  if changed >= 0 then
    set(cell, found[0], found[1] > 0 and found[1] or nil, changed == 1)
  end
  return changed >= 0
end


-- As take, in place of a look-up. A value that was refused is not to come again.
local function take_from_sibling(cell)
  local is_taken = take(cell, cell.asked and C.WEIR_OTHER_OF_SIBLINGS or C.WEIR_OF_SIBLINGS)
  if is_taken then
    if cell.asked then
      cell.fresh, cell.asked = nil, nil
    end
    succeed(cell)
  end
  return is_taken
end


-- A worker that comes to know nothing goes on with what another one knew.
local function recall(cell)
  return not has_value(cell) and take(cell, C.WEIR_OF_ANYBODY)
end


local function fail(cell, why)
  recall(cell)
  local resurrect_s = cell.options.resurrect_ttl
  local drop = cell.good_at and cell.ttl_s and resurrect_s
    and now_s() > cell.good_at + cell.ttl_s + resurrect_s
  local state = has_value(cell) and (drop and "it is not used any longer" or "the last value stays")
    or "it has no value"

  C.weir_secret_fail(cell.id, why, #why, drop and 1 or 0)
  if cell.failure ~= state then -- once for each change of state
    cell.failure = state
    log.err(cell.name, ": ", why, "; ", state)
  end
  local neg_ttl_s = cell.options.neg_ttl
  look_again(cell, neg_ttl_s and neg_ttl_s > 0 and math.max(SOONEST_S, neg_ttl_s) or NEG_TTL_S)
end


local function settle(cell, ok, value, err, ttl_s)
  if not ok then
    return fail(cell, "the look-up failed: " .. first_line(value))
  end
  if value == nil then
    return fail(cell, err and first_line(err) or "not found")
  end
  if type(value) ~= "string" then
    return fail(cell, "it is a " .. type(value) .. ", not a string")
  end
  if value == "" and C.weir_secret_get(cell.id, sv) == 0 and sv[0].n > 0 then
    return fail(cell, "it is empty now")
  end
  ttl_s = bounded_ttl(cell.options, ttl_s)
  local changed = C.weir_secret_put(cell.id, value, #value, ttl_s or 0)
  if changed < 0 then
    return fail(cell, "it is longer than 1 MiB")
  end
  set(cell, now_s(), ttl_s, changed == 1)
  succeed(cell)
end


local begin


local function start_watching(cell)
  local watch = cell.options.watch
  if watch and not cell.watching then
    cell.watching = true
    timer.start(0, watch, function()
      begin(cell)
    end)
  end
end


local function run(cell)
  cell.again = nil
  wait.ctx.secret = cell.name -- for whoever asks what a worker stands still at
  local ok, value, err, ttl_s = xpcall(cell.produce, trace, cell.fresh)
  cell.looking, cell.fresh = nil, nil
  settle(cell, ok, value, err, ttl_s)
  start_watching(cell)
  if cell.again then
    begin(cell)
  end
end


-- Starts a look-up; one that is asked for while another runs follows it.
function begin(cell)
  if cell.looking then
    cell.again = true
    return
  end
  cell.looking, cell.due_at = true, nil
  if cell.asked then
    local gap_s = cell.asked_gap_s
    cell.asked, cell.asked_at = nil, now_s()
    cell.asked_gap_s = gap_s and math.min(ASKED_MAX_S, gap_s * 2) or ASKED_S
  end
  timer.start(0, run, cell)
end


-- The members of a secret change together.
local function on_due(cell)
  for other in pairs(cell.kin or {}) do
    if other ~= cell then
      take_from_sibling(other)
    end
  end
  if not take_from_sibling(cell) then
    begin(cell)
  end
end


function on_wake(cell)
  local at = table.remove(cell.wakes)
  if cell.due_at and cell.due_at > at then
    wake(cell, cell.due_at)
  elseif cell.due_at then
    cell.due_at = nil
    on_due(cell)
  end
end


-- The cell of a name, {vault://...} or {cloud://...}; one for each name. produce(fresh) gives
-- value | nil, err, ttl_s; it may wait; err holds no secret. fresh: what it keeps itself may be
-- wrong. options: ttl, neg_ttl, resurrect_ttl, min_ttl, max_ttl in seconds;
-- watch(changed), run once, which may wait and calls changed() when the value may be another;
-- origin, a text of all that decides what the name leads to: workers leave values to each other
-- under the same name and origin. cell.kin, to be set: those that change with it, as keys.
function _M.keep(name, produce, options)
  local cell = named[name]
  if cell then
    return cell
  end
  local id = C.weir_secret_open(name, #name)
  if id < 0 then
    error("more than 4096 secrets are referred to", 0) -- SECRETS_MAX of ffi_secret.c
  end
  cell = { id = id, name = name, produce = produce, options = options or {}, wakes = {} }
  C.weir_secret_share(id, crypto.digest(name, cell.options.origin))
  numbered[id], named[name] = cell, cell
  ordered[#ordered + 1] = cell
  if _M.is_prepared then
    begin(cell)
  end
  return cell
end


-- The cell that keep has made for a name, or nil.
function _M.find(name)
  return named[name]
end


-- Why the last look-up failed; nil if it did not.
function _M.failure(cell)
  if cell.failure then
    C.weir_secret_why(cell.id, sv)
    return str(sv[0])
  end
end


-- fn() is called once, when the cell gets another value. It must not wait.
function _M.on_change(cell, fn)
  cell.on_change = cell.on_change or {}
  table.insert(cell.on_change, fn)
end


-- The value now | nil, why there is none. Never waits.
function _M.value(cell)
  local code = C.weir_secret_get(cell.id, sv)
  local text = str(sv[0])
  if code ~= 0 then
    return nil, text
  end
  return text
end


-- Looks a cell up, or waits for the look-up that runs: the value | nil, err.
-- err also where an older value stays.
function _M.look_up(cell)
  if not cell.looking then
    cell.fresh = true
    begin(cell)
  end
  while cell.looking do
    C.weir_secret_wait(cell.id)
    wait()
  end
  if cell.failure then
    return nil, _M.failure(cell)
  end
  return _M.value(cell)
end


-- Sees to it that cells have values, because another look-up needs them: true | nil, err. Waits.
-- fresh: looks them up anyway.
function _M.need(needed, fresh)
  for _, cell in ipairs(needed) do
    if fresh or not has_value(cell) then
      local _, err = _M.look_up(cell)
      if not has_value(cell) then
        return nil, cell.name .. ": " .. err
      end
    end
  end
  return true
end


-- For a worker's start: looks up all that is kept, at once, and waits for it, but not for ever.
function _M.prepare()
  local deadline = now_s() + PREPARE_S
  _M.is_prepared = true
  for _, cell in ipairs(ordered) do
    begin(cell)
  end
  for _, cell in ipairs(ordered) do
    while cell.looking and now_s() < deadline do
      timer.sleep(0.01)
    end
  end
  for _, cell in ipairs(ordered) do
    if cell.looking then
      recall(cell)
      log.warn(cell.name, ": not found within ", PREPARE_S, " s; ", has_value(cell)
        and "the last value stays" or "requests are served without it")
    end
  end
end


-- What another look-up has found out about a cell: value | nil, err, ttl_s, as produce gives it.
-- Its own one, if it runs, will say the same.
function _M.offer(cell, value, err, ttl_s)
  settle(cell, true, value, err, ttl_s)
end


-- Somebody refuses the value.
local function doubt(cell)
  if cell.looking then
    return
  end
  local now = now_s()
  local at = math.max(now, (cell.asked_at or 0) + (cell.asked_gap_s or 0))
  cell.fresh, cell.asked = true, true
  -- one that comes by then will do: who asks again and again must not put it off
  if not (cell.due_at and cell.due_at <= at) then
    look_again(cell, at - now)
  end
end


-- Passes on what a look-up that needed others gave: value | nil, err, and true where these were
-- refused. Then they are looked up anew, unless that was done for it (fresh).
function _M.judge(needed, fresh, value, err, more)
  if value == nil and more == true and not fresh then
    for _, cell in ipairs(needed) do
      doubt(cell)
    end
  end
  return value, err, more
end


-- For C: somebody refuses the value of that number.
function _M.on_ask(id)
  local cell = numbered[id]
  if not cell then
    local why = "nothing of this configuration looks it up"
    C.weir_secret_fail(id, why, #why, 0)
  else
    doubt(cell)
  end
end


-- All cells, in the order that they were made. Read only.
function _M.cells()
  return ordered
end


return _M
