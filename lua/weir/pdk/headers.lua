-- What the header functions of kong.request, kong.response and kong.service have
-- in common: reading a list into a table, and writing with Kong's rules for
-- values. The lists themselves live in C.

local weir = require "weir.ffi"

local C = weir.C
local sv = weir.sv
local ffi_string = weir.ffi.string

local byte = string.byte
local error = error
local find = string.find
local format = string.format
local gsub = string.gsub
local lower = string.lower
local pairs = pairs
local rawget = rawget
local setmetatable = setmetatable
local tostring = tostring
local type = type


local _M = {}


-- Tables of headers answer to names in any case, with "_" for "-".
local by_any_name = {
  __index = function(t, name)
    if type(name) == "string" then
      name = lower(name)
      return rawget(t, name) or rawget(t, (gsub(name, "_", "-")))
    end
  end,
}


-- The fields of a list by lower-case name; several of one name as an array. Stops
-- behind the max-th field; then the second result is "truncated".
function _M.collect(req, list, max)
  local out = setmetatable({}, by_any_name)
  for i = 0, max - 1 do
    if C.weir_header_at(req, list, i, sv, sv + 1) ~= 0 then
      return out
    end
    local name = lower(ffi_string(sv[0].p, sv[0].n))
    local value = ffi_string(sv[1].p, sv[1].n)
    local old = rawget(out, name)
    if old == nil then
      out[name] = value
    elseif type(old) == "table" then
      old[#old + 1] = value
    else
      out[name] = { old, value }
    end
  end
  if C.weir_header_at(req, list, max, sv, sv + 1) == 0 then
    return out, "truncated"
  end
  return out
end


-- Checks the optional maximum of get_headers; its caller's caller is to blame.
function _M.check_max(max, what)
  if max == nil then
    return 100
  elseif type(max) ~= "number" then
    error(what .. " must be a number", 3)
  elseif max < 1 then
    error(what .. " must be >= 1", 3)
  elseif max > 1000 then
    error(what .. " must be <= 1000", 3)
  end
  return max
end


-- Raises unless the pair is one that a header can be made of.
function _M.check(name, value)
  if type(name) ~= "string" then
    error(format("invalid header name %q: got %s, expected string", tostring(name), type(name)),
          3)
  end
  local kind = type(value)
  if kind == "table" then
    for i = 1, #value do
      local item = type(value[i])
      if item ~= "string" and item ~= "number" and item ~= "boolean" then
        error(format("invalid header value in array %q: got %s, expected string", name, item), 3)
      end
    end
  elseif kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    error(format("invalid header value for %q: got %s, expected array of string, string, " ..
                 "number or boolean", name, kind), 3)
  end
end


-- Raises unless all pairs of the table are good.
function _M.check_all(headers)
  if type(headers) ~= "table" then
    error("headers must be a table", 3)
  end
  for name, value in pairs(headers) do
    if type(name) ~= "string" then
      error(format("invalid header name %q: got %s, expected string", tostring(name),
                   type(name)), 3)
    end
    local kind = type(value)
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" and kind ~= "table" then
      error(format("invalid header value for %q: got %s, expected array of string, string, " ..
                   "number or boolean", name, kind), 3)
    end
    for i = 1, kind == "table" and #value or 0 do
      local item = type(value[i])
      if item ~= "string" and item ~= "number" and item ~= "boolean" then
        error(format("invalid header value in array %q: got %s, expected string", name, item), 3)
      end
    end
  end
end


local function escape_control(c)
  return format("%%%02X", byte(c))
end


-- C refused: a value with CR, LF or the like (which may have come from a client) is
-- written with these escaped; a name that HTTP does not allow is the plugin's mistake.
local function write_escaped(write, req, list, name, value)
  value = gsub(value, "%c", escape_control)
  if write(req, list, name, #name, value, #value) ~= 0 then
    error(format("invalid header name %q: it holds a character that HTTP does not allow", name),
          5)
  end
end


local function set_one(req, list, name, value)
  if C.weir_header_set(req, list, name, #name, value, #value) ~= 0 then
    write_escaped(C.weir_header_set, req, list, name, value)
  end
end


local function add_one(req, list, name, value)
  if C.weir_header_add(req, list, name, #name, value, #value) ~= 0 then
    write_escaped(C.weir_header_add, req, list, name, value)
  end
end


-- The name has one field with this value; with an array one for each item, with an
-- empty array none.
function _M.set(req, list, name, value)
  if type(value) == "string" then
    set_one(req, list, name, value)
  elseif type(value) ~= "table" then
    set_one(req, list, name, tostring(value))
  elseif #value == 0 then
    C.weir_header_clear(req, list, name, #name)
  else
    set_one(req, list, name, tostring(value[1]))
    for i = 2, #value do
      add_one(req, list, name, tostring(value[i]))
    end
  end
end


-- Appends.
function _M.add(req, list, name, value)
  if type(value) ~= "table" then
    add_one(req, list, name, tostring(value))
    return
  end
  for i = 1, #value do
    add_one(req, list, name, tostring(value[i]))
  end
end


-- Sets all; the other headers stay.
function _M.set_all(req, list, headers)
  for name, value in pairs(headers) do
    _M.set(req, list, name, value)
  end
end


-- The first value, or nil. "_" in the name stands for "-" where no header is called so.
function _M.get(req, list, name)
  if C.weir_header_get(req, list, name, #name, sv) == 0 then
    return ffi_string(sv[0].p, sv[0].n)
  elseif find(name, "_", 1, true) then
    return _M.get(req, list, (gsub(name, "_", "-")))
  end
  return nil
end


return _M
