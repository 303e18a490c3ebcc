-- The tokens by which HashiCorp Vault is asked: one for each set of inputs of a
-- login, got when it is needed first, renewed before it ends, and replaced when it
-- has ended or is refused. They are in this process's memory and nowhere else. Times
-- are those of the clock that never steps.

local C = require("weir.ffi").C
local api = require "kong.vaults.hcv.api"
local log = require "weir.log"
local logins = require "kong.vaults.hcv.logins"
local timer = require "weir.timer"
local trace = require "weir.trace"

local huge, max, min = math.huge, math.max, math.min

local RENEW = 2 / 3        -- the part of its time after which a token is renewed
local RETRY_MAX_S = 30     -- until a renewal that failed is tried again, at most
local EARLY, EARLY_MAX_S = 0.1, 10 -- a token that ends so soon is not used for anything new
local DOUBT_S = 2          -- a token this young is not replaced because it is refused
local REFUSED_MAX_S = 60   -- until a login that was refused is tried again, at most
local FAILED_S = 1         -- until a login that failed in another way is
local LOOK_S = 1           -- until a token of the config is looked at
local LONGEST_S = 1e8
local POLL_S = 0.01

local _M = {}


local function now_s()
  return C.weir_mono_us() / 1e6
end


local entries = {}                               -- digest of the inputs -> token
local used = setmetatable({}, { __mode = "k" })  -- config -> the one that it used last


local tend


local function tend_later(entry, delay_s)
  entry.turn = entry.turn + 1
  if delay_s then
    timer.start(delay_s, tend, entry, entry.turn)
  end
end


-- A config whose inputs have changed needs its former token no longer; nor may anybody else.
local function leave(entry, conf)
  entry.users[conf] = nil
  if not next(entry.users) then
    entries[entry.key] = nil
    tend_later(entry)
  end
end


local function entry_of(conf)
  local key = logins.key(conf)
  local entry, before = entries[key], used[conf]
  if not entry then
    entry = { key = key, users = setmetatable({}, { __mode = "k" }), turn = 0, memory = {},
              where = conf.host .. ":" .. conf.port, refusals = 0 }
    entries[key] = entry
  end
  used[conf], entry.users[conf] = entry, true
  if before and before ~= entry then
    leave(before, conf)
  end
  return entry
end


-- The entry's token is that of auth, from now on.
local function take(entry, auth)
  local now = now_s()
  local lease_s = min(auth.lease_s, LONGEST_S)
  entry.token = auth.text
  entry.ends_at = lease_s > 0 and now + lease_s or huge
  entry.use_until = entry.ends_at - min(EARLY_MAX_S, lease_s * EARLY)
  tend_later(entry, lease_s > 0 and auth.renewable and lease_s * RENEW or nil)
end


local function say(entry, what, why)
  log.warn("hcv: the token for ", entry.where, " ", what, why and ": " .. why or "")
end


-- ---- tokens that stand in a config

-- How long it is good for. That it may not ask is no error: then it is not renewed.
local function look_at(entry, conf)
  local body, _, status = api.call(conf, { path = "auth/token/lookup-self", token = entry.token })
  if not body then
    return tend_later(entry, (not status or status >= 429) and RETRY_MAX_S or nil)
  end
  entry.looked = true
  local data = type(body.data) == "table" and body.data or {}
  local ttl_s = tonumber(data.ttl) or 0
  if ttl_s > 0 then
    take(entry, { text = entry.token, lease_s = ttl_s, renewable = data.renewable == true })
    if data.renewable ~= true then
      log.notice("hcv: the token for ", entry.where, " ends in ", ttl_s,
        " s, and cannot be renewed")
    end
  end
end


-- ---- renewal

local function renewal_failed(entry, err, status)
  if status == 403 or status == 400 or status == 404 then
    if entry.is_static then
      say(entry, "is not renewed", err)
    elseif status == 403 then
      entry.token = nil -- it is gone: who needs one logs in
    end
    return tend_later(entry)
  end
  local left_s = entry.ends_at - now_s()
  if left_s > 0 then
    return tend_later(entry, max(0.1, min(RETRY_MAX_S, left_s / 4)))
  end
  if entry.is_static then
    say(entry, "has ended", err)
  end
end


-- Renews it; what has been renewed up to its very end is let go.
local function renew(entry, conf)
  local token, ended_at = entry.token, entry.ends_at
  local body, err, status = api.call(conf, {
    method = "POST", path = "auth/token/renew-self", token = token,
  })
  if entry.token ~= token then
    return
  end
  local auth = body and logins.auth_of(body)
  if not auth then
    return renewal_failed(entry, err or "HashiCorp Vault answers without a token", status)
  end
  local is_longer = auth.lease_s == 0
    or now_s() + auth.lease_s > ended_at + auth.lease_s * EARLY
  auth.renewable = auth.renewable and is_longer
  take(entry, auth)
  if entry.is_static and not auth.renewable and auth.lease_s > 0 then
    say(entry, "ends in " .. auth.lease_s .. " s, and cannot be renewed beyond that")
  end
end


function tend(entry, turn)
  local conf = next(entry.users)
  if entry.turn ~= turn or not conf then
    return
  end
  if entry.is_static and not entry.looked then
    look_at(entry, conf)
  elseif entry.token then
    renew(entry, conf)
  end
end


-- ---- getting

-- A login that failed is not tried at once again, for whichever secret: some servers lock out who
-- is refused and does that.
local function log_in(entry, conf)
  entry.looking = true
  local ok, auth, err, status = xpcall(logins.log_in, trace, conf, entry.memory)
  entry.looking = nil
  if ok and auth then
    entry.err, entry.again_at, entry.refusals = nil, nil, 0
    entry.born_at = now_s()
    take(entry, auth)
    return entry.token
  end
  entry.token = nil
  entry.err = ok and err or tostring(auth):match("^[^\n]*")
  local pause_s = FAILED_S
  entry.refused = status == 400 or status == 403 or nil
  if entry.refused then
    pause_s = min(REFUSED_MAX_S, 2 ^ entry.refusals)
    entry.refusals = min(entry.refusals + 1, 10)
  end
  entry.again_at = now_s() + pause_s
  return nil, entry.err, entry.refused
end


local function wait_for(entry)
  while entry.looking do
    timer.sleep(POLL_S)
  end
end


local function get_by_login(entry, conf)
  if entry.looking then
    wait_for(entry)
    if not entry.token then
      return nil, entry.err, entry.refused
    end
  end
  local now = now_s()
  if entry.token and now < entry.use_until then
    return entry.token
  end
  if entry.again_at and now < entry.again_at then
    return nil, entry.err, entry.refused
  end
  return log_in(entry, conf)
end


-- The token for a config | nil, err, whether the login was refused. It may wait.
function _M.get(conf)
  local entry = entry_of(conf)
  if conf.auth_method ~= "token" then
    return get_by_login(entry, conf)
  end
  if not entry.token then
    entry.is_static = true
    entry.token, entry.ends_at = conf.token:match("^%s*(.-)%s*$"), huge
    tend_later(entry, LOOK_S)
  end
  return entry.token
end


-- Whether the server no longer knows a token that it has refused something to. Where it does not
-- let it ask that, it is taken for gone; where it does not answer, or has no time, it is not.
local function is_gone(conf, token)
  local _, _, status = api.call(conf, { path = "auth/token/lookup-self", token = token })
  return status == 403
end


-- Another token in the place of one that was refused with 403: token | nil, why there is none,
-- unless it was refused rightly, and whether what the config shows was refused. It may wait.
function _M.replace(conf, token)
  local entry = entry_of(conf)
  if conf.auth_method == "token" then
    return nil, nil, is_gone(conf, token) or nil
  end
  wait_for(entry)
  if entry.token == token then
    if now_s() < entry.born_at + DOUBT_S or not is_gone(conf, token) then
      return nil
    end
    wait_for(entry)
    if entry.token == token then
      entry.token = nil
      tend_later(entry)
    end
  end
  return get_by_login(entry, conf)
end


return _M
