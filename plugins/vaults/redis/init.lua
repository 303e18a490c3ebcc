-- The vault redis: secrets in a Redis that the site already has, as the fields of
-- a hash, or as keys of their own.

local ask = require "weir.ask"

local _M = { VERSION = "1.0.0" }


-- The keys of weir.conf that a look-up logs in with.
function _M.uses(conf)
  local redis, refs = conf.redis, conf.redis["$refs"] or {}
  if not (refs.host or redis.host or redis.sentinel_master or redis.cluster_nodes) then
    return { "redis_password", "redis_sentinel_password" }
  end
end


function _M.get(conf, resource, version)
  if version then
    return nil, "Redis keeps no versions of a value"
  end
  local value, err
  if conf.hash then
    value, err = ask.redis(conf.redis, "HGET", conf.hash, resource)
  else
    value, err = ask.redis(conf.redis, "GET", (conf.prefix or "") .. resource)
  end
  if value == nil then
    return nil, "Redis: " .. err
  elseif value == false then
    return nil, conf.hash and ("the hash %s has no field %s"):format(conf.hash, resource)
      or ("Redis has no key %s%s"):format(conf.prefix or "", resource)
  end
  return value
end


return _M
