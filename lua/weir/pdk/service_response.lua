-- kong.service.response: what the upstream sent, before anybody changed it. The
-- body is there only when it was buffered.

local body_codec = require "weir.pdk.body"
local headers = require "weir.pdk.headers"
local phases = require "weir.phases"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C = weir.C
local band = require("bit").band

local error = error
local tonumber = tonumber
local type = type
local wrong_phase = phases.wrong

local AFTER = phases.response + phases.header_filter + phases.body_filter + phases.log

local HEADERS = tonumber(C.WEIR_HEADERS_UPSTREAM)
local UPSTREAM_STATUS = tonumber(C.WEIR_REQ_UPSTREAM_STATUS)


local _M = {}


--- The status that the upstream sent.
-- @function kong.service.response.get_status
-- @phases response, header_filter, body_filter, log
-- @treturn number|nil the status; nil if no upstream answered
-- @usage
-- kong.service.response.get_status() -- 200
function _M.get_status()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, AFTER) == 0 then
    wrong_phase(ctx, AFTER)
  end
  local status = C.weir_req_number(ctx.req, UPSTREAM_STATUS)
  return status ~= 0 and status or nil
end


--- All headers that the upstream sent, as kong.request.get_headers gives those of the request.
-- @function kong.service.response.get_headers
-- @phases response, header_filter, body_filter, log
-- @param max_headers number|nil how many are read: 1 to 1000, by default 100
-- @treturn table the headers; empty if no upstream answered
-- @treturn string|nil `truncated` if there were more
-- @usage
-- kong.service.response.get_headers()["x-cache"]
function _M.get_headers(max_headers)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, AFTER) == 0 then
    wrong_phase(ctx, AFTER)
  end
  local max = headers.check_max(max_headers, "max_headers")
  local all, err = headers.collect(ctx.req, HEADERS, max)
  return all, err
end


--- One header that the upstream sent: its first value. Headers that weir or a plugin
-- added are not seen here.
-- @function kong.service.response.get_header
-- @phases response, header_filter, body_filter, log
-- @param name string the header's name; case does not matter, `_` stands for `-`
-- @treturn string|nil the value
-- @usage
-- kong.service.response.get_header("X-Cache") -- "hit"
function _M.get_header(name)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, AFTER) == 0 then
    wrong_phase(ctx, AFTER)
  end
  if type(name) ~= "string" then
    error("header name must be a string", 2)
  end
  return (headers.get(ctx.req, HEADERS, name))
end


local function buffered(ctx)
  if ctx.buffered_body then
    return ctx.buffered_body
  end
  error("service body is only available with buffered proxying " ..
        "(see: kong.service.request.enable_buffering function)", 3)
end


--- The body that the upstream sent. There only after
-- kong.service.request.enable_buffering, or if a plugin has a response phase.
-- @function kong.service.response.get_raw_body
-- @phases response, header_filter, body_filter, log
-- @treturn string the body
-- @usage
-- local body = kong.service.response.get_raw_body()
function _M.get_raw_body()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, AFTER) == 0 then
    wrong_phase(ctx, AFTER)
  end
  local body = buffered(ctx)
  return body
end


--- The body that the upstream sent, as a table: by the upstream's Content-Type, or by
-- mimetype if that is given.
-- @function kong.service.response.get_body
-- @phases response, header_filter, body_filter, log
-- @param mimetype string|nil read the body as this type
-- @param max_args number|nil how many form arguments are read: 1 to 1000, by default 100
-- @treturn table|nil the body
-- @treturn string|nil why it cannot be read
-- @treturn string|nil the media type
-- @usage
-- local body, err = kong.service.response.get_body()
function _M.get_body(mimetype, max_args)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, AFTER) == 0 then
    wrong_phase(ctx, AFTER)
  end
  local max = headers.check_max(max_args, "max_args")
  local text = buffered(ctx)
  local content_type = mimetype or headers.get(ctx.req, HEADERS, "content-type")
  return body_codec.decode(text, content_type, max)
end


return _M
