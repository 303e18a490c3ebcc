-- Configs whose fields refer to secrets. A record keeps the text of a reference
-- under "$refs" and has no such field of its own: a metatable reads the value
-- out of C at each access, so that it is the newest, and raises an error that says
-- why when there is none. Who reads a list or a map gets one of his own, filled likewise.

local log = require "weir.log"
local reference = require "weir.vault.reference"
local secret = require "weir.secret"

local error, pairs, tonumber, type = error, pairs, tonumber, type
local is_reference = reference.is

local _M = {}


local truth = { ["true"] = true, on = true, ["false"] = false, off = false }


-- The value in the field's type, of which a secret has nothing: its text. nil if it cannot be.
local function convert(node, value)
  if node.type == "integer" or node.type == "number" then
    local number = tonumber(value)
    return (node.type == "number" or number and number % 1 == 0) and number or nil
  elseif node.type == "boolean" then
    return truth[value]
  end
  return value
end


local function read(cell, node)
  local value, why = secret.value(cell)
  if not value then
    error("no value for " .. cell.name .. ": " .. why, 0)
  end
  local converted = convert(node, value)
  if converted == nil then -- a default in its place could be somebody else's server
    error(("no value for %s: it is no %s"):format(cell.name, node.type), 0)
  end
  return converted
end


-- The node of a container's members; they may refer where they or the container say so.
local function member_node(node)
  return node.elements or node.values
end


local bind_record, bind_members


-- What stands below a field: found out whether it refers, and bound.
local function bind_below(state, node, value, path)
  if type(value) ~= "table" then
    return
  end
  if node.type == "record" then
    bind_record(state, node, value, path)
  else
    local below = member_node(node)
    for key, item in pairs(below and value or {}) do
      bind_below(state, below, item, path .. "." .. tostring(key))
    end
  end
end


-- A list or map that holds references: a function that gives it filled, and the texts.
function bind_members(state, node, list, path)
  local below = member_node(node)
  local refs, cells
  for key, item in pairs(below and list or {}) do
    if (below.referenceable or node.referenceable) and is_reference(item) then
      refs, cells = refs or {}, cells or {}
      refs[key], cells[key] = item, state:cell(item)
    end
  end
  if not refs then
    return bind_below(state, node, list, path)
  end
  return function()
    local filled = setmetatable({}, getmetatable(list))
    for key, item in pairs(list) do
      filled[key] = item
    end
    for key, cell in pairs(cells) do
      filled[key] = read(cell, below)
    end
    return filled
  end, refs
end


-- COMPAT(kong): such a text is no reference, but a value like any other.
local function warn_of_misspelling(path, value)
  if type(value) == "string" and value:find("{vault:", 1, true) then
    log.warn(path, ": this looks like a reference to a secret, and is taken for the secret ",
      "itself: a reference begins with {vault:// and ends with }, without a blank around it")
  end
end


local function bind_field(state, field, value, path)
  if field.referenceable and is_reference(value) then
    local cell = state:cell(value)
    return function()
      return read(cell, field)
    end, value
  elseif type(value) == "table" then
    if field.type == "record" then
      return bind_record(state, field, value, path)
    end
    return bind_members(state, field, value, path)
  elseif field.referenceable then
    warn_of_misspelling(path, value)
  end
end


function bind_record(state, node, record, path)
  local readers, refs = {}, {}
  for _, field in ipairs(node.fields) do
    local name = field.name
    local reader, ref = bind_field(state, field, record[name], path .. "." .. name)
    if reader then
      readers[name], refs[name] = reader, ref
      record[name] = nil
    end
  end
  if next(readers) then
    record["$refs"] = refs
    setmetatable(record, { __index = function(_, name)
      local reader = readers[name]
      return reader and reader()
    end })
  end
end


local function cell_of_state(self, text)
  local cell, err = self.cell_of(text)
  if not cell then
    error({ refused = err }, 0)
  end
  self.cells[#self.cells + 1] = cell
  return cell
end


-- Binds a config, in place, to the secrets that it refers to. node: its schema's record.
-- cell_of(text) gives cells, as weir.vault's does; path, which may be nil, names the config in
-- warnings. The cells, an array | nil, err.
function _M.bind(node, config, cell_of, path)
  local state = { cells = {}, cell_of = cell_of, cell = cell_of_state }
  local ok, err = pcall(bind_record, state, node, config, path or "config")
  if not ok then
    if type(err) == "table" and err.refused then
      return nil, err.refused
    end
    error(err, 0)
  end
  return state.cells
end


return _M
