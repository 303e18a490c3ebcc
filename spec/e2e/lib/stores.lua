-- The stores that counters may lie in, each by a name: the servers are started,
-- and what weir.conf and a plugin's config must say of them is told.
local env = require "lib.env"
local postgres = require "lib.postgres"
local redis = require "lib.redis"

local _M = {}

_M.names = { "redis", "redis by a unix socket", "redis by TLS", "redis with Sentinels",
             "redis Cluster", "postgres", "sqlite" }

local function addresses(list)
  local out = {}
  for i, address in ipairs(list) do
    out[i] = '"' .. address .. '"'
  end
  return "[ " .. table.concat(out, ", ") .. " ]"
end

local start = {}

start["redis"] = function(e, opts)
  local server = redis.start(e, opts)
  return { server = server, servers = server, policy = "redis",
           redis = ("host: 127.0.0.1, port: %d"):format(server.port) ..
                   (server.password and ", password: " .. server.password or "") }
end

start["redis by a unix socket"] = function(e, opts)
  local server = redis.start(e, opts)
  return { server = server, servers = server, policy = "redis",
           redis = ('host: "unix:%s"'):format(server.socket) }
end

start["redis by TLS"] = function(e)
  local server = redis.start(e, { tls = true })
  return { server = server, servers = server, policy = "redis",
           conf = { lua_ssl_trusted_certificate = redis.certificates(e) .. "/ca.crt" },
           redis = ("host: 127.0.0.1, port: %d, ssl: true, ssl_verify: true, "
                    .. "server_name: redis.spec"):format(server.port) }
end

start["redis with Sentinels"] = function(e)
  local group = redis.start_sentinels(e, { password = "master-secret" })
  return { group = group, policy = "redis",
           redis = ("sentinel_master: mymaster, sentinel_role: master, sentinel_addresses: %s, "
                    .. "password: master-secret"):format(addresses(group.addresses)) }
end

start["redis Cluster"] = function(e)
  local group = redis.start_cluster(e)
  return { group = group, servers = group, policy = "redis",
           redis = "cluster_addresses: " .. addresses(group.addresses) }
end

start["postgres"] = function(e)
  local server = postgres.start(e)
  return { server = server, policy = "cluster", needs_tables = true,
           conf = { database = "postgres", pg_host = "127.0.0.1", pg_port = server.port,
                    pg_user = server.user, pg_password = server.password,
                    pg_database = server.database, pg_timeout = 3000 } }
end

start["sqlite"] = function(e)
  return { policy = "cluster", needs_tables = true,
           conf = { database = "sqlite", sqlite_file = e:path("run/weir.db") } }
end

-- Starts a store. policy is what a plugin's config says (strategy of rate-limiting-advanced);
-- redis, if it is one, is the inside of config.redis; conf, keys of weir.conf; servers, who tells
-- the calls (see redis.lua); server or group, who can be disturbed.
function _M.start(e, name, opts)
  local store = start[name](e, opts)
  store.name, store.conf = name, store.conf or {}
  return store
end

-- Makes the tables by the configuration of one weir.
function _M.migrate(store, weir)
  if store.needs_tables then
    local text, code = weir:command("migrations", { args = { "up" } })
    assert(code == 0, text)
  end
end

-- The fields of a plugin's config that name the store. more: of config.redis ("timeout: 300").
function _M.fields(store, word, more)
  local fields = (word or "policy") .. ": " .. store.policy
  if store.redis then
    fields = fields .. (", redis: { %s%s }"):format(store.redis, more and ", " .. more or "")
  end
  return fields
end

-- A weir.yml with one service and a route for each of list: { path, plugin, config in YAML }.
-- The route's path is cut off for the service. more is YAML behind it all.
function _M.yml(url, list, more)
  local out = { '_format_version: "3.0"\nservices:\n  - name: service\n    url: ' .. url ..
                "\n    routes:" }
  for i, route in ipairs(list) do
    out[#out + 1] = ("      - name: route-%d\n        paths: [ %s ]"):format(i, route[1])
    if route[2] then
      out[#out + 1] = ("        plugins:\n          - name: %s\n            config: { %s }")
                      :format(route[2], route[3])
    end
  end
  return table.concat(out, "\n") .. "\n" .. (more or "")
end

-- Waits if the hour is about to end, so that what is counted is counted in one.
function _M.stay_in_hour(seconds)
  env.stay_clear(3600, seconds or 40)
end

return _M
