-- kong.vault: secrets that references name. What a config refers to is kept up to
-- date anyway and needs none of this but `try`; `get` is for references that a
-- plugin finds elsewhere.

local secret = require "weir.secret"
local vault = require "weir.vault"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C = weir.C

local error, getmetatable, pairs, pcall, type = error, getmetatable, pairs, pcall, type

local TRY_S = 1 -- between look-ups of one secret, however many callers are refused


local _M = {}


local function check_text(reference)
  if type(reference) ~= "string" then
    error("the reference must be a string", 3)
  end
end


--- Whether a text is of the form `{vault://...}`. Nothing else of it is checked.
-- @function kong.vault.is_reference
-- @phases all
-- @param reference any the text
-- @treturn boolean whether it is
-- @usage
-- kong.vault.is_reference("{vault://env/redis-password}") -- true
-- kong.vault.is_reference("not a reference")              -- false
function _M.is_reference(reference)
  return vault.is_reference(reference)
end


--- Takes a reference to pieces: `name` (of the vault), `resource`, `key` (the member of a JSON
-- object), `config` (what stands behind the `?`, a table) and `version`; those that it does not
-- have are nil.
-- @function kong.vault.parse_reference
-- @phases all
-- @param reference string the reference
-- @treturn table|nil its parts
-- @treturn string|nil why it has none
-- @usage
-- local ref = kong.vault.parse_reference("{vault://env/cert/key?prefix=SSL_#1}")
-- ref.name        -- "env"
-- ref.resource    -- "cert"
-- ref.key         -- "key"
-- ref.config      -- { prefix = "SSL_" }
-- ref.version     -- 1
function _M.parse_reference(reference)
  check_text(reference)
  return vault.parse(reference)
end


-- A cell | nil, why not.
local function cell_of(reference)
  local ok, cell, err = pcall(vault.cell, reference)
  if not ok then
    return nil, cell -- there are too many
  end
  return cell, err
end


--- The secret that a reference names. If it is known it is given at once; else the caller waits
-- until it has been looked up, and it is kept from then on. A worker keeps 4096 at most: references
-- are nothing for clients to choose.
-- @function kong.vault.get
-- @phases all
-- @param reference string the reference
-- @treturn string|nil the value
-- @treturn string|nil why there is none
-- @usage
-- local value, err = kong.vault.get("{vault://env/redis-password}")
function _M.get(reference)
  check_text(reference)
  local cell, err = cell_of(reference)
  if not cell then
    return nil, err
  end
  local value = secret.value(cell)
  if value then
    return value
  elseif not wait.ctx then
    return nil, "secrets cannot be looked up before all plugins are loaded"
  end
  return secret.look_up(cell)
end


-- ---- tables with $refs

local function add_refs(refs, cells)
  for _, ref in pairs(refs) do
    if type(ref) == "table" then
      add_refs(ref, cells)
    else
      local cell = cell_of(ref)
      if cell then
        cells[cell] = true
      end
    end
  end
end


-- Puts the cells that a table and all tables in it refer to into cells, as keys.
local function collect(options, cells, seen)
  if not seen[options] then
    seen[options] = true
    for name, value in pairs(options) do
      if type(value) == "table" then
        (name == "$refs" and add_refs or collect)(value, cells, seen)
      end
    end
  end
  return cells
end


-- Gives a field of a table that a plugin made the value of its reference, or of several.
local function fill(into, refs)
  for name, ref in pairs(refs) do
    if type(ref) == "table" then
      if type(into[name]) == "table" then
        fill(into[name], ref)
      end
    else
      local cell = cell_of(ref)
      local value = cell and secret.value(cell)
      if value then
        into[name] = value
      end
    end
  end
end


local function refresh(options, seen)
  if seen[options] then
    return
  end
  seen[options] = true
  local refs = options["$refs"]
  if type(refs) == "table" and not getmetatable(options) then
    fill(options, refs)
  end
  for name, value in pairs(options) do
    if type(value) == "table" and name ~= "$refs" then
      refresh(value, seen)
    end
  end
end


--- Gives a table the newest values of its references, those of its field `$refs`, without
-- waiting. The config that a handler gets is always up to date, and stays as it is.
-- @function kong.vault.update
-- @phases all
-- @param options table the table
-- @treturn table the same table
-- @usage
-- local options = kong.vault.update({ ["$refs"] = { password = "{vault://env/redis-password}" } })
-- options.password -- the password
function _M.update(options)
  if type(options) ~= "table" then
    error("options must be a table", 2)
  end
  refresh(options, {})
  return options
end


-- When somebody was refused last, by cell: who is refused right behind him need not ask again.
local tried_at = setmetatable({}, { __mode = "k" })


local function look_up(cell)
  local now, before = C.weir_mono_us() / 1e6, tried_at[cell]
  if not before or now - before >= TRY_S then
    tried_at[cell] = now
    secret.look_up(cell)
  elseif cell.looking then
    secret.look_up(cell) -- waits for that one
  end
end


--- Calls a function with a table of options. If it fails, the secrets that the options refer
-- to are looked up anew and it is called once more: for services that refuse a password that has
-- been changed.
-- @function kong.vault.try
-- @phases all
-- @param callback function gets the options; gives a result, or nil and what is wrong
-- @param options table a plugin's config, a record in it, or a table with `$refs`
-- @treturn any|nil what the function gave
-- @treturn string|nil what is wrong
-- @usage
-- local connection, err = kong.vault.try(function(redis)
--   return connect(redis.host, redis.password)
-- end, conf.redis)
function _M.try(callback, options)
  if type(callback) ~= "function" then
    error("callback must be a function", 2)
  end
  if type(options) ~= "table" then
    error("options must be a table", 2)
  end
  local result, err = callback(options)
  if result then
    return result, err
  end
  local cells = collect(options, {}, {})
  if not next(cells) or not wait.ctx then
    return nil, err
  end
  for cell in pairs(cells) do
    look_up(cell)
  end
  return callback(_M.update(options))
end


return _M
