-- YAML for the configuration: libyaml's events (through lyaml) become Lua
-- values. Owns what lyaml's own loader does not give: the line of each value,
-- refusal of duplicate keys, empty sequences that stay arrays, and bounds on
-- nesting and on what aliases may expand to. Null is json.null.
-- Refuses tags other than the core ones, and more than one document.

local json = require("weir.json")
local yaml = require("yaml")

local null, array_mt = json.null, json.array_mt

local MAX_DEPTH = 100
local MAX_NODES = 2000000

local _M = { null = null }

local words = {
  [""] = null, ["~"] = null, ["null"] = null, ["Null"] = null, ["NULL"] = null,
}
for _, word in ipairs({ "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON" }) do
  words[word] = true
end
for _, word in ipairs({ "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF" }) do
  words[word] = false
end

local function plain_number(text)
  local sign, octal = text:match("^([-+]?)0([0-7]+)$")
  if octal then
    local n = tonumber(octal, 8)
    return sign == "-" and -n or n
  end
  if text:find("^[-+]?%d+$") or text:find("^[-+]?%d*%.?%d+[eE][-+]?%d+$")
    or text:find("^[-+]?%d+%.%d*[eE][-+]?%d+$")
    or text:find("^[-+]?%d+%.%d*$") or text:find("^[-+]?%.%d+$") then
    local n = tonumber((text:gsub("^%+", "")))
    return n ~= math.huge and n ~= -math.huge and n or nil
  end
  if text:find("^0x%x+$") then
    return tonumber(text)
  end
end

local function resolve_plain(text)
  local word = words[text]
  if word ~= nil then
    return word
  end
  return plain_number(text) or text
end

local composer = {}
composer.__index = composer

-- All failures leave through here, with the line (from 1) where they are.
local function fail(event, message)
  local line = event and event.start_mark and event.start_mark.line + 1 or 1
  error({ line = line, message = message }, 0)
end

-- The line of the first byte that no YAML text may hold: libyaml does not say where it is.
local function line_of_bad_byte(text)
  local line = 0
  for row in (text .. "\n"):gmatch("(.-)\n") do
    line = line + 1
    local rest = row:gsub("[\194-\223][\128-\191]", "-")
      :gsub("[\224-\239][\128-\191][\128-\191]", "-")
      :gsub("[\240-\244][\128-\191][\128-\191][\128-\191]", "-")
    if rest:find("[%z\1-\8\11\12\14-\31\127-\255]") then
      return line
    end
  end
end

function composer:next_event()
  local ok, event = pcall(self.parser)
  if ok then
    return event
  end
  local text = tostring(event):gsub("%s+$", "")
  local line = text:match("line: (%d+)")
  local message = text:match("^(.-) at document: %d+") or text
  local context = text:match("\n(while .-) at line")
  error({
    line = tonumber(line) or line_of_bad_byte(self.text) or 1,
    message = message .. (context and ", " .. context or ""),
  }, 0)
end

function composer:count(event)
  self.nodes = self.nodes + 1
  if self.nodes > MAX_NODES then
    fail(event, "too many values (aliases expand too far)")
  end
end

local core_tag = "tag:yaml.org,2002:"

function composer:scalar(event)
  self:count(event)
  local tag = event.tag
  if not tag then
    if event.plain_implicit then
      return resolve_plain(event.value)
    end
    return event.value
  end
  if tag == core_tag .. "str" or tag == "!" then
    return event.value
  end
  local value = resolve_plain(event.value)
  if tag == core_tag .. "null" and value == null
    or tag == core_tag .. "bool" and type(value) == "boolean"
    or tag == core_tag .. "int" and type(value) == "number" and value % 1 == 0
    or tag == core_tag .. "float" and type(value) == "number" then
    return value
  end
  -- neither is shown: it may be a password that nobody quoted; so with aliases
  fail(event, "the tag before this value is unknown or does not fit it "
       .. "(a text that begins with ! must be quoted)")
end

function composer:sequence(event, depth)
  local value, lines = setmetatable({}, array_mt), {}
  self:anchor(event, value)
  local n = 0
  while true do
    local item = self:next_event()
    if item.type == "SEQUENCE_END" then
      break
    end
    n = n + 1
    lines[n] = item.start_mark.line + 1
    value[n] = self:node(item, depth)
  end
  self.lines[value] = lines
  return value
end

-- `<<: *other` adds what is not set already.
local function merge_into(event, into, other)
  local list = getmetatable(other) == array_mt and other or { other }
  for _, map in ipairs(list) do
    if type(map) ~= "table" or getmetatable(map) == array_mt then
      fail(event, "'<<' takes a map or a list of maps")
    end
    for key, value in pairs(map) do
      if into[key] == nil then
        into[key] = value
      end
    end
  end
end

function composer:key(event)
  local key = event.type == "SCALAR" and self:scalar(event)
  if event.type == "ALIAS" then
    key = self.anchors[event.anchor]
  end
  if type(key) == "boolean" or key == null then
    key = event.value
  end
  if type(key) ~= "string" and type(key) ~= "number" then
    fail(event, "a key must be a string")
  end
  return type(key) == "number" and event.value or key
end

function composer:mapping(event, depth)
  local value, lines, merges = {}, {}, {}
  self:anchor(event, value)
  while true do
    local key_event = self:next_event()
    if key_event.type == "MAPPING_END" then
      break
    end
    local key = self:key(key_event)
    local item = self:node(self:next_event(), depth)
    if key == "<<" and key_event.plain_implicit then
      merges[#merges + 1] = { key_event, item }
    else
      if lines[key] then
        fail(key_event, "duplicate key '" .. key .. "' (first on line " .. lines[key] .. ")")
      end
      lines[key] = key_event.start_mark.line + 1
      value[key] = item
    end
  end
  for _, merge in ipairs(merges) do
    merge_into(merge[1], value, merge[2])
  end
  self.lines[value] = lines
  return value
end

function composer:anchor(event, value)
  if event.anchor then
    self.anchors[event.anchor] = value
    self.open[value] = true
  end
end

-- Each use of an alias is a value of its own, so that nobody changes two places at once.
function composer:copy(event, value, depth)
  self:count(event)
  if type(value) ~= "table" then
    return value
  end
  if depth > MAX_DEPTH then
    fail(event, "nested too deeply")
  end
  local out = setmetatable({}, getmetatable(value))
  for key, item in pairs(value) do
    out[key] = self:copy(event, item, depth + 1)
  end
  self.lines[out] = self.lines[value]
  return out
end

function composer:alias(event, depth)
  local value = self.anchors[event.anchor]
  if value == nil then
    fail(event, "unknown alias (a text that begins with * must be quoted)")
  end
  if type(value) == "table" and self.open[value] then
    fail(event, "alias '" .. event.anchor .. "' contains itself")
  end
  return self:copy(event, value, depth)
end

function composer:node(event, depth)
  local kind = event.type
  if kind == "ALIAS" then
    return self:alias(event, depth)
  end
  if kind == "SCALAR" then
    local value = self:scalar(event)
    if event.anchor then
      self.anchors[event.anchor] = value
    end
    return value
  end
  self:count(event)
  if depth >= MAX_DEPTH then
    fail(event, "nested too deeply")
  end
  local value
  if kind == "MAPPING_START" then
    value = self:mapping(event, depth + 1)
  elseif kind == "SEQUENCE_START" then
    value = self:sequence(event, depth + 1)
  else
    fail(event, "unexpected " .. tostring(kind))
  end
  self.open[value] = nil
  return value
end

function composer:document()
  self:next_event()
  local start = self:next_event()
  if start.type == "STREAM_END" then
    return null
  end
  local value = self:node(self:next_event(), 0)
  self:next_event()
  local after = self:next_event()
  if after.type ~= "STREAM_END" then
    fail(after, "more than one document")
  end
  return value
end

-- The value of a YAML text and a table of lines: lines[t][key] is the line on
-- which t's field stands. On failure nil, "line N: reason" and N.
function _M.decode(text)
  if type(text) ~= "string" then
    error("decode expects a string", 2)
  end
  local self = setmetatable({
    text = text, parser = yaml.parser(text), anchors = {}, open = {}, nodes = 0, lines = {},
  }, composer)
  local ok, value = pcall(self.document, self)
  if ok then
    return value, self.lines
  end
  if type(value) ~= "table" then
    error(value, 0)
  end
  return nil, "line " .. value.line .. ": " .. value.message, value.line
end

return _M
