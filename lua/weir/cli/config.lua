-- `weir config show`: the configuration that would be served, as JSON, or one
-- value of it; and the keys of weir.conf. References to secrets are shown as
-- they were written, and nothing is looked up; what is secret itself is masked.

local config = require("weir.config")
local conf = require("weir.conf")
local json = require("weir.json")
local pretty = require("weir.cli.pretty")
local show = require("weir.schema.show")
local types = require("weir.schema.types")
local vault_settings = require("weir.cli.vault_settings")

local _M = {}

_M.help = [[
Usage: weir config show [PATH]
       weir config show conf

show       prints the services, routes, plugins and vaults that would be served, as JSON.
show PATH  prints one value of that. The path begins with services, routes, plugins or
           vaults; then the name of one (or its instance_name, prefix, id or number), then
           the names of fields: plugins.rate-limiting.config.redis.password
show conf  prints the keys of weir.conf.
]]

local KINDS = { "services", "routes", "plugins", "vaults" }

-- By what entities are named, the most exact one first.
local NAMES = {
  services = { "id", "name" }, routes = { "id", "name" },
  plugins = { "id", "instance_name", "name" }, vaults = { "id", "prefix" },
}

local function complain(text)
  io.stderr:write("weir: ", text, "\n")
  return 1
end

-- ---- what there is

local function node_of(state, kind, entity)
  if kind == "plugins" then
    return state.plugins[entity.name].schema.root
  elseif kind == "vaults" then
    return state.vaults[entity.name].schema.root
  end
  return require("weir.store.declarative").schemas[kind].root
end

-- kind -> array of entities as they are shown, and the schema's node of each.
local function shown(state)
  local out, nodes = {}, {}
  for _, kind in ipairs(KINDS) do
    out[kind] = setmetatable({}, json.array_mt)
    for i, entity in ipairs(state.config[kind] or {}) do
      local node = node_of(state, kind, entity)
      out[kind][i] = show.record(node, entity)
      nodes[out[kind][i]] = node
    end
  end
  return out, nodes
end

-- ---- one value of it

local function split(path)
  local parts = {}
  for part in path:gsub("%[(%d+)%]", ".%1"):gmatch("[^.]+") do
    parts[#parts + 1] = part
  end
  return parts
end

local function join(parts, first, last)
  return table.concat(parts, ".", first, last)
end

local function scope_of(entity, all)
  local words = {}
  for _, field in ipairs({ "route", "service" }) do
    for _, other in ipairs(entity[field] and all[field .. "s"] or {}) do
      if other.id == entity[field].id then
        words[#words + 1] = field .. " " .. (other.name or other.id)
      end
    end
  end
  return #words > 0 and table.concat(words, ", ") or "everywhere"
end

-- The entities of a kind that a name fits by the most exact of its names.
local function named(kind, entities, name)
  for _, field in ipairs(NAMES[kind]) do
    local found = {}
    for i, entity in ipairs(entities) do
      if entity[field] == name then
        found[#found + 1] = i
      end
    end
    if found[1] then
      return found
    end
  end
  return { entities[tonumber(name)] and tonumber(name) }
end

-- Names may have dots: the longest one that fits. The entity and the number of the part behind it.
local function find_entity(kind, all, parts)
  for last = #parts, 2, -1 do
    local name = join(parts, 2, last)
    local found = named(kind, all[kind], name)
    if #found == 1 then
      return all[kind][found[1]], last + 1
    elseif #found > 1 then
      local lines = {}
      for n, i in ipairs(found) do
        lines[n] = ("\n  %s[%d]  %s"):format(kind, i, scope_of(all[kind][i], all))
      end
      return nil, ("%s.%s: there are several:%s"):format(kind, name, table.concat(lines))
    end
  end
  return nil, ("%s: there is no %s"):format(kind, parts[2])
end

local function below(node, name)
  return node and (node.by_name and node.by_name[name] or node.elements or node.values)
end

-- One step down: the value and the number of the part behind it; nil if there is nothing.
local function step(value, parts, i)
  if getmetatable(value) == json.array_mt then
    return value[tonumber(parts[i])], i + 1
  end
  for last = #parts, i, -1 do
    local found = value[join(parts, i, last)]
    if found ~= nil then
      return found, last + 1
    end
  end
end

local function walk(value, node, parts, i)
  while parts[i] do
    local here, name = join(parts, 1, i - 1), parts[i]
    if type(value) ~= "table" then
      return nil, here .. ": there is nothing below this value"
    end
    local found, following = step(value, parts, i)
    if found == nil then
      if node and node.by_name and node.by_name[name] and not parts[i + 1] then
        return json.null
      end
      return nil, ("%s: there is no %s"):format(here, name)
    end
    value, node, i = found, below(node, name), following
  end
  return value
end

local function pick(path, all, nodes)
  local parts = split(path)
  local kind = parts[1]
  if not NAMES[kind] then
    return nil, ("there is no %s: a path begins with %s"):format(path, table.concat(KINDS, ", "))
  elseif not parts[2] then
    return all[kind]
  end
  local entity, i = find_entity(kind, all, parts)
  if not entity then
    return nil, i
  end
  return walk(entity, nodes[entity], parts, i)
end

-- ---- the commands

local function show_declared(path)
  local state, err = config.load()
  if not state then
    return complain(err)
  end
  local value, nodes = shown(state)
  if path then
    value, err = pick(path, value, nodes)
    if value == nil then
      return complain(err)
    end
  end
  io.stdout:write(pretty.encode(value), "\n")
  return 0
end

-- A line that weir.conf would read as the same.
local function print_key(name, text)
  io.stdout:write(name, " = ", (text:gsub("#", "\\#")), "\n")
end

local function show_conf()
  for _, key in ipairs(conf.keys()) do
    print_key(key.name, key.is_secret and show.MASK or key.text)
  end
  for _, setting in ipairs(conf.vault_settings()) do
    local is_open = types.is_reference(setting.text) or setting.text == ""
      or not vault_settings.is_secret(setting.name)
    print_key("vault_" .. setting.name, is_open and setting.text or show.MASK)
  end
  return 0
end

-- args: what follows `config`. The exit status.
function _M.run(args)
  if args[1] == "show" and not args[3] then
    if args[2] == "conf" then
      return show_conf()
    end
    return show_declared(args[2])
  elseif args[1] == "--help" or args[1] == "-h" then
    io.stdout:write(_M.help)
    return 0
  end
  io.stderr:write(_M.help)
  return 2
end

return _M
