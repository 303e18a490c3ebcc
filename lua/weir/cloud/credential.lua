-- Passwords of Redis that a cloud hands out for a while (config.redis.
-- cloud_authentication): each is a secret, {cloud://provider/digest}, that the
-- module of its provider makes anew before it ends. Owns nothing but the names.

local crypto = require "weir.crypto"
local secret = require "weir.secret"

local ipairs, pairs, tostring = ipairs, pairs, tostring

local _M = {}


-- The fields that are written, by name; references as their texts.
local function add_written(out, prefix, record)
  for name, value in pairs(record) do
    if type(value) ~= "table" then
      out[#out + 1] = prefix .. name .. "=" .. tostring(value)
    end
  end
  for name, ref in pairs(record["$refs"] or {}) do
    out[#out + 1] = prefix .. name .. "=" .. tostring(ref)
  end
end


-- The name says nothing of the fields: it stands in logs.
local function name_from(cloud, redis)
  local parts = {}
  add_written(parts, "cloud.", cloud)
  add_written(parts, "redis.", redis)
  table.sort(parts)
  local digest = crypto.hex(crypto.sha256(table.concat(parts, "\0")))
  return ("{cloud://%s/%s}"):format(cloud.auth_provider, digest:sub(1, 16))
end


local function needed_by(cloud, redis)
  local cells = {}
  for _, record in ipairs({ cloud, redis }) do
    for _, ref in pairs(record["$refs"] or {}) do
      cells[#cells + 1] = secret.find(ref)
    end
  end
  return cells
end


-- The name of the secret that is the password of a Redis, which has cloud_authentication; from
-- then on it is kept. redis: a record as a handler gets it.
function _M.name_of(redis)
  local cloud = redis.cloud_authentication
  local name = name_from(cloud, redis)
  local needed = needed_by(cloud, redis)
  local provider = require("weir.cloud." .. cloud.auth_provider)
  secret.keep(name, function(fresh)
    local ok, err = secret.need(needed, fresh)
    if not ok then
      return nil, err
    end
    return secret.judge(needed, fresh, provider.redis_password(cloud, redis, fresh))
  end)
  return name
end


return _M
