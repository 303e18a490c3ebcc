-- The ids of declared entities that bring none: derived (UUID version 5) from
-- what stays when the file is edited elsewhere, so that an entity keeps its id,
-- and with it its counters, from one load to the next.

local messages = require("weir.schema.messages")
local uuid = require("weir.uuid")

-- Kong's namespace; the names of kinds are names inside of it.
local NAMESPACE = "fd02801f-0957-4a15-a55a-c8d9606f30b5"

local namespaces = {}
for _, kind in ipairs({ "vaults", "services", "routes", "plugins" }) do
  namespaces[kind] = uuid.v5(NAMESPACE, kind)
end

local _M = {}

-- A text that is the same for equal values.
function _M.canonical(value)
  if type(value) ~= "table" then
    return type(value) .. ":" .. messages.show(value)
  end
  local keys, out = {}, {}
  for key in pairs(value) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    return tostring(a) < tostring(b)
  end)
  for i, key in ipairs(keys) do
    out[i] = tostring(key) .. "=" .. _M.canonical(value[key])
  end
  return "{" .. table.concat(out, ";") .. "}"
end

local function id_of(parent)
  return parent and parent.id or ""
end

-- The name (of a vault: its prefix), or, where there is none, what the entity holds.
local function natural_key(record)
  local value, refs = record.value, record.refs
  if record.kind == "plugins" then
    local instance = type(value.instance_name) == "string" and value.instance_name or ""
    return table.concat({ tostring(value.name), id_of(refs.services), id_of(refs.routes),
      instance }, ":")
  end
  local name = value[record.kind == "vaults" and "prefix" or "name"]
  if type(name) == "string" then
    return name
  end
  return id_of(refs.services) .. _M.canonical(value)
end

-- The id of a record {kind, value, refs}. Equal nameless entities are told apart by `taken`.
function _M.of(record, taken)
  local namespace, key = namespaces[record.kind], natural_key(record)
  local id = uuid.v5(namespace, key)
  local n = 1
  while not record.value.name and taken[id] do
    n = n + 1
    id = uuid.v5(namespace, key .. "#" .. n)
  end
  return id
end

return _M
