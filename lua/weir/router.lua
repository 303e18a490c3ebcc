-- Finds the route of a request by host, path, method and headers, with the
-- precedence of Kong's traditional_compatible router. All routes have one
-- total order (weir.route_entry); the answer is the first that matches.
-- Buckets by host and by path prefix find the candidates without walking
-- through all routes, and a bounded cache answers what was asked before.

local net = require("weir.schema.net")
local route_entry = require("weir.route_entry")

local byte, find, lower, sub = string.byte, string.find, string.lower, string.sub

-- Each of the two generations of each cache: at most this many answers.
local GENERATION_MAX = 2500
-- Longer requests are matched each time: the cache's memory is bounded in bytes, too.
local CACHED_PATH_BYTES_MAX = 512
local CACHED_HOST_BYTES_MAX = 255

local fits, expression_fits = route_entry.fits, route_entry.expression_fits

local router = {}
router.__index = router

local _M = {}

-- ---- buckets: the entries of one host pattern

local function new_bucket()
  return { prefixes = {}, lengths = {}, regexes = {}, pathless = {} }
end

local function add_to_bucket(bucket, entry)
  local list
  if not entry.path then
    list = bucket.pathless
  elseif entry.is_regex then
    list = bucket.regexes
  else
    list = bucket.prefixes[entry.path]
    if not list then
      list = {}
      bucket.prefixes[entry.path] = list
    end
  end
  if list[#list] ~= entry then
    list[#list + 1] = entry
  end
end

-- The lengths that prefixes have, longest first.
local function set_lengths(bucket)
  local seen, lengths = {}, bucket.lengths
  for prefix in pairs(bucket.prefixes) do
    if not seen[#prefix] then
      seen[#prefix] = true
      lengths[#lengths + 1] = #prefix
    end
  end
  table.sort(lengths, function(a, b)
    return a > b
  end)
end

local function first_fitting(list, limit, method, headers)
  for i = 1, #list do
    local entry = list[i]
    if entry.order >= limit then
      return nil
    end
    if fits(entry, method, headers) then
      return entry
    end
  end
end

-- The best entry of the bucket that stands before best; else best.
local function search_bucket(bucket, best, method, path, headers)
  local limit = best and best.order or math.huge
  local lengths = bucket.lengths
  for i = 1, #lengths do
    if lengths[i] <= #path then
      local list = bucket.prefixes[sub(path, 1, lengths[i])]
      local found = list and first_fitting(list, limit, method, headers)
      if found then
        best, limit = found, found.order
      end
    end
  end
  for _, entry in ipairs(bucket.regexes) do
    if entry.order >= limit then
      break
    end
    if fits(entry, method, headers) and expression_fits(entry, entry.pattern, path) then
      best, limit = entry, entry.order
    end
  end
  return first_fitting(bucket.pathless, limit, method, headers) or best
end

-- ---- hosts

-- A wildcard as the text that a host must end or begin with.
local function make_wildcard(host)
  local name, port = net.split_port(host)
  if byte(name) == 42 then
    return { suffix = sub(name, 2), port = port, bucket = new_bucket() }
  end
  return { prefix = sub(name, 1, -2), port = port, bucket = new_bucket() }
end

local function wildcard_fits(wildcard, name, port)
  if wildcard.port and wildcard.port ~= port then
    return false
  end
  if wildcard.suffix then
    return #name > #wildcard.suffix and sub(name, -#wildcard.suffix) == wildcard.suffix
  end
  return #name > #wildcard.prefix and sub(name, 1, #wildcard.prefix) == wildcard.prefix
end

-- A host in small letters, whole and in parts. A dot at the name's end says only that it is
-- complete, and a colon may have no port behind it: web servers take these for the same site,
-- so that rules must, too.
local function read_host(host)
  local whole = lower(host)
  if byte(whole, -1) == 58 then
    whole = sub(whole, 1, -2)
  end
  local name, port = net.split_port(whole)
  if #name > 1 and byte(name, -1) == 46 then
    name = sub(name, 1, -2)
    whole = port and name .. ":" .. port or name
  end
  return whole, name, port
end

function router:add_host(host, entry)
  host = read_host(host)
  if not find(host, "*", 1, true) then
    self.hosts[host] = self.hosts[host] or new_bucket()
    add_to_bucket(self.hosts[host], entry)
    return
  end
  local wildcard = self.wildcards[host]
  if not wildcard then
    wildcard = make_wildcard(host)
    self.wildcards[host] = wildcard
    self.wildcards[#self.wildcards + 1] = wildcard
  end
  add_to_bucket(wildcard.bucket, entry)
end

function router:add(entry)
  if entry.route.hosts and entry.route.hosts[1] then
    for _, host in ipairs(entry.route.hosts) do
      self:add_host(host, entry)
    end
  else
    add_to_bucket(self.any_host, entry)
  end
  for _, item in ipairs(entry.headers or {}) do
    if not self.header_names[item.name] then
      self.header_names[item.name] = true
      self.header_names[#self.header_names + 1] = item.name
    end
  end
end

-- ---- matching

function router:search(method, host, path, headers)
  local best = search_bucket(self.any_host, nil, method, path, headers)
  local whole, name, port = read_host(host)
  local exact = self.hosts[whole]
  if exact then
    best = search_bucket(exact, best, method, path, headers)
  end
  exact = name ~= whole and self.hosts[name]
  if exact then
    best = search_bucket(exact, best, method, path, headers)
  end
  local wildcards = self.wildcards
  for i = 1, #wildcards do
    if wildcard_fits(wildcards[i], name, port) then
      best = search_bucket(wildcards[i].bucket, best, method, path, headers)
    end
  end
  return best
end

local function make_match(entry, path)
  local route = entry.route
  local match = { route = route, service = route.service, strip = route.strip_path == true }
  if entry.is_regex then
    match.captures = entry.pattern:match(path)
    match.prefix = match.captures[0]
  else
    match.prefix = entry.path
  end
  return match
end

-- name -> array of values, of the headers that routes ask for; nil if none is there.
local function read_headers(self, source)
  local names = self.header_names
  local found
  for i = 1, #names do
    local values = self.get_header(source, names[i])
    if values then
      found = found or {}
      found[names[i]] = values
    end
  end
  return found
end

local function remember(self, method, host, path, match)
  if #path > CACHED_PATH_BYTES_MAX or #host > CACHED_HOST_BYTES_MAX or #method > 16 then
    return
  end
  if self.cached >= GENERATION_MAX then
    self.older, self.newer, self.cached = self.newer, {}, 0
  end
  local by_host = self.newer[method]
  if not by_host then
    by_host = {}
    self.newer[method] = by_host
  end
  local by_path = by_host[host]
  if not by_path then
    by_path = {}
    by_host[host] = by_path
  end
  by_path[path] = match
  self.cached = self.cached + 1
end

local function recall(generation, method, host, path)
  local by_host = generation[method]
  local by_path = by_host and by_host[host]
  return by_path and by_path[path]
end

local function match_anew(self, method, host, path, headers)
  local found = recall(self.older, method, host, path)
  if found == nil or headers then
    local entry = self:search(method, host, path, headers)
    found = entry and make_match(entry, path) or false
  end
  if not headers then
    remember(self, method, host, path, found)
  end
  return found or nil
end

-- The match of a request: {route, service, prefix, captures, strip}, shared and
-- not to be changed; nil when no route matches. path is in normal form. source
-- is what headers are read from when routes ask for some: by default a ctx.
function router:match(method, host, path, source)
  local headers = self.header_names[1] and source and read_headers(self, source) or nil
  if not headers then
    local by_host = self.newer[method]
    local by_path = by_host and by_host[host]
    local found = by_path and by_path[path]
    if found ~= nil then
      return found or nil
    end
  end
  return match_anew(self, method, host, path, headers)
end

-- All values of a header of ctx's request.
local function header_of_request(ctx, name)
  local weir = require("weir.ffi")
  local C, sv, str = weir.C, weir.sv, weir.str
  local req, list = ctx.req, C.WEIR_HEADERS_REQUEST
  if C.weir_header_get(req, list, name, #name, sv) ~= 0 then
    return nil
  end
  local values, i = {}, 0
  while C.weir_header_at(req, list, i, sv, sv + 1) ~= weir.NONE do
    if lower(str(sv[0])) == name then
      values[#values + 1] = str(sv[1])
    end
    i = i + 1
  end
  return values
end

-- A router for checked route entities, or nil and what is wrong.
-- get_header(source, name) -> array of values, or nil; see match.
function _M.new(routes, get_header)
  local entries, err = route_entry.make_all(routes)
  if not entries then
    return nil, err
  end
  local self = setmetatable({
    hosts = {}, wildcards = {}, any_host = new_bucket(), header_names = {},
    get_header = get_header or header_of_request, newer = {}, older = {}, cached = 0,
  }, router)
  for order, entry in ipairs(entries) do
    entry.order = order
    self:add(entry)
  end
  set_lengths(self.any_host)
  for _, bucket in pairs(self.hosts) do
    set_lengths(bucket)
  end
  for _, wildcard in ipairs(self.wildcards) do
    set_lengths(wildcard.bucket)
  end
  return self
end

return _M
