-- Query strings and urlencoded forms: text to table and back. Sizes are bounded
-- by the caller's maximum of arguments. Pure Lua.

local byte = string.byte
local char = string.char
local concat = table.concat
local find = string.find
local format = string.format
local gmatch = string.gmatch
local gsub = string.gsub
local match = string.match
local sort = table.sort
local sub = string.sub
local tonumber = tonumber
local tostring = tostring
local type = type


local _M = {}


local function unhex(digits)
  return char(tonumber(digits, 16))
end


local function unescape(s)
  if not find(s, "[%%+]") then
    return s
  end
  return (gsub(gsub(s, "+", " "), "%%(%x%x)", unhex))
end


local function hex(c)
  return format("%%%02X", byte(c))
end


local function escape(s)
  return (gsub(s, "[^%w%-._~]", hex))
end


_M.unescape = unescape
_M.escape = escape


-- Adds a value; of several of one name there is an array.
local function store(args, name, value)
  local old = args[name]
  if old == nil then
    args[name] = value
  elseif type(old) == "table" then
    old[#old + 1] = value
  else
    args[name] = { old, value }
  end
end
_M.store = store


-- "a=1&b&a=2" -> { a = { "1", "2" }, b = true }. Arguments behind the max-th are
-- left out; then the second result is "truncated". Arguments without a name are skipped.
function _M.parse(text, max)
  local args, count, at = {}, 0, 1
  while at <= #text do
    local stop = find(text, "&", at, true) or #text + 1
    if stop > at then
      if count >= max then
        return args, "truncated"
      end
      local equals = find(text, "=", at, true)
      if equals and equals < stop then
        if equals > at then
          store(args, unescape(sub(text, at, equals - 1)),
                unescape(sub(text, equals + 1, stop - 1)))
          count = count + 1
        end
      else
        store(args, unescape(sub(text, at, stop - 1)), true)
        count = count + 1
      end
    end
    at = stop + 1
  end
  return args
end


-- The first value of one argument: a string, true when it has none, nil when it is not there.
function _M.first(text, name, max)
  local value = _M.parse(text, max)[name]
  if type(value) == "table" then
    return value[1]
  end
  return value
end


-- The text without the arguments of that name; the others keep their bytes.
function _M.without(text, name)
  local out = {}
  for argument in gmatch(text, "[^&]+") do
    if unescape(match(argument, "^[^=]*")) ~= name then
      out[#out + 1] = argument
    end
  end
  return concat(out, "&")
end


local function encode_one(out, name, value)
  local kind = type(value)
  if kind == "boolean" then
    if value then
      out[#out + 1] = escape(name)
    end
  elseif kind == "string" or kind == "number" then
    out[#out + 1] = escape(name) .. "=" .. escape(tostring(value))
  else
    return nil, "invalid value for argument '" .. name .. "': got " .. kind ..
                ", expected string, number, boolean or array of these"
  end
  return true
end


-- The reverse, sorted by name: true gives a bare name, false nothing, an array the
-- name several times. nil and the reason for other values.
function _M.encode(args)
  local names, out = {}, {}
  for name in pairs(args) do
    if type(name) ~= "string" then
      return nil, "arguments must be named by strings, got " .. type(name)
    end
    names[#names + 1] = name
  end
  sort(names)
  for i = 1, #names do
    local name = names[i]
    local value = args[name]
    local list = type(value) == "table" and value or { value }
    for j = 1, #list do
      local ok, err = encode_one(out, name, list[j])
      if not ok then
        return nil, err
      end
    end
  end
  return concat(out, "&")
end


return _M
