-- `weir vault get`: the secret that a reference names, as workers would find it;
-- `weir vault list`: every reference of the configuration and whether it can be
-- looked up, never its value. Run in a coroutine: vaults are waited for.

local columns = require("weir.cli.columns")
local conf = require("weir.conf")
local config = require("weir.config")
local secret = require("weir.secret")
local vault = require("weir.vault")

local _M = {}

_M.help = [[
Usage: weir vault get REFERENCE
       weir vault list

get   prints the secret that a reference names, such as {vault://env/redis-password},
      or shorter: env/redis-password, and a line break; one that is empty is no error
list  shows each reference in weir.conf and weir.yml, the type of its vault, after how
      many seconds it is looked up again, and whether it can be. The exit status is 1
      if one cannot.

Variables (the vault env) are those of this command's environment, not of the weir that runs.
]]

local function complain(text)
  io.stderr:write("weir: ", tostring(text), "\n")
  return 1
end

-- ---- get

local function full(text)
  return vault.is_reference(text) and text or "{vault://" .. text .. "}"
end

local function get(text)
  -- what is wrong with it does not matter to vaults that are there nevertheless
  local _, problem = config.load()
  local cell, err = vault.cell(full(text))
  if not cell then
    return complain(problem and err:find("^could not find vault") and problem or err)
  end
  local value
  value, err = secret.look_up(cell)
  if not value then
    return complain(err)
  end
  if value == "" then
    complain("this secret is there, and empty")
  end
  io.stdout:write(value, "\n")
  return 0
end

-- ---- list

-- The references in weir.conf: those in lists, too.
local function of_conf()
  local out = {}
  local function add(text)
    for reference in text:gmatch("{vault://[^}]*}") do
      out[#out + 1] = reference
    end
  end
  for _, key in ipairs(conf.keys()) do
    add(key.text)
  end
  for _, setting in ipairs(conf.vault_settings()) do
    add(setting.text)
  end
  return out
end

-- The type of the vault, or the cloud, that gives a secret.
local function type_of(name, entities)
  local ref = vault.parse(name)
  if not ref then
    return (name:match("^{%w+://([^/}]*)") or "-")
  end
  return entities[ref.name] or ref.name
end

local function state_of(cell)
  if cell.looking then
    return "failed: not found in time"
  end
  local why = secret.failure(cell)
  return why and "failed: " .. why or "ok"
end

local function row(name, entities, ttl_s, state)
  return { name, type_of(name, entities), ttl_s and tostring(ttl_s) or "-", state }
end

local function rows_of(state)
  local rows, refused, entities = {}, {}, {}
  for _, entity in ipairs(state and state.config.vaults or {}) do
    entities[entity.prefix] = entity.name
  end
  for _, reference in ipairs(of_conf()) do
    local cell, err = vault.cell(reference)
    if not cell then
      refused[#refused + 1] = row(reference, entities, nil, "failed: " .. err)
    end
  end
  secret.prepare()
  for i, cell in ipairs(secret.cells()) do
    rows[i] = row(cell.name, entities, cell.ttl_s, state_of(cell))
  end
  for _, item in ipairs(refused) do
    rows[#rows + 1] = item
  end
  table.sort(rows, function(a, b)
    return a[1] < b[1]
  end)
  return rows
end

local function list()
  local state, err = config.load()
  local status = state and 0 or complain(err)
  local rows = rows_of(state)
  local is_env
  for _, item in ipairs(rows) do
    status = item[4] ~= "ok" and 1 or status
    is_env = is_env or item[2] == "env" and item[4] ~= "ok"
  end
  if #rows == 0 then
    io.stdout:write("no references\n")
  else
    table.insert(rows, 1, { "REFERENCE", "VAULT", "TTL", "STATE" })
    columns.write(rows, io.stdout)
  end
  if is_env then
    complain("variables are those of this command's environment, not of the weir that runs")
  end
  return status
end

-- args: what follows `vault`. The exit status.
function _M.run(args)
  local verb = args[1]
  if verb == "get" and args[2] and not args[3] then
    return get(args[2])
  elseif verb == "list" and not args[2] then
    return list()
  end
  io.stderr:write(_M.help)
  return 2
end

return _M
