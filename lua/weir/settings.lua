-- Where a store is, as C takes it (store/settings.h): "name=value" texts, each
-- with a NUL behind it. A secret is given by the name that C knows it by, not by
-- its value, so that a new one needs no other settings.

local credential = require "weir.cloud.credential"

local concat, sort = table.concat, table.sort
local ipairs, pairs, tostring, type = ipairs, pairs, tostring, type

local _M = {}


-- The fields that C takes by name.
_M.secrets = { username = true, password = true, sentinel_username = true,
               sentinel_password = true }


-- Nodes become "host:port,host:port".
local function text_of(value)
  if type(value) ~= "table" then
    return tostring(value)
  end
  local nodes = {}
  for i, node in ipairs(value) do
    nodes[i] = type(node) == "table"
               and (node.host or node.ip) .. ":" .. (node.port or 6379) or tostring(node)
  end
  return concat(nodes, ",")
end


local function texts_of(values)
  local out = {}
  for name, value in pairs(values) do
    if type(value) ~= "userdata" and type(value) ~= "cdata" then -- a null
      out[#out + 1] = name .. "=" .. text_of(value) .. "\0"
    end
  end
  sort(out)
  return concat(out)
end


-- A copy of a record as handlers get it: references where C takes names, else their values.
-- An error where a value is needed that no vault has given yet.
local function copy_of(record)
  local values = {}
  for name, value in pairs(record or {}) do
    values[name] = value
  end
  for name, ref in pairs(values["$refs"] or {}) do
    values[name] = _M.secrets[name] and ref or record[name]
  end
  values["$refs"] = nil
  return values
end


-- Of a record as the schema redis has it, or nil. cloud_authentication is a password that makes
-- itself anew.
function _M.of_redis(redis)
  local values = copy_of(redis)
  if values.cloud_authentication then
    values.password = credential.name_of(redis)
    values.cloud_authentication = nil
  end
  return texts_of(values)
end


-- Of a record with fields named as weir.conf's pg_*; others are not looked at.
function _M.of_pg(pg)
  return texts_of(copy_of(pg))
end


return _M
