-- References to secrets: {vault://name/resource[/key][?query][#version]}. Only
-- their grammar, with Kong's messages; whether a vault of that name exists is
-- weir.vault's business.

local query = require "weir.pdk.query"

local QUERY_ARGS_MAX = 100

local _M = {}


-- The cheap test: nothing else of it may be right.
function _M.is(text)
  return type(text) == "string" and text:sub(1, 9) == "{vault://" and text:sub(-1) == "}"
end


local function unescape(text)
  return (text:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end


-- "/a//b/c" -> resource "a/b", key "c"; "/a/b/" -> resource "a/b". nil when it is empty.
local function split(path)
  local parts = {}
  for part in path:gmatch("[^/]+") do
    parts[#parts + 1] = unescape(part)
  end
  local key
  if #parts > 1 and path:sub(-1) ~= "/" then
    key = table.remove(parts)
  end
  if #parts > 0 then
    return table.concat(parts, "/"), key
  end
end


-- { name =, resource =, key =, config = (the query, a table), version = } | nil, err.
function _M.parse(text)
  local function refuse(why)
    return nil, why .. " [" .. tostring(text) .. "]"
  end
  if not _M.is(text) then
    return refuse("not a reference")
  end
  local rest, fragment = text:sub(10, -2):match("^([^#]*)#?(.*)$")
  local path_part, arguments = rest:match("^([^?]*)%??(.*)$")
  local name, path = path_part:match("^([^/]*)(.*)$")
  if name == "" then
    return refuse("reference url is missing host")
  end
  if path == "" then
    return refuse("reference url is missing path")
  end
  if path == "/" then
    return refuse("reference url has empty path")
  end
  local resource, key = split(path)
  if not resource then
    return refuse("reference url has invalid path")
  end
  local version
  if text:find("#", 1, true) then
    version = fragment:find("^%d+$") and tonumber(fragment)
    if not version then
      return refuse("reference url has invalid version")
    end
  end
  return {
    name = name, resource = resource, key = key, version = version,
    config = arguments ~= "" and query.parse(arguments, QUERY_ARGS_MAX) or nil,
  }
end


return _M
