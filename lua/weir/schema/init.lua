-- The schema checker of every entity and plugin. A schema completes a value
-- (process_defaults) and checks it (validate); errors come as a table shaped
-- like the value, with Kong's messages, those of the whole under "@entity".

local checks = require("weir.schema.checks")
local defaults = require("weir.schema.defaults")
local definition = require("weir.schema.definition")
local errors = require("weir.schema.errors")
local messages = require("weir.schema.messages")
local types = require("weir.schema.types")
local validators = require("weir.schema.validators")

local is_null = types.is_null

local schema = {}
schema.__index = schema

local _M = {
  errors_to_string = errors.to_string, flatten_errors = errors.flatten, path = errors.path,
}

local validate

local function validate_list(node, list)
  local found
  for i = 1, #list do
    local ok, err
    if is_null(list[i]) then
      ok, err = nil, messages.required
    else
      ok, err = validate(node.elements, list[i])
    end
    if not ok then
      found = found or {}
      found[i] = err
    end
  end
  return not found or nil, found
end

local function validate_map(node, map)
  local found
  for key, value in pairs(map) do
    local ok, err = true, nil
    if node.keys then
      ok, err = validate(node.keys, key)
    end
    if ok and node.values then
      ok, err = validate(node.values, value)
    end
    if not ok then
      found = found or {}
      found[key] = err
    end
  end
  return not found or nil, found
end

local function validate_record(node, record)
  local found = {}
  for key in pairs(record) do
    if not node.by_name[key] then
      found[key] = messages.unknown
    end
  end
  for _, field in ipairs(node.fields) do
    local ok, err = validate(field, record[field.name])
    if not ok then
      found[field.name] = err
    end
  end
  if node.entity_checks then
    checks.run(node, record, found, validate)
  end
  if next(found) then
    return nil, found
  end
  return true
end

local function validate_null(node)
  if node.required or node.ne ~= nil and is_null(node.ne)
    or node.eq ~= nil and not is_null(node.eq) then
    return nil, messages.required
  end
  return true
end

local inside = {
  array = validate_list, set = validate_list, map = validate_map, record = validate_record,
}

-- true, or nil and a message or a table of them.
function validate(node, value)
  if is_null(value) then
    return validate_null(node)
  end
  if node.eq ~= nil and is_null(node.eq) then
    return nil, node.err or messages.eq:format("null")
  end
  if types.is_referenced(node, value) then
    return true
  end
  local fits = types.checks[node.type]
  if fits and not fits(value) then
    return nil, messages.types[node.type]
  end
  local below = inside[node.type]
  if below then
    local ok, err = below(node, value)
    if not ok then
      return nil, err
    end
  end
  local ok, err = validators.run(node, value)
  if not ok and node.encrypted then
    err = messages.without(err, value)
  end
  return ok, err
end

local function check_default(field)
  local record = {}
  defaults.fill({ type = "record", fields = { field } }, record)
  local ok, err = validate(field, record[field.name])
  if not ok then
    return "default: " .. (type(err) == "table" and errors.to_string(err) or err)
  end
end

-- A default that is wrong would be blamed on whoever leaves the field out. What is wrong and the
-- path, or nil. What a record lacks, whoever writes one may give.
local function check_defaults(node, path)
  for _, field in ipairs(node.fields or {}) do
    local at, err = path .. field.name, nil
    if field.type == "record" then
      err, at = check_defaults(field, at .. ".")
    elseif field.default ~= nil and not is_null(field.default) then
      err = check_default(field)
    end
    if err then
      return err, at
    end
  end
end

-- Makes a schema from a definition of Kong's form, or nil and "path: reason" and path.
-- options.complete_records: as in definition.compile.
function _M.new(def, options)
  local root, err, path = definition.compile(def, options)
  if not root then
    return nil, err, path
  end
  err, path = check_defaults(root, "")
  if err then
    return nil, path .. ": " .. err, path
  end
  return setmetatable({
    name = def.name, root = root, definition = def, transformations = def.transformations,
  }, schema)
end

-- Fills in defaults, in place. Returns the value, or nil and errors.
function schema:process_defaults(value)
  local ok, err = defaults.fill(self.root, value)
  if not ok then
    return nil, err
  end
  return value
end

-- true, or nil and errors.
function schema:validate(value)
  if not types.checks.record(value) then
    return nil, { ["@entity"] = { messages.types.record } }
  end
  return validate_record(self.root, value)
end

function schema.errors_to_string(_, found)
  return errors.to_string(found)
end

local function transformation_input(root, item, value)
  local input = {}
  for i, name in ipairs(item.input) do
    local current = value
    for part in name:gmatch("[^.]+") do
      current = type(current) == "table" and current[part] or nil
    end
    if is_null(current) or checks.is_referenced_at(root, value, name) then
      return nil
    end
    input[i] = current
  end
  return input
end

-- Runs the transformations that apply when a value is written, but on references. The value, or
-- nil and errors.
function schema:transform(value)
  for _, item in ipairs(self.transformations or {}) do
    local input = item.on_write and transformation_input(self.root, item, value)
    if input then
      local change, err = item.on_write(unpack(input))
      if not change then
        return nil, { ["@entity"] = { "transformation failed: " .. tostring(err) } }
      end
      for key, changed in pairs(change) do
        value[key] = changed
      end
    end
  end
  return value
end

-- Early ones are those of shorthands: what a wrong one would have filled in is not missing, too.
local function join_errors(early, found)
  for key, err in pairs(early and found or {}) do
    if err == messages.required then
      found[key] = nil
    end
  end
  for key, err in pairs(early or {}) do
    found[key] = err
  end
  return found
end

-- Completes, checks and transforms: the value as it is kept, or nil and errors.
function schema:accept(value)
  if not types.checks.record(value) then
    return nil, { ["@entity"] = { messages.types.record } }
  end
  local completed, early = self:process_defaults(value)
  local ok, found = self:validate(value)
  if not completed or not ok then
    return nil, join_errors(early, found or {})
  end
  return self:transform(value)
end

return _M
