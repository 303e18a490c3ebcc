-- JSON for the whole host: lua-cjson parses, this module keeps what cjson
-- 2.1 loses. Empty arrays stay `[]` (they carry array_mt), integers up to
-- 2^53 are exact, other numbers are written in the fewest digits that read
-- back the same. Refuses NaN, infinity and nesting beyond 200 levels.

local cjson = require("cjson").new()

cjson.decode_invalid_numbers(false)
cjson.decode_max_depth(200)

local concat, floor, format = table.concat, math.floor, string.format
local find, gsub, sub = string.find, string.gsub, string.sub
local getmetatable, next, pairs, setmetatable = getmetatable, next, pairs, setmetatable
local tonumber, tostring, type = tonumber, tostring, type

local MAX_DEPTH = 200
local MAX_EXACT = 2 ^ 53

local _M = { null = cjson.null }

-- The metatable of arrays that must stay arrays when they are empty.
_M.array_mt = { __name = "array" }

-- An array that is written `[]`. Shared: do not add to it.
_M.empty_array = setmetatable({}, _M.array_mt)

local array_mt, null = _M.array_mt, _M.null

local escapes = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f",
  ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t",
}
for code = 0, 31 do
  local char = string.char(code)
  escapes[char] = escapes[char] or format("\\u%04x", code)
end
escapes["\127"] = "\\u007f"

local function quote(text)
  if find(text, '[%c"\\]') then
    text = gsub(text, '[%c"\\]', escapes)
  end
  return '"' .. text .. '"'
end

-- The shortest decimal that reads back as the same number; nil for NaN and infinity.
function _M.number(n)
  if n ~= n or n == math.huge or n == -math.huge then
    return nil
  end
  if n == floor(n) and n >= -MAX_EXACT and n <= MAX_EXACT then
    return format("%.0f", n)
  end
  for digits = 14, 16 do
    local text = format("%." .. digits .. "g", n)
    if tonumber(text) == n then
      return text
    end
  end
  return format("%.17g", n)
end

local function is_array(t)
  if getmetatable(t) == array_mt then
    return true
  end
  local n = #t
  if n == 0 then
    return false
  end
  local count = 0
  for _ in pairs(t) do
    count = count + 1
  end
  return count == n
end

local write

local function write_array(out, n, t, depth)
  n = n + 1
  out[n] = "["
  for i = 1, #t do
    if i > 1 then
      n = n + 1
      out[n] = ","
    end
    n = write(out, n, t[i], depth)
  end
  out[n + 1] = "]"
  return n + 1
end

local function write_object(out, n, t, depth)
  local separator = "{"
  for key, value in next, t do
    local kind = type(key)
    if kind ~= "string" and kind ~= "number" then
      error("cannot encode a key of type " .. kind, 0)
    end
    n = n + 1
    out[n] = separator .. quote(tostring(key)) .. ":"
    n = write(out, n, value, depth)
    separator = ","
  end
  n = n + 1
  out[n] = separator == "{" and "{}" or "}"
  return n
end

function write(out, n, value, depth)
  local kind = type(value)
  if kind == "string" then
    out[n + 1] = quote(value)
  elseif kind == "number" then
    out[n + 1] = _M.number(value) or error("cannot encode NaN or infinity", 0)
  elseif kind == "boolean" then
    out[n + 1] = value and "true" or "false"
  elseif value == nil or value == null then
    out[n + 1] = "null"
  elseif kind == "table" then
    if depth >= MAX_DEPTH then
      error("nested too deeply", 0)
    end
    if is_array(value) then
      return write_array(out, n, value, depth + 1)
    end
    return write_object(out, n, value, depth + 1)
  else
    error("cannot encode a value of type " .. kind, 0)
  end
  return n + 1
end

-- The JSON text of a value, or nil and the reason.
function _M.encode(value)
  local out = {}
  local ok, n = pcall(write, out, 0, value, 0)
  if not ok then
    return nil, n
  end
  return concat(out, "", 1, n)
end

-- Where the string ends whose first character stands at `at`.
local function string_end(text, at)
  while true do
    local stop = find(text, '["\\]', at)
    if not stop or sub(text, stop, stop) == '"' then
      return stop or #text
    end
    at = stop + 2
  end
end

-- Replaces each `[]` outside of strings by an array that holds the mark alone.
local function mark_empty_arrays(text, mark)
  local out, n, from, at = {}, 0, 1, 1
  while true do
    local start = find(text, '["%[]', at)
    if not start then
      break
    end
    if sub(text, start, start) == '"' then
      at = string_end(text, start + 1) + 1
    else
      local _, stop = find(text, "^%[%s*%]", start)
      if stop then
        out[n + 1] = sub(text, from, start)
        out[n + 2] = mark
        n, from = n + 2, stop
      end
      at = (stop or start) + 1
    end
  end
  out[n + 1] = sub(text, from)
  return concat(out)
end

local function unmark(value, mark)
  for key, item in pairs(value) do
    if type(item) == "table" then
      if item[1] == mark then
        value[key] = setmetatable({}, array_mt)
      else
        unmark(item, mark)
      end
    end
  end
end

-- The value that a JSON text stands for, or nil and the reason.
function _M.decode(text)
  if type(text) ~= "string" then
    error("decode expects a string", 2)
  end
  local mark
  if find(text, "%[%s*%]") then
    mark = "empty array"
    while find(text, mark, 1, true) do
      mark = mark .. "!"
    end
    text = mark_empty_arrays(text, '"' .. mark .. '"')
  end
  local ok, value = pcall(cjson.decode, text)
  if not ok then
    return nil, tostring(value)
  end
  if mark then
    local holder = { value }
    unmark(holder, mark)
    value = holder[1]
  end
  return value
end

return _M
