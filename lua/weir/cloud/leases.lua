-- What a cloud lends for a while, such as access tokens and temporary keys: kept
-- by what it depends on until shortly before it ends. Whoever needs the same at
-- the same time shares one look-up. Holds secrets in Lua's memory, in this
-- worker only; keys are digests (weir.crypto), so that none holds a secret.

local now_s = require("weir.cloud.dates").steady_now
local timer = require "weir.timer"
local trace = require "weir.trace"

local huge, max, min = math.huge, math.max, math.min

local EARLY_S = 300  -- before its end, a lease is renewed: as the clouds' own clients do
local EARLY = 0.25   -- but not before that part of its time is left
local RETRY_S = 30   -- until a renewal that failed is tried again while the old one is good
local DOUBT_S = 15   -- what replaced one that was refused is not doubted for so long: else whoever
                     -- is refused for another reason would look up without end
local PAUSE_S = 1      -- between look-ups that give nothing, however many ask
local POLL_S = 0.01

local _M = {}
local leases = {}
leases.__index = leases


function _M.new()
  return setmetatable({ kept = {} }, leases)
end


local function forget_ended(kept, now)
  for key, lease in pairs(kept) do
    if not lease.looking and (lease.value == nil or lease.ends_at <= now) then
      kept[key] = nil
    end
  end
end


-- One that is doubted and cannot be replaced stays for those whom nobody refuses.
local function settle(lease, fresh, ok, value, err, ends_at)
  local now = now_s()
  if ok and value ~= nil then
    lease.value, lease.err, lease.ends_at = value, nil, ends_at or huge
    lease.renew_at = ends_at and ends_at - min(EARLY_S, (ends_at - now) * EARLY) or huge
    lease.fresh_at = fresh and now or nil
    return value
  end
  lease.again_at = now + PAUSE_S
  lease.err = ok and (err or "not found") or tostring(value):match("^[^\n]*")
  lease.refused = ok and ends_at == true or nil
  if lease.value == nil or lease.ends_at <= now then
    lease.value = nil
    return nil, lease.err, lease.refused
  end
  lease.renew_at = max(lease.renew_at, min(now + RETRY_S, lease.ends_at))
  if fresh then
    return nil, lease.err, lease.refused
  end
  return lease.value
end


local function look_up(lease, produce, fresh)
  lease.looking = true
  local ok, value, err, ends_at = xpcall(produce, trace)
  lease.looking = nil
  return settle(lease, fresh, ok, value, err, ends_at)
end


-- What is kept under the key, a digest of what it depends on, or what produce() gives: value, nil,
-- ends_at (by the clock that never steps, nil for never) | nil, err, whether what it shows was
-- refused; it may wait. fresh: what is kept may be wrong.
function leases:get(key, produce, fresh)
  local now = now_s()
  local lease = self.kept[key]
  if not lease then
    forget_ended(self.kept, now)
    lease = {}
    self.kept[key] = lease
  end
  if lease.looking then
    repeat
      timer.sleep(POLL_S)
    until not lease.looking
    if lease.value == nil then
      return nil, lease.err, lease.refused
    end
    return lease.value
  end
  if fresh and lease.fresh_at and now < lease.fresh_at + DOUBT_S then
    fresh = false
  end
  if lease.value ~= nil and not fresh and now < lease.renew_at then
    return lease.value
  end
  if lease.err and now < lease.again_at then
    return nil, lease.err, lease.refused
  end
  return look_up(lease, produce, fresh)
end


return _M
