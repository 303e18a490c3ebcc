-- kong.request: what the client sent. Reads only. The hot functions are a phase
-- check, one call into C and one string; they stay compiled.

local body_codec = require "weir.pdk.body"
local headers = require "weir.pdk.headers"
local phases = require "weir.phases"
local query = require "weir.pdk.query"
local real_ip = require "weir.real_ip"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C = weir.C
local sv = weir.sv
local ffi_string = weir.ffi.string
local band = require("bit").band

local error = error
local find = string.find
local lower = string.lower
local match = string.match
local pairs = pairs
local sub = string.sub
local tonumber = tonumber
local type = type
local wrong_phase = phases.wrong

local ANY = phases.request
local BODY = phases.rewrite + phases.access + phases.response

local HEADERS = tonumber(C.WEIR_HEADERS_REQUEST)
local METHOD = tonumber(C.WEIR_REQ_METHOD)
local URI = tonumber(C.WEIR_REQ_URI)
local RAW_PATH = tonumber(C.WEIR_REQ_RAW_PATH)
local PATH = tonumber(C.WEIR_REQ_PATH)
local QUERY = tonumber(C.WEIR_REQ_QUERY)
local SCHEME = tonumber(C.WEIR_REQ_SCHEME)
local PROTOCOL = tonumber(C.WEIR_REQ_PROTOCOL)
local HOST = tonumber(C.WEIR_REQ_HOST)
local SERVER_PORT = tonumber(C.WEIR_REQ_SERVER_PORT)
local START_MS = tonumber(C.WEIR_REQ_START_MS)

local WAIT = weir.WAIT
local TOO_LARGE = -3


local _M = {}


local function text_of(ctx, what)
  C.weir_req_get(ctx.req, what, sv)
  return ffi_string(sv[0].p, sv[0].n)
end


-- "Example.com:8080" -> "example.com", "8080"
local function split_host(host)
  local name, port
  if sub(host, 1, 1) == "[" then
    name, port = match(host, "^(%[[^%]]*%]):?(%d*)$")
  else
    name, port = match(host, "^([^:]*):?(%d*)$")
  end
  return lower(name or host), port
end


--- The scheme of the request's URL, as the web server received it.
-- @function kong.request.get_scheme
-- @phases request
-- @treturn string `http` or `https`
-- @usage
-- kong.request.get_scheme() -- "https"
function _M.get_scheme()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return (text_of(ctx, SCHEME))
end


--- The host of the request's URL, in lower case and without a port.
-- @function kong.request.get_host
-- @phases request
-- @treturn string the host
-- @usage
-- kong.request.get_host() -- "example.com"
function _M.get_host()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return (split_host(text_of(ctx, HOST)))
end


--- The port on which the web server received the request.
-- @function kong.request.get_port
-- @phases request
-- @treturn number the port
-- @usage
-- kong.request.get_port() -- 443
function _M.get_port()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return C.weir_req_number(ctx.req, SERVER_PORT)
end


--- The scheme that the client used. `X-Forwarded-Proto` is believed only if the peer
-- is one of `trusted_ips`; otherwise this is kong.request.get_scheme.
-- @function kong.request.get_forwarded_scheme
-- @phases request
-- @treturn string `http` or `https`
-- @usage
-- kong.request.get_forwarded_scheme() -- "https"
function _M.get_forwarded_scheme()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  local scheme = real_ip.forwarded(ctx, "x-forwarded-proto")
  return scheme and lower(scheme) or text_of(ctx, SCHEME)
end


--- The host that the client asked for. `X-Forwarded-Host` is believed only if the
-- peer is one of `trusted_ips`; otherwise this is kong.request.get_host.
-- @function kong.request.get_forwarded_host
-- @phases request
-- @treturn string the host, in lower case and without a port
-- @usage
-- kong.request.get_forwarded_host() -- "example.com"
function _M.get_forwarded_host()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return (split_host(real_ip.forwarded(ctx, "x-forwarded-host") or text_of(ctx, HOST)))
end


--- The port that the client connected to. `X-Forwarded-Port`, then the port in
-- `X-Forwarded-Host`, are believed only if the peer is one of `trusted_ips`.
-- @function kong.request.get_forwarded_port
-- @phases request
-- @treturn number the port
-- @usage
-- kong.request.get_forwarded_port() -- 443
function _M.get_forwarded_port()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  local port = tonumber(real_ip.forwarded(ctx, "x-forwarded-port"))
  if not port then
    local host = real_ip.forwarded(ctx, "x-forwarded-host")
    if host then
      local _, host_port = split_host(host)
      port = tonumber(host_port)
    end
  end
  if port and port >= 1 and port <= 65535 then
    return port
  end
  return C.weir_req_number(ctx.req, SERVER_PORT)
end


--- The path that the client asked for. `X-Forwarded-Path` is believed only if the
-- peer is one of `trusted_ips`; otherwise it is the raw path of this request.
-- @function kong.request.get_forwarded_path
-- @phases request
-- @treturn string the path, undecoded, without the query
-- @usage
-- kong.request.get_forwarded_path() -- "/v1/users"
function _M.get_forwarded_path()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return real_ip.forwarded(ctx, "x-forwarded-path") or text_of(ctx, RAW_PATH)
end


--- The part of the path that was taken away before the request went on:
-- `X-Forwarded-Prefix` if the peer is one of `trusted_ips`, otherwise the prefix that
-- the matched route strips.
-- @function kong.request.get_forwarded_prefix
-- @phases request
-- @treturn string|nil the prefix, or nil if nothing was stripped
-- @usage
-- kong.request.get_forwarded_prefix() -- "/v1"
function _M.get_forwarded_prefix()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  local prefix = real_ip.forwarded(ctx, "x-forwarded-prefix")
  if prefix then
    return prefix
  end
  local found = ctx.match
  if found and found.strip and found.prefix and found.prefix ~= "/" and found.prefix ~= "" then
    return found.prefix
  end
  return nil
end


--- The version of HTTP that the client spoke.
-- @function kong.request.get_http_version
-- @phases request
-- @treturn number|nil 1, 1.1, 2 or 3; nil if the web server did not say
-- @usage
-- kong.request.get_http_version() -- 1.1
function _M.get_http_version()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return tonumber((match(text_of(ctx, PROTOCOL), "^HTTP/([%d.]+)$")))
end


--- The method of the request, in upper case.
-- @function kong.request.get_method
-- @phases request
-- @treturn string the method
-- @usage
-- kong.request.get_method() -- "GET"
function _M.get_method()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  C.weir_req_get(ctx.req, METHOD, sv)
  return ffi_string(sv[0].p, sv[0].n)
end


--- The path of the request, decoded and normalised, without the query: the path
-- that routes are matched with.
-- @function kong.request.get_path
-- @phases request
-- @treturn string the path
-- @usage
-- -- for GET /v1/%2e%2e/users?page=2
-- kong.request.get_path() -- "/users"
function _M.get_path()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  C.weir_req_get(ctx.req, PATH, sv)
  return ffi_string(sv[0].p, sv[0].n)
end


--- The path exactly as the client wrote it, without the query.
-- @function kong.request.get_raw_path
-- @phases request
-- @treturn string the path
-- @usage
-- kong.request.get_raw_path() -- "/v1/%2e%2e/users"
function _M.get_raw_path()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return (text_of(ctx, RAW_PATH))
end


--- Path and query exactly as the client wrote them.
-- @function kong.request.get_path_with_query
-- @phases request
-- @treturn string the path, and the query behind `?` if there is one
-- @usage
-- kong.request.get_path_with_query() -- "/users?page=2"
function _M.get_path_with_query()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return (text_of(ctx, URI))
end


--- The query as it came, without `?` and undecoded.
-- @function kong.request.get_raw_query
-- @phases request
-- @treturn string the query; empty if there is none
-- @usage
-- kong.request.get_raw_query() -- "page=2&q=a%20b"
function _M.get_raw_query()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return (text_of(ctx, QUERY))
end


--- One argument of the query, decoded; the first if it is there several times.
-- The first 100 arguments are looked at.
-- @function kong.request.get_query_arg
-- @phases request
-- @param name string the argument's name, case-sensitive
-- @treturn string|boolean|nil the value; true for an argument without a value
-- @usage
-- kong.request.get_query_arg("page") -- "2"
function _M.get_query_arg(name)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  if type(name) ~= "string" then
    error("query argument name must be a string", 2)
  end
  return (query.first(text_of(ctx, QUERY), name, 100))
end


--- All arguments of the query, decoded. An argument that is there several times is an
-- array, one without a value is true.
-- @function kong.request.get_query
-- @phases request
-- @param max_args number|nil how many are read: 1 to 1000, by default 100
-- @treturn table the arguments
-- @treturn string|nil `truncated` if there were more
-- @usage
-- kong.request.get_query().page -- "2"
function _M.get_query(max_args)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  local max = headers.check_max(max_args, "max_args")
  local args, err = query.parse(text_of(ctx, QUERY), max)
  return args, err
end


--- One header of the request: its first value. Case does not matter in names, and
-- `_` stands for `-`.
-- @function kong.request.get_header
-- @phases request
-- @param name string the header's name
-- @treturn string|nil the value
-- @usage
-- kong.request.get_header("accept") -- "text/html"
function _M.get_header(name)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  if type(name) ~= "string" then
    error("header name must be a string", 2)
  end
  return (headers.get(ctx.req, HEADERS, name))
end


--- All headers of the request. Names are in lower case; reading the table takes any
-- case, and `_` for `-`. A header that is there several times is an array.
-- @function kong.request.get_headers
-- @phases request
-- @param max_headers number|nil how many are read: 1 to 1000, by default 100
-- @treturn table the headers
-- @treturn string|nil `truncated` if there were more
-- @usage
-- kong.request.get_headers()["X-Api-Key"]
function _M.get_headers(max_headers)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  local max = headers.check_max(max_headers, "max_headers")
  local all, err = headers.collect(ctx.req, HEADERS, max)
  return all, err
end


local function read_body(ctx)
  local rc = C.weir_req_body(ctx.req, sv)
  while rc == WAIT do
    wait()
    rc = C.weir_req_body(ctx.req, sv)
  end
  if rc == 0 then
    return ffi_string(sv[0].p, sv[0].n)
  elseif rc == TOO_LARGE then
    return nil, "request body did not fit into client body buffer, " ..
                "consider raising 'client_body_buffer_size'"
  end
  return nil, weir.strerror(rc)
end


--- The whole body of the request. Waits until it has arrived. Bodies beyond
-- `client_body_buffer_size` cannot be read by plugins; they still reach the upstream. What a
-- plugin has put in its place is what is read from then on.
-- @function kong.request.get_raw_body
-- @phases rewrite, access, response
-- @treturn string|nil the body; empty if there is none
-- @treturn string|nil why it cannot be read
-- @usage
-- local body, err = kong.request.get_raw_body()
function _M.get_raw_body()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BODY) == 0 then
    wrong_phase(ctx, BODY)
  end
  local body, err = read_body(ctx)
  return body, err
end


--- The body of the request as a table: urlencoded form, JSON (empty arrays stay
-- arrays) or multipart form, by the Content-Type or by mimetype if that is given.
-- @function kong.request.get_body
-- @phases rewrite, access, response
-- @param mimetype string|nil read the body as this type
-- @param max_args number|nil how many form arguments are read: 1 to 1000, by default 100
-- @treturn table|nil the body
-- @treturn string|nil why it cannot be read, e.g. `missing content type`
-- @treturn string|nil the media type
-- @usage
-- local body, err, mimetype = kong.request.get_body()
function _M.get_body(mimetype, max_args)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BODY) == 0 then
    wrong_phase(ctx, BODY)
  end
  local max = headers.check_max(max_args, "max_args")
  local content_type = headers.get(ctx.req, HEADERS, "content-type")
  if mimetype and not (content_type and find(content_type, mimetype, 1, true)) then
    content_type = mimetype
  end
  if not content_type then
    return nil, "missing content type"
  end
  local text, err = read_body(ctx)
  if not text then
    return nil, err, body_codec.media_type(content_type)
  end
  return body_codec.decode(text, content_type, max)
end


--- When the request arrived.
-- @function kong.request.get_start_time
-- @phases request
-- @treturn number milliseconds since 1970-01-01 UTC
-- @usage
-- kong.request.get_start_time() -- 1649960273000
function _M.get_start_time()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  return C.weir_req_number(ctx.req, START_MS)
end


--- What the groups of the matched route's regular expression took.
-- @function kong.request.get_uri_captures
-- @phases request
-- @treturn table `named`, a map, and `unnamed`, an array
-- @usage
-- -- for the path ~/users/(?<id>\d+)
-- kong.request.get_uri_captures().named.id -- "17"
function _M.get_uri_captures()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  local named, unnamed = {}, {}
  local captures = ctx.match and ctx.match.captures
  if captures then
    for key, value in pairs(captures) do
      if type(key) ~= "number" then
        named[key] = value
      elseif key > 0 then -- 0 is all that the expression took
        unnamed[key] = value
      end
    end
  end
  return { named = named, unnamed = unnamed }
end


return _M
