-- What one path of a route asks of a request, compiled, and its place in the
-- one total order of all entries (Kong's traditional_compatible): more kinds
-- of attributes, plain hosts, more headers, regular expressions, their
-- priority, longer prefixes, then age.

local re = require("weir.re")

local byte, find, lower, sub = string.byte, string.find, string.lower, string.sub

local _M = {}

local function filled(list)
  return list ~= nil and next(list) ~= nil
end

local function has_wildcard(hosts)
  for _, host in ipairs(hosts) do
    if find(host, "*", 1, true) then
      return true
    end
  end
  return false
end

local function count_headers(headers)
  local n = 0
  for _ in pairs(headers or {}) do
    n = n + 1
  end
  return n
end

-- One entry per path of a route: what it asks for, and its place in the order.
local function make_entry(route, path, position)
  local kinds = 0
  for _, field in ipairs({ "hosts", "paths", "methods", "headers" }) do
    if filled(route[field]) then
      kinds = kinds + 1
    end
  end
  local is_regex = path ~= nil and byte(path) == 126
  return {
    route = route, path = path, is_regex = is_regex, position = position, kinds = kinds,
    plain_hosts = filled(route.hosts) and not has_wildcard(route.hosts) and 1 or 0,
    header_count = math.min(count_headers(route.headers), 255),
    regex = is_regex and 1 or 0,
    regex_priority = is_regex and (route.regex_priority or 0) or 0,
    length = path and not is_regex and #path or 0,
    created_at = route.created_at or 0,
  }
end

local precedence = { "kinds", "plain_hosts", "header_count", "regex", "regex_priority", "length" }

local function comes_before(a, b)
  for i = 1, #precedence do
    local field = precedence[i]
    if a[field] ~= b[field] then
      return a[field] > b[field]
    end
  end
  if a.created_at ~= b.created_at then
    return a.created_at < b.created_at
  end
  return a.position < b.position
end

-- ---- what an entry asks for besides host and path

local function make_methods(route)
  if not filled(route.methods) then
    return nil
  end
  local set = {}
  for _, method in ipairs(route.methods) do
    set[method] = true
  end
  return set
end

-- Values are compared without regard to case; "~*" marks a regular expression.
local function make_headers(route)
  if not filled(route.headers) then
    return nil
  end
  local out = {}
  for name, values in pairs(route.headers) do
    local item = { name = lower(name), values = {}, patterns = {} }
    for _, value in ipairs(values) do
      if sub(value, 1, 2) == "~*" then
        local pattern, err = re.compile(sub(value, 3), "i")
        if not pattern then
          return nil, "header " .. name .. ": " .. err
        end
        item.patterns[#item.patterns + 1] = pattern
      else
        item.values[lower(value)] = true
      end
    end
    out[#out + 1] = item
  end
  return out
end

local function compile_entry(entry)
  local err
  entry.methods = make_methods(entry.route)
  entry.headers, err = make_headers(entry.route)
  if err then
    return nil, err
  end
  if entry.is_regex then
    entry.pattern, err = re.compile(sub(entry.path, 2), "a")
    if not entry.pattern then
      return nil, "path " .. entry.path .. ": " .. err
    end
  end
  return true
end

-- Whether an expression of the entry matches. A match that was given up decides
-- nothing: to go on with the next route could pass by the plugins of this one,
-- so that the request fails.
local function expression_fits(entry, pattern, text)
  local first, err = pattern:find(text)
  if err and not first then
    error("route " .. (entry.route.name or entry.route.id) .. ": " .. err, 0)
  end
  return first ~= nil
end
_M.expression_fits = expression_fits

local function header_fits(entry, item, values)
  for i = 1, #values do
    if item.values[lower(values[i])] then
      return true
    end
    for _, pattern in ipairs(item.patterns) do
      if expression_fits(entry, pattern, values[i]) then
        return true
      end
    end
  end
  return false
end

-- True when the entry's methods and headers hold; headers: name -> array of values.
function _M.fits(entry, method, headers)
  if entry.methods and not entry.methods[method] then
    return false
  end
  if entry.headers then
    for _, item in ipairs(entry.headers) do
      local values = headers and headers[item.name]
      if not values or not header_fits(entry, item, values) then
        return false
      end
    end
  end
  return true
end

-- The entries of route entities in their order, or nil and what is wrong.
function _M.make_all(routes)
  local entries = {}
  for position, route in ipairs(routes) do
    local service = route.service
    -- a service that is switched off has no routes
    local paths = service and service.enabled == false and {}
      or filled(route.paths) and route.paths or { false }
    for _, path in ipairs(paths) do
      local entry = make_entry(route, path or nil, position)
      local ok, err = compile_entry(entry)
      if not ok then
        return nil, "route " .. (route.name or route.id) .. ": " .. err
      end
      entries[#entries + 1] = entry
    end
  end
  table.sort(entries, comes_before)
  return entries
end

return _M
