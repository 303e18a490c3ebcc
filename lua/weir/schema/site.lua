-- What schemas need to know of weir.conf: whether it names a database and a
-- Redis, because that decides what a plugin may leave out or may not ask for.
-- Tools that read schemas outside of the weir program get the defaults.

local _M = {}

local function conf()
  local ok, found = pcall(require, "weir.conf")
  return ok and found or nil
end

-- The stores that counters can be in: "local", "cluster" (unless database = off), "redis".
function _M.strategies()
  local keys = conf()
  if keys and keys.get("database") == "off" then
    return { "local", "redis" }
  end
  return { "local", "cluster", "redis" }
end

-- True when weir.conf says where Redis is.
function _M.names_redis()
  local keys = conf()
  return keys ~= nil and (keys.get("redis_host") ~= "" or keys.get("redis_sentinel_master") ~= ""
    or #keys.list("redis_cluster_addresses") > 0)
end

return _M
