-- The description of a finished request for log plugins (kong.log.serialize), in
-- the form that Kong's log plugins send. Reads the request; owns nothing.

local headers = require "weir.pdk.headers"
local json = require "weir.json"
local query = require "weir.pdk.query"
local real_ip = require "weir.real_ip"
local weir = require "weir.ffi"

local C = weir.C
local sv = weir.sv
local ffi_string = weir.ffi.string

local floor = math.floor
local gmatch = string.gmatch
local gsub = string.gsub
local lower = string.lower
local pairs = pairs
local tonumber = tonumber
local type = type

local REQUEST = tonumber(C.WEIR_HEADERS_REQUEST)
local RESPONSE = tonumber(C.WEIR_HEADERS_RESPONSE)
local SOURCE_SERVICE = 3

local HEADERS_MAX = 1000


local function text(req, what)
  C.weir_req_get(req, what, sv)
  return ffi_string(sv[0].p, sv[0].n)
end


local function number(req, what)
  return C.weir_req_number(req, what)
end


local function request_part(req)
  local scheme, host = text(req, C.WEIR_REQ_SCHEME), lower(text(req, C.WEIR_REQ_HOST))
  local uri = text(req, C.WEIR_REQ_URI)
  local all = headers.collect(req, REQUEST, HEADERS_MAX)
  for _, name in ipairs({ "authorization", "proxy-authorization" }) do
    if all[name] then
      all[name] = "REDACTED"
    end
  end
  return {
    id = text(req, C.WEIR_REQ_ID),
    method = text(req, C.WEIR_REQ_METHOD),
    uri = uri,
    -- COMPAT(kong): the port is that of the web server, and always there
    url = scheme .. "://" .. gsub(host, ":%d*$", "") .. ":"
      .. number(req, C.WEIR_REQ_SERVER_PORT) .. uri,
    querystring = (query.parse(text(req, C.WEIR_REQ_QUERY), 100)),
    headers = all,
    size = number(req, C.WEIR_REQ_BODY_BYTES),
  }
end


-- Milliseconds between two times in microseconds; -1 when one of them did not happen.
local function span(from_us, to_us)
  if from_us == 0 or to_us == 0 or to_us < from_us then
    return -1
  end
  return floor((to_us - from_us) / 1000)
end


local function latencies_part(req)
  local start = number(req, C.WEIR_REQ_START_US)
  local sent = number(req, C.WEIR_REQ_UPSTREAM_START_US)
  local head = number(req, C.WEIR_REQ_UPSTREAM_HEAD_US)
  local ended = number(req, C.WEIR_REQ_UPSTREAM_END_US)
  local total = span(start, C.weir_mono_us())
  local proxy, receive = span(sent, head), span(head, ended)
  local own = total
  if proxy > 0 then
    own = own - proxy
  end
  if receive > 0 then
    own = own - receive
  end
  return { request = total, proxy = proxy, receive = receive, kong = own < 0 and 0 or own }
end


-- COMPAT(kong): a route names its service; what that is stands beside it.
local function route_part(route)
  if not route or not route.service then
    return route
  end
  local out = {}
  for name, value in pairs(route) do
    out[name] = value
  end
  out.service = { id = route.service.id }
  return out
end


local function apply(out, change)
  local parent, key = out, nil
  for part in gmatch(change.key, "[^.]+") do
    if key then
      if type(parent[key]) ~= "table" then
        if change.mode == "replace" or change.value == nil then
          return
        end
        parent[key] = {}
      end
      parent = parent[key]
    end
    key = part
  end
  if not key or (change.mode == "add" and parent[key] ~= nil)
     or (change.mode == "replace" and parent[key] == nil)
  then
    return
  end
  parent[key] = change.value
end


-- The description of the request of this context.
return function(ctx)
  local req = ctx.req
  local upstream_status = number(req, C.WEIR_REQ_UPSTREAM_STATUS)
  local by_service = number(req, C.WEIR_REQ_SOURCE) == SOURCE_SERVICE
  local out = {
    request = request_part(req),
    response = {
      status = number(req, C.WEIR_REQ_STATUS),
      headers = (headers.collect(req, RESPONSE, HEADERS_MAX)),
      size = number(req, C.WEIR_REQ_RESP_BYTES),
    },
    latencies = latencies_part(req),
    upstream_status = upstream_status ~= 0 and ("%d"):format(upstream_status) or nil,
    upstream_uri = ctx.upstream_uri,
    tries = json.empty_array,
    route = route_part(ctx.route),
    service = ctx.service,
    client_ip = real_ip.address(ctx),
    started_at = number(req, C.WEIR_REQ_START_MS),
    source = by_service and "upstream" or "kong",
  }
  local changes = ctx.serialize_values
  for i = 1, changes and #changes or 0 do
    apply(out, changes[i])
  end
  return out
end
