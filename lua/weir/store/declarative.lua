-- A declarative file (Kong's format 1.1 to 3.0, YAML or JSON) becomes the
-- configuration: arrays of checked entities whose references are resolved.
-- Entities may stand in flat lists or inside of what they belong to. Every
-- mistake is reported, with the path of the key and its line; nothing is
-- taken from a file that has one. References to secrets stay what they are.

local defaults = require("weir.schema.defaults")
local identity = require("weir.store.identity")
local json = require("weir.json")
local messages = require("weir.schema.messages")
local plugin_entities = require("weir.entities.plugins")
local references = require("weir.schema.references")
local schema = require("weir.schema")
local vault_cycles = require("weir.store.vault_cycles")
local vault_entities = require("weir.entities.vaults")
local yaml = require("weir.yaml")

local null = json.null

-- Parents before children: a child's id depends on theirs.
local kinds = { "vaults", "services", "routes", "plugins" }
local singular = { services = "service", routes = "route", plugins = "plugin" }
-- the field that a kind's entities are named by, if it is not `name`
local name_fields = { plugins = "instance_name", vaults = "prefix" }
-- what may be nested in what, and what may refer to what
local children = {
  vaults = {}, services = { "routes", "plugins" }, routes = { "plugins" }, plugins = {},
}
local parents = {
  vaults = {}, services = {}, routes = { "services" }, plugins = { "services", "routes" },
}

local entity_schemas = {
  services = assert(schema.new(require("weir.entities.services"))),
  routes = assert(schema.new(require("weir.entities.routes"))),
}

local format_versions = { "1.1", "2.1", "3.0" }

-- The schemas of those kinds of which there is one only.
local _M = { schemas = entity_schemas }

local reader = {}
reader.__index = reader

local function is_null(value)
  return value == nil or value == null
end

-- holder[key] is what is wrong, for the line; both may be missing.
function reader:fail(path, message, holder, key)
  local lines = holder and self.lines[holder]
  self.errors[#self.errors + 1] = {
    path = path, message = message, line = lines and key ~= nil and lines[key] or nil,
  }
end

-- ---- reading the shape

function reader:check_head(root)
  local version = root._format_version
  if is_null(version) then
    self:fail("_format_version", messages.required, root, "_format_version")
  elseif type(version) ~= "string" then
    self:fail("_format_version", messages.types.string, root, "_format_version")
  elseif not (version == "1.1" or version == "2.1" or version == "3.0") then
    self:fail("_format_version", messages.one_of:format(messages.list(format_versions)), root,
      "_format_version")
  end
  if not is_null(root._transform) and type(root._transform) ~= "boolean" then
    self:fail("_transform", messages.types.boolean, root, "_transform")
  end
  if not is_null(root._comment) and type(root._comment) ~= "string" then
    self:fail("_comment", messages.types.string, root, "_comment")
  end
  self.transform = root._transform ~= false
  self.old_paths = version == "1.1" or version == "2.1"
end

local head_keys = { _format_version = true, _transform = true, _comment = true, _ignore = true }

function reader:check_top_level(root)
  local unknown = {}
  for key in pairs(root) do
    if not head_keys[key] and not children[key] then
      unknown[#unknown + 1] = tostring(key)
    end
  end
  table.sort(unknown)
  for _, key in ipairs(unknown) do
    self:fail(key, messages.unknown, root, key)
  end
end

-- One entity with what is nested in it. scope: the records that it stands in, by kind.
function reader:add(kind, holder, index, path, scope)
  local raw = holder[index]
  if type(raw) ~= "table" or raw[1] ~= nil then
    self:fail(path, messages.types.record, holder, index)
    return
  end
  local record = { kind = kind, raw = raw, path = path, scope = scope, holder = holder,
    index = index }
  local list = self.records[kind]
  list[#list + 1] = record
  record.value = {}
  for key, value in pairs(raw) do
    record.value[key] = defaults.copy(value)
  end
  record.value._comment, record.value._ignore = nil, nil
  if kind == "plugins" then
    self.checkers.plugins:translate(record.value)
  end
  local below = setmetatable({ [kind] = record }, { __index = scope })
  for _, child in ipairs(children[kind]) do
    record.value[child] = nil
    self:add_list(child, raw, path .. ".", below)
  end
end

function reader:add_list(kind, holder, prefix, scope)
  local list = holder[kind]
  if is_null(list) then
    return
  end
  if type(list) ~= "table" or next(list) ~= nil and list[1] == nil then
    self:fail(prefix .. kind, messages.types.array, holder, kind)
    return
  end
  for i = 1, #list do
    self:add(kind, list, i, prefix .. kind .. "[" .. i .. "]", scope)
  end
end

-- ---- ids and references

function reader:set_id(record)
  local id = record.value.id
  if type(id) == "string" then
    id = id:lower()
  else
    id = identity.of(record, self.by_id[record.kind])
  end
  record.id, record.value.id = id, id
end

function reader:claim(index, record, key, field)
  if not index[key] then
    index[key] = record
    return true
  end
  self:fail(record.path, ("uniqueness violation: '%s' entity with %s set to '%s' already declared")
    :format(record.kind, field, key), record.raw, field)
  return false
end

function reader:register(record)
  local kind, value = record.kind, record.value
  local name_field = name_fields[kind] or "name"
  local name = value[name_field]
  local fresh = true
  if type(name) == "string" then
    fresh = self:claim(self.by_name[kind], record, name, name_field)
  end
  if fresh and kind == "plugins" and type(value.name) == "string" then
    fresh = self:claim_scope(record)
  end
  -- an id that follows from what is taken already would only repeat the complaint
  if fresh then
    self:claim(self.by_id[kind], record, record.id, "id")
  end
end

-- One plugin of a name in each scope.
function reader:claim_scope(record)
  local parts, said = { record.value.name }, "name set to '" .. record.value.name .. "'"
  for i, kind in ipairs(parents.plugins) do
    local ref = record.refs[kind]
    parts[i + 1] = ref and ref.id or ""
    if ref then
      said = said .. " and " .. singular[kind] .. " set to '" .. ref.id .. "'"
    end
  end
  local key = table.concat(parts, ":")
  if self.scopes[key] then
    self:fail(record.path, "uniqueness violation: 'plugins' entity with " .. said
      .. " already declared", record.raw, "name")
    return false
  end
  self.scopes[key] = true
  return true
end

function reader:find(kind, reference)
  if type(reference) == "table" then
    reference = not is_null(reference.id) and reference.id or reference.name
  end
  if type(reference) ~= "string" then
    return nil
  end
  return self.by_name[kind][reference] or self.by_id[kind][reference:lower()]
end

-- Sets record.refs: what it names itself, else what it stands in.
function reader:resolve(record)
  record.refs = {}
  for _, kind in ipairs(parents[record.kind]) do
    local field = singular[kind]
    local named, around = record.value[field], record.scope[kind]
    local path = record.path .. "." .. field
    if record.kind == "plugins" and kind == "services" and record.scope.routes then
      -- a plugin inside of a route is the route's; the service around is not named by it
      around = nil
    end
    if not is_null(named) then
      local found = self:find(kind, named)
      if type(named) ~= "string" and type(named) ~= "table" then
        self:fail(path, messages.types.string, record.raw, field)
      elseif not found then
        local shown = type(named) == "table" and (named.id or named.name) or named
        self:fail(path, ("invalid reference '%s: %s' (no such entry in '%s')"):format(field,
          messages.show(shown), kind), record.raw, field)
      elseif around and around ~= found then
        self:fail(path, "this entity stands inside of another " .. field, record.raw, field)
      end
      around = found
    end
    record.refs[kind] = around
    record.value[field] = nil
  end
end

-- ---- checking

local plain_path = "^[%w%.%-_~/%%]*$"

-- Formats before 3.0 knew a regular expression by its characters.
local function mark_regex_paths(value)
  if type(value.paths) ~= "table" then
    return
  end
  for i, path in ipairs(value.paths) do
    if type(path) == "string" and not path:find(plain_path) then
      value.paths[i] = "~" .. path
    end
  end
end

-- Nulls mean absent from here on.
local function drop_nulls(value)
  for key, item in pairs(value) do
    if item == null then
      value[key] = nil
    elseif type(item) == "table" then
      drop_nulls(item)
    end
  end
end

-- Where what keys lead to stands in the file, as far as it stands there: the table and the key; the
-- last table on the way, and how many keys lead to it.
function reader:locate(record, keys)
  local holder, key = record.holder, record.index
  local value, last, depth = record.raw, record.raw, 0
  for i, step in ipairs(keys) do
    if type(value) ~= "table" then
      break
    end
    last, depth = value, i - 1
    local lines = self.lines[value]
    if lines and lines[step] then
      holder, key = value, step
    end
    value = value[step]
  end
  return holder, key, last, depth
end

function reader:report(record, found)
  for _, item in ipairs(schema.flatten_errors(found, record.path)) do
    self:fail(item.path, item.message, self:locate(record, item.keys))
  end
end

-- The key of a text in a table; nil where it is not.
local function key_of(holder, text)
  for key, value in pairs(holder) do
    if value == text then
      return key
    end
  end
end

-- A reference that is wrong. It is reported where it was written, be it under an older name.
function reader:report_reference(record, text, keys, message)
  local holder, key, last, depth = self:locate(record, keys)
  local written = last[keys[depth + 1]] == nil and key_of(last, text)
  if written then
    holder, key = last, written
    keys = { unpack(keys, 1, depth) }
    keys[depth + 1] = written
  end
  self:fail(schema.path(record.path, keys), message, holder, key)
end

function reader:check(record)
  local value = record.value
  if record.kind == "routes" and self.old_paths then
    mark_regex_paths(value)
  end
  value.created_at = value.created_at or self.now
  value.updated_at = value.updated_at or self.now
  for kind, parent in pairs(record.refs) do
    value[singular[kind]] = { id = parent.id }
  end
  local accepted, found = self.checkers[record.kind]:accept(value)
  record.is_good = accepted ~= nil
  if not accepted then
    self:report(record, found)
    return
  end
  drop_nulls(value)
  for kind, parent in pairs(record.refs) do
    value[singular[kind]] = parent.value
  end
end

local function share_a_protocol(a, b)
  for _, protocol in ipairs(a) do
    for _, other in ipairs(b) do
      if protocol == other then
        return true
      end
    end
  end
  return false
end

function reader:check_protocols(record)
  local value = record.value
  if value.route and not share_a_protocol(value.protocols, value.route.protocols) then
    self:fail(record.path .. ".protocols", "must match the associated route's protocols",
      record.raw, "protocols")
  end
end

-- ---- references to secrets

-- Whether each vault is good; what refers to one that is not would only repeat the complaint.
function reader:vaults_are_good()
  for _, record in ipairs(self.records.vaults) do
    if not record.is_good then
      return false
    end
  end
  return true
end

function reader:root_of(record)
  local checker = self.checkers[record.kind]
  return (checker.schema_of and checker:schema_of(record.value) or checker).root
end

-- Asks check(text, vaults) about each reference; vaults: prefix -> entity.
function reader:check_references(check)
  local vaults, cycles = {}, vault_cycles.new()
  for _, record in ipairs(self.records.vaults) do
    vaults[record.value.prefix] = record.value
  end
  for _, kind in ipairs(kinds) do
    for _, record in ipairs(self.records[kind]) do
      references.each(record.is_good and self:root_of(record) or {}, record.value,
        function(text, keys)
          local ok, err = check(text, vaults)
          if ok and kind == "vaults" then
            ok, err = cycles:add(record.value.prefix, text)
          end
          if not ok then
            self:report_reference(record, text, keys, err)
          end
        end)
    end
  end
end

-- ---- the whole

local function line_at(text, byte)
  local _, breaks = text:sub(1, byte):gsub("\n", "")
  return breaks + 1
end

local function decode(text, path)
  if path and path:find("%.json$") then
    text = text:gsub("^\239\187\191", "")
    local root, err = json.decode(text)
    local at = not root and err:match("character (%d+)")
    return root, err, at and line_at(text, tonumber(at)), {}
  end
  local root, lines, line = yaml.decode(text)
  if root == nil then
    return nil, (lines:gsub("^line %d+: ", "")), line
  end
  return root, nil, nil, lines
end

local function in_file_order(errors)
  for i, err in ipairs(errors) do
    err.order = i
  end
  table.sort(errors, function(a, b)
    if (a.line or 0) ~= (b.line or 0) then
      return (a.line or 0) < (b.line or 0)
    end
    return a.order < b.order
  end)
  return errors
end

function reader:run(root, check_reference)
  if type(root) ~= "table" or root[1] ~= nil then
    self:fail("", "expected a map with _format_version and lists of entities")
    return
  end
  self:check_head(root)
  self:check_top_level(root)
  for _, kind in ipairs(kinds) do
    self:add_list(kind, root, "", {})
  end
  for _, kind in ipairs(kinds) do
    for _, record in ipairs(self.records[kind]) do
      self:resolve(record)
      self:set_id(record)
      self:register(record)
    end
  end
  for _, kind in ipairs(kinds) do
    for _, record in ipairs(self.records[kind]) do
      self:check(record)
    end
  end
  if check_reference and self:vaults_are_good() then
    self:check_references(check_reference)
  end
  if #self.errors == 0 then
    for _, record in ipairs(self.records.plugins) do
      self:check_protocols(record)
    end
  end
end

local function by_kind()
  local out = {}
  for _, kind in ipairs(kinds) do
    out[kind] = {}
  end
  return out
end

-- The configuration {vaults=, services=, routes=, plugins=} that the text declares, or
-- nil and an array of {path, message, line}. subschemas: plugin name -> its
-- schema (entities.plugins.subschema). path decides between YAML and JSON. options may hold
--   vaults           type of vault -> its schema (entities.vaults.subschema)
--   check_reference  function(text, vaults) -> true | nil, err, asked about each reference to a
--                    secret; vaults: prefix -> entity, of those that the text declares
function _M.parse(text, subschemas, path, options)
  options = options or {}
  local root, err, line, lines = decode(text, path)
  if root == nil then
    return nil, { { path = "", message = err, line = line } }
  end
  local self = setmetatable({
    lines = lines, errors = {}, scopes = {}, now = os.time(),
    records = by_kind(), by_id = by_kind(), by_name = by_kind(),
    checkers = {
      vaults = vault_entities.new(options.vaults or {}),
      services = entity_schemas.services, routes = entity_schemas.routes,
      plugins = plugin_entities.new(subschemas),
    },
  }, reader)
  self:run(root, options.check_reference)
  if #self.errors > 0 then
    return nil, in_file_order(self.errors)
  end
  local config = {}
  for _, kind in ipairs(kinds) do
    config[kind] = {}
    for i, record in ipairs(self.records[kind]) do
      config[kind][i] = record.value
    end
  end
  return config
end

-- The errors as lines of text: "file:line: path: message".
function _M.errors_to_string(errors, file)
  local out = {}
  for i, err in ipairs(errors) do
    out[i] = (file or "") .. (err.line and ":" .. err.line or "") .. (file and ": " or "")
      .. (err.path ~= "" and err.path .. ": " or "") .. err.message
  end
  return table.concat(out, "\n")
end

return _M
