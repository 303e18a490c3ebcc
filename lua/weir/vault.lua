-- The vaults of this process, and how a reference is looked up in one: its type's
-- plugin gives the secret, weir.vault.source the JSON member that the reference
-- names. Types come from the loader and are configured by weir.conf's
-- vault_<type>_<field>; entities, known by their prefix, from weir.yml.

local conf = require "weir.conf"
local copy = require("weir.schema.defaults").copy
local json = require "weir.json"
local query = require "weir.pdk.query"
local reference = require "weir.vault.reference"
local references = require "weir.references"
local secret = require "weir.secret"
local source = require "weir.vault.source"
local timer = require "weir.timer"

local POLL_S = 0.01

local null = json.null

local _M = { is_reference = reference.is, parse = reference.parse }

-- the secrets that are referred to (weir.vault.source), by what leads to them
local sources = {}

-- name or prefix -> { name =, type =, values = the config as it is written }
local vaults = {}

-- the references whose vaults' configs are being bound: one that comes up again needs itself
local binding = {}


-- ---- what vaults there are

local function convert(node, text)
  if node.type == "number" or node.type == "integer" then
    return tonumber(text) or text
  elseif node.type == "boolean" then
    local truth = { on = true, ["true"] = true, off = false, ["false"] = false }
    if truth[text] ~= nil then
      return truth[text]
    end
  elseif node.type == "array" or node.type == "set" then
    local items = {}
    for item in tostring(text):gmatch("[^,%s][^,]*") do
      items[#items + 1] = item:match("^(.-)%s*$")
    end
    return items
  end
  return text
end


local function config_node(type_)
  return type_.schema.root.by_name.config
end


-- Fills in what values leave out, and checks them: config | nil, errors as the schema has them.
-- values stay as they are written: a config is bound to its secrets in place, one by one.
local function complete(type_, values)
  local entity, errors = type_.schema:accept({
    name = type_.name, prefix = "of-weir-conf", config = copy(values),
  })
  if not entity then
    return nil, type(errors.config) == "table" and errors.config or errors
  end
  return entity.config
end


-- The type that a setting such as "env_prefix" is of, and its field.
local function find_type(types, name)
  local found
  for type_name in pairs(types) do
    if name:sub(1, #type_name + 1) == type_name .. "_"
      and (not found or #type_name > #found) then
      found = type_name
    end
  end
  return found, found and name:sub(#found + 2)
end


-- weir.conf's vault_* by type, and where each stands; errors gets a line for each that cannot be.
local function by_type(types, settings, errors)
  local out, origins = {}, {}
  for _, setting in ipairs(settings) do
    local name, field = find_type(types, setting.name)
    local node = name and config_node(types[name]).by_name[field]
    if node then
      out[name] = out[name] or {}
      out[name][field] = convert(node, setting.text)
      origins[name .. "_" .. field] = setting.origin
    else
      errors[#errors + 1] = ("%s: vault_%s: %s"):format(setting.origin, setting.name, name
        and ("the vault %s has no field %s"):format(name, field)
        or "no vault that is enabled has a name that this begins with")
    end
  end
  return out, origins
end


-- Why a setting of a type cannot refer to the secret that it refers to, if it does.
local function refusal(name, value)
  if not reference.is(value) then
    return nil
  end
  local ref, err = reference.parse(value)
  if not ref then
    return err
  elseif not vaults[ref.name] then
    return ("could not find vault (%s) [%s]"):format(ref.name, value)
  elseif ref.name == name then
    return ("the vault %s needs this secret to look it up [%s]"):format(name, value)
  end
end


-- What is wrong with the settings of each type, a line for each.
local function check_settings(values, origins, errors)
  local function add(name, field, message)
    local setting = name .. "_" .. field
    errors[#errors + 1] = ("%s: vault_%s: %s"):format(
      origins[setting] or "weir.conf", setting, message)
  end
  for name, config in pairs(values) do
    local _, found = complete(vaults[name].type, config)
    for _, item in ipairs(found and require("weir.schema").flatten_errors(found, "") or {}) do
      add(name, (tostring(item.path):gsub("^%.", "")), item.message)
    end
    for field, value in pairs(config) do
      local why = refusal(name, value)
      if why then
        add(name, field, why)
      end
    end
  end
end


-- Adds vaults: the entities of weir.yml, checked.
function _M.declare(entities)
  for _, entity in ipairs(entities) do
    vaults[entity.prefix] = {
      name = entity.prefix, type = vaults[entity.name].type, values = entity.config or {},
    }
  end
end


-- The vaults are these types, as the loader gives them (name -> {name, strategy, schema}), each
-- under its own name, with the settings of weir.conf's vault_settings; and entities, if there are
-- any yet. An array of error texts.
function _M.use(types, entities, settings)
  local errors = {}
  local values, origins = by_type(types, settings or {}, errors)
  vaults = {}
  for name, type_ in pairs(types) do
    vaults[name] = { name = name, type = type_, values = values[name] or {} }
  end
  check_settings(values, origins, errors) -- what nobody uses need not be complete
  _M.declare(entities or {})
  return errors
end


-- The values of a config with the query of a reference laid over them.
local function lay_over(type_, values, arguments)
  local out, node = {}, config_node(type_)
  for name, value in pairs(values) do
    out[name] = value
  end
  for name, text in pairs(arguments) do
    local field = node.by_name[name]
    if field then
      out[name] = convert(field, text)
    end
  end
  return out
end


-- As complete, with a query of which one field or another cannot be used.
local function complete_by_field(type_, values, arguments)
  local config, errors = complete(type_, values)
  if not config then
    return nil, errors
  end
  for name, text in pairs(arguments) do
    local changed = lay_over(type_, config, { [name] = text })
    config = complete(type_, changed) and changed or config
  end
  return config
end


-- The config of a vault under the query of a reference; what the vault cannot use of it is ignored.
-- Its fields may need each other, so they are tried together first.
local function config_of(vault, arguments)
  arguments = arguments or {}
  local config, errors = complete(vault.type, lay_over(vault.type, vault.values, arguments))
  if not config then
    config, errors = complete_by_field(vault.type, vault.values, arguments)
  end
  if not config then
    local item = require("weir.schema").flatten_errors(errors, "")[1]
    return nil, ("the vault %s is not configured: %s%s: %s"):format(vault.name,
      vault.name == vault.type.name and "vault_" .. vault.name .. "_" or "",
      (tostring(item.path):gsub("^%.", "")), item.message)
  end
  for name, value in pairs(config) do
    if value == null then
      config[name] = nil
    end
  end
  return config
end


-- Whether a reference can be looked up at all: true | nil, err. prefixes: further names of
-- vaults, as keys, such as those that a file under check is about to declare.
function _M.check(text, prefixes)
  local ref, err = reference.parse(text)
  local ok
  if not ref then
    return nil, err
  end
  local vault = vaults[ref.name]
  if not vault and not (prefixes and prefixes[ref.name]) then
    return nil, ("could not find vault (%s) [%s]"):format(ref.name, text)
  end
  if vault then
    ok, err = config_of(vault, ref.config)
    return ok and true, err
  end
  return true
end


-- ---- looking up

-- init may wait: who comes meanwhile waits, too. One that failed is called again.
local function start_type(type_)
  while type_.starting do
    timer.sleep(POLL_S)
  end
  if not type_.started and type_.strategy.init then
    type_.starting = true
    local ok, err = pcall(type_.strategy.init)
    type_.starting = nil
    if not ok then
      error(err, 0)
    end
  end
  type_.started = true
end


local function getter(ref, type_, config, needed)
  return function(fresh)
    local ok, err = secret.need(needed, fresh) -- by the vault's own config
    if not ok then
      return nil, err
    end
    start_type(type_)
    return secret.judge(needed, fresh,
      type_.strategy.get(config, ref.resource, ref.version))
  end
end


-- A text that is the same for the same values.
local function written(value)
  if type(value) ~= "table" then
    return tostring(value)
  end
  local parts = {}
  for name, item in pairs(value) do
    parts[#parts + 1] = tostring(name) .. "=" .. written(item)
  end
  table.sort(parts)
  return "{" .. table.concat(parts, "\0") .. "}"
end


-- What references to the same secret, under the same options, have in common.
local function source_id(ref)
  return ("%s/%s#%s?%s"):format(ref.name, ref.resource, ref.version or "",
                                ref.config and query.encode(ref.config) or "")
end


-- The cells that a look-up needs: those of the vault's config, and of the keys of weir.conf that
-- the vault says it uses | nil, err.
local function needed_by(vault, config)
  local needed, err = references.bind(config_node(vault.type), config, _M.cell, "a vault's config")
  local uses = needed and vault.type.strategy.uses
  for _, key in ipairs(uses and uses(config) or {}) do
    local text = conf.get(key)
    if reference.is(text) then
      local cell
      cell, err = _M.cell(text)
      if not cell then
        return nil, err
      end
      needed[#needed + 1] = cell
    end
  end
  return needed, err
end


local function make(text, ref, vault)
  local config, err = config_of(vault, ref.config)
  if not config then
    return nil, err
  end
  local needed
  binding[text] = true
  needed, err = needed_by(vault, config)
  binding[text] = nil
  if not needed then
    return nil, err
  end
  local options = {
    origin = written({ vault.type.name, vault.values, ref.config or {} }),
    ttl = config.ttl, neg_ttl = config.neg_ttl, resurrect_ttl = config.resurrect_ttl,
    min_ttl = config.min_ttl, max_ttl = config.max_ttl,
  }
  local watch = vault.type.strategy.watch
  if watch then
    options.watch = function(changed)
      return watch(config, ref.resource, changed)
    end
  end
  local id = source_id(ref)
  sources[id] = sources[id] or source.new(getter(ref, vault.type, config, needed))
  return sources[id]:cell(text, ref.key, options)
end


-- The cell (weir.secret) of a reference | nil, err. The same text gives the same cell.
function _M.cell(text)
  local found = secret.find(text)
  if found then
    return found
  end
  local ok, err = _M.check(text)
  if not ok then
    return nil, err
  end
  local ref = reference.parse(text)
  local vault = vaults[ref.name]
  if binding[text] then
    return nil, ("the vault %s needs this secret to look it up [%s]"):format(ref.name, text)
  end
  return make(text, ref, vault)
end


return _M
