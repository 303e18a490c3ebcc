-- kong.service.request: what the upstream will get. Method, query, headers and
-- body are changed in the request itself; scheme and path are overrides in
-- ctx.upstream, Host is ctx.upstream.host_header.

local body_codec = require "weir.pdk.body"
local headers = require "weir.pdk.headers"
local phases = require "weir.phases"
local query = require "weir.pdk.query"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C = weir.C
local sv = weir.sv
local ffi_string = weir.ffi.string
local band = require("bit").band

local byte = string.byte
local error = error
local find = string.find
local gsub = string.gsub
local lower = string.lower
local pairs = pairs
local tonumber = tonumber
local tostring = tostring
local type = type
local wrong_phase = phases.wrong

local BEFORE = phases.rewrite + phases.access
local BEFORE_OR_BALANCER = BEFORE + phases.balancer

local HEADERS = tonumber(C.WEIR_HEADERS_REQUEST)
local METHOD = tonumber(C.WEIR_REQ_METHOD)
local QUERY = tonumber(C.WEIR_REQ_QUERY)

local METHODS = {
  GET = true, HEAD = true, PUT = true, POST = true, DELETE = true, OPTIONS = true,
  MKCOL = true, COPY = true, MOVE = true, PROPFIND = true, PROPPATCH = true, LOCK = true,
  UNLOCK = true, PATCH = true, TRACE = true,
}

local SLASH = byte("/")


local _M = {}


local function overrides(ctx)
  local upstream = ctx.upstream
  if not upstream then
    upstream = {}
    ctx.upstream = upstream
  end
  return upstream
end


local function set_query_text(ctx, text)
  C.weir_req_set(ctx.req, QUERY, text, #text)
end


local function query_text(ctx)
  C.weir_req_get(ctx.req, QUERY, sv)
  return ffi_string(sv[0].p, sv[0].n)
end


-- Host is not sent as the client wrote it, but as the route and the service say.
local function is_host(name)
  return #name == 4 and lower(name) == "host"
end


local function set_one(ctx, name, value)
  if is_host(name) then
    overrides(ctx).host_header = tostring(type(value) == "table" and value[1] or value)
  else
    headers.set(ctx.req, HEADERS, name, value)
  end
end


--- The scheme that the upstream is spoken to with.
-- @function kong.service.request.set_scheme
-- @phases rewrite, access
-- @param scheme string a protocol that a service can have, e.g. `http`
-- @treturn nil
-- @usage
-- kong.service.request.set_scheme("http")
function _M.set_scheme(scheme)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE) == 0 then
    wrong_phase(ctx, BEFORE)
  end
  if type(scheme) ~= "string" then
    error("scheme must be a string", 2)
  end
  if scheme ~= "http" then
    error("invalid scheme: " .. scheme, 2)
  end
  overrides(ctx).scheme = scheme
end


local function escape_byte(c)
  return ("%%%02X"):format(byte(c))
end


--- The path that the upstream is asked for, instead of the one that service and route
-- give. The query stays.
-- @function kong.service.request.set_path
-- @phases rewrite, access
-- @param path string begins with `/`; what a path cannot hold is percent-encoded
-- @treturn nil
-- @usage
-- kong.service.request.set_path("/v2/movies")
function _M.set_path(path)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE) == 0 then
    wrong_phase(ctx, BEFORE)
  end
  if type(path) ~= "string" then
    error("path must be a string", 2)
  end
  if byte(path) ~= SLASH then
    error("path must start with /", 2)
  end
  overrides(ctx).path = (gsub(path, "[%c \"<>\\^`{|}?#\128-\255]", escape_byte))
end


--- The query that the upstream gets, as it goes on the wire.
-- @function kong.service.request.set_raw_query
-- @phases rewrite, access
-- @param text string without `?`; empty for no query
-- @treturn nil
-- @usage
-- kong.service.request.set_raw_query("zzz&bar=baz")
function _M.set_raw_query(text)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE) == 0 then
    wrong_phase(ctx, BEFORE)
  end
  if type(text) ~= "string" then
    error("query must be a string", 2)
  end
  -- Blanks and control characters would end the request line.
  if find(text, "[%c ]") then
    text = gsub(text, "[%c ]", escape_byte)
  end
  set_query_text(ctx, text)
end


--- The method that the upstream gets.
-- @function kong.service.request.set_method
-- @phases rewrite, access
-- @param method string a method of HTTP, in upper case
-- @treturn nil
-- @usage
-- kong.service.request.set_method("DELETE")
function _M.set_method(method)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE) == 0 then
    wrong_phase(ctx, BEFORE)
  end
  if type(method) ~= "string" then
    error("method must be a string", 2)
  end
  if not METHODS[method] then
    error("invalid method: " .. method, 2)
  end
  C.weir_req_set(ctx.req, METHOD, method, #method)
end


--- The query that the upstream gets, as a table. Arguments are sorted by name.
-- @function kong.service.request.set_query
-- @phases rewrite, access
-- @param args table name to string, number, boolean (true: a bare name, false: nothing)
-- or an array of these
-- @treturn nil
-- @usage
-- kong.service.request.set_query({ foo = "hello world", bar = { "baz", true }, zzz = true })
-- -- bar=baz&bar&foo=hello%20world&zzz
function _M.set_query(args)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE) == 0 then
    wrong_phase(ctx, BEFORE)
  end
  if type(args) ~= "table" then
    error("args must be a table", 2)
  end
  local text, err = query.encode(args)
  if not text then
    error(err, 2)
  end
  set_query_text(ctx, text)
end


--- Takes one argument out of the query; the others stay as they are.
-- @function kong.service.request.clear_query_arg
-- @phases rewrite, access
-- @param name string the argument's name, decoded
-- @treturn nil
-- @usage
-- kong.service.request.clear_query_arg("apikey")
function _M.clear_query_arg(name)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE) == 0 then
    wrong_phase(ctx, BEFORE)
  end
  if type(name) ~= "string" then
    error("query argument name must be a string", 2)
  end
  set_query_text(ctx, query.without(query_text(ctx), name))
end


--- Sets a header of the request to the upstream; other fields of that name go.
-- @function kong.service.request.set_header
-- @phases rewrite, access, balancer
-- @param name string the header's name; `Host` is the host that the upstream is asked for
-- @param value string|number|boolean|table the value, or an array of values
-- @treturn nil
-- @usage
-- kong.service.request.set_header("X-User", "anna")
function _M.set_header(name, value)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE_OR_BALANCER) == 0 then
    wrong_phase(ctx, BEFORE_OR_BALANCER)
  end
  if type(name) ~= "string" or type(value) ~= "string" then
    headers.check(name, value)
  end
  set_one(ctx, name, value)
end


--- Adds a field to the request to the upstream; fields of the same name stay.
-- @function kong.service.request.add_header
-- @phases rewrite, access, balancer
-- @param name string the header's name
-- @param value string|number|boolean|table the value, or an array of values
-- @treturn nil
-- @usage
-- kong.service.request.add_header("Cache-Control", "no-cache")
function _M.add_header(name, value)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE_OR_BALANCER) == 0 then
    wrong_phase(ctx, BEFORE_OR_BALANCER)
  end
  headers.check(name, value)
  if is_host(name) then
    set_one(ctx, name, value)
  else
    headers.add(ctx.req, HEADERS, name, value)
  end
end


--- Takes all fields of a name out of the request to the upstream.
-- @function kong.service.request.clear_header
-- @phases rewrite, access, balancer
-- @param name string the header's name
-- @treturn nil
-- @usage
-- kong.service.request.clear_header("Authorization")
function _M.clear_header(name)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE_OR_BALANCER) == 0 then
    wrong_phase(ctx, BEFORE_OR_BALANCER)
  end
  if type(name) ~= "string" then
    error("header must be a string", 2)
  end
  C.weir_header_clear(ctx.req, HEADERS, name, #name)
end


--- Sets several headers of the request to the upstream; the others stay.
-- @function kong.service.request.set_headers
-- @phases rewrite, access, balancer
-- @param all table name to value, as in kong.service.request.set_header
-- @treturn nil
-- @usage
-- kong.service.request.set_headers({ ["X-A"] = "1", ["X-B"] = { "2", "3" } })
function _M.set_headers(all)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE_OR_BALANCER) == 0 then
    wrong_phase(ctx, BEFORE_OR_BALANCER)
  end
  headers.check_all(all)
  for name, value in pairs(all) do
    set_one(ctx, name, value)
  end
end


local function set_body_text(ctx, text)
  C.weir_req_set_body(ctx.req, text, #text)
  headers.set(ctx.req, HEADERS, "Content-Length", tostring(#text))
end


--- The body that the upstream gets, instead of the client's.
-- @function kong.service.request.set_raw_body
-- @phases rewrite, access, balancer
-- @param body string the body
-- @treturn nil
-- @usage
-- kong.service.request.set_raw_body("hello")
function _M.set_raw_body(body)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE_OR_BALANCER) == 0 then
    wrong_phase(ctx, BEFORE_OR_BALANCER)
  end
  if type(body) ~= "string" then
    error("body must be a string", 2)
  end
  set_body_text(ctx, body)
end


--- The body that the upstream gets, as a table: written as urlencoded form, JSON or
-- multipart form, by mimetype or the request's Content-Type, which is set to fit.
-- @function kong.service.request.set_body
-- @phases rewrite, access, balancer
-- @param args table the body
-- @param mimetype string|nil the media type; by default that of the request
-- @treturn boolean|nil true when it is set
-- @treturn string|nil why not
-- @usage
-- kong.service.request.set_body({ name = "anna" }, "application/json")
function _M.set_body(args, mimetype)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE_OR_BALANCER) == 0 then
    wrong_phase(ctx, BEFORE_OR_BALANCER)
  end
  if type(args) ~= "table" then
    error("args must be a table", 2)
  end
  if mimetype ~= nil and type(mimetype) ~= "string" then
    error("mime must be a string", 2)
  end
  local content_type = mimetype or headers.get(ctx.req, HEADERS, "content-type")
  if not content_type then
    return nil, "content type was neither explicitly given as an argument or received as a header"
  end
  local text, type_or_err = body_codec.encode(args, content_type)
  if not text then
    return nil, type_or_err
  end
  set_body_text(ctx, text)
  headers.set(ctx.req, HEADERS, "Content-Type", type_or_err)
  return true
end


--- Lets weir hold the upstream's whole response back before the next phases run, so
-- that kong.service.response.get_raw_body can read it.
-- @function kong.service.request.enable_buffering
-- @phases rewrite, access
-- @treturn nil
-- @usage
-- kong.service.request.enable_buffering()
function _M.enable_buffering()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE) == 0 then
    wrong_phase(ctx, BEFORE)
  end
  ctx.buffering = true
end


return _M
