-- The path that a service is asked for: the service's own path joined with
-- the request's, in the two ways that routes know (path_handling v0 and v1).

local byte, sub = string.byte, string.sub

local SLASH, DOT = 47, 46

local _M = {}

-- The rest behind a stripped prefix must not climb out of the service's path.
local function without_dots(rest)
  if byte(rest) ~= DOT then
    return rest
  end
  local behind = byte(rest, 2) == DOT and 3 or 2
  local next_byte = byte(rest, behind)
  if next_byte == nil then
    return ""
  end
  return next_byte == SLASH and sub(rest, behind + 1) or rest
end

local function strip_v0(base, path, rest)
  local base_slash = byte(base, -1) == SLASH
  if rest == "" then
    local keeps_slash = #path > 1 and byte(path, -1) == SLASH
    if not base_slash then
      return keeps_slash and base .. "/" or base
    end
    return (base == "/" or byte(path, -1) == SLASH) and base or sub(base, 1, -2)
  end
  local rest_slash = byte(rest) == SLASH
  if base_slash then
    return rest_slash and sub(base, 1, -2) .. rest or base .. rest
  end
  return rest_slash and base .. rest or base .. "/" .. rest
end

local function keep_v0(base, path)
  if base == "/" then
    return path
  end
  if byte(base, -1) == SLASH then
    return base .. sub(path, 2)
  end
  return path == "/" and base or base .. path
end

local function join_v1(base, rest)
  if byte(base, -1) ~= SLASH then
    return base .. rest
  end
  return base .. (byte(rest) == SLASH and sub(rest, 2) or without_dots(rest))
end

-- path is the request's in normal form; match is the router's.
function _M.build(service, route, match, path)
  local base = service.path or "/"
  local prefix = match.prefix
  local strip = match.strip and prefix ~= nil
  if route.path_handling == "v1" then
    return join_v1(base, strip and sub(path, #prefix + 1) or sub(path, 2))
  end
  if strip then
    return strip_v0(base, path, without_dots(sub(path, #prefix + 1)))
  end
  return keep_v0(base, path)
end

return _M
