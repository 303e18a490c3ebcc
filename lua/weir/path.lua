-- Request paths as routes and services name them: the normal form that rules
-- are compared in, and what a configured path may look like. The same normal
-- form is made of each request's path before it is matched.

local byte, char, find, format, gsub = string.byte, string.char, string.find, string.format,
  string.gsub

local _M = {}

local function decode_unreserved(hex)
  local code = tonumber(hex, 16)
  local c = char(code)
  if find(c, "[%w%-._~]") then
    return c
  end
  return format("%%%02X", code)
end

local function remove_dots(path)
  local out, n = {}, 0
  for segment in path:gmatch("/([^/]*)") do
    if segment == ".." then
      n = n > 0 and n - 1 or 0
    elseif segment ~= "." then
      n = n + 1
      out[n] = segment
    end
  end
  if find(path, "/%.%.?$") then
    n = n + 1
    out[n] = ""
  end
  return "/" .. table.concat(out, "/", 1, n)
end

-- The normal form: unreserved characters decoded, other escapes in upper case,
-- dot segments removed, slashes merged.
function _M.normalize(path)
  if find(path, "%", 1, true) then
    path = gsub(path, "%%(%x%x)", decode_unreserved)
  end
  if find(path, "//", 1, true) then
    path = gsub(path, "//+", "/")
  end
  if find(path, "/.", 1, true) then
    path = remove_dots(path)
  end
  return path
end

-- Refuses characters outside of RFC 3986 and broken escapes.
function _M.check_characters(path)
  if find(path, "[^%w%-._~:/?#%[%]@!$&'()*+,;=%%]") then
    return nil, "invalid path: '" .. path
      .. "' (characters outside of the reserved list of RFC 3986 found)"
  end
  local at = 1
  while true do
    at = find(path, "%", at, true)
    if not at then
      return true
    end
    local escape = path:sub(at, at + 2)
    if not find(escape, "^%%%x%x$") then
      return nil, "invalid url-encoded value: '" .. escape .. "'"
    end
    at = at + 1
  end
end

local function check_regex(pattern)
  local re, err = require("weir.re").compile(pattern)
  if re then
    return true
  end
  return nil, "invalid regex: '" .. pattern .. "' (PCRE returned: " .. tostring(err) .. ")"
end

-- A route's path: a prefix in normal form, or "~" and a regular expression.
function _M.check_router_path(path)
  if byte(path) == 126 then
    return check_regex(path:sub(2))
  end
  if find(path, "//", 1, true) then
    return nil, "must not have empty segments"
  end
  local ok, err = _M.check_characters(path)
  if not ok then
    return nil, err
  end
  local normal = _M.normalize(path)
  if normal ~= path then
    return nil, "non-normalized path, consider use '" .. normal .. "' instead"
  end
  return true
end

return _M
