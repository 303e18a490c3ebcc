-- kong.response: what the client will get. Status and headers can be changed
-- until the head is sent; exit and error make a whole response and end the phase.

local conf = require "weir.conf"
local errors = require "weir.errors"
local exit_value = require "weir.exit"
local headers = require "weir.pdk.headers"
local json = require "weir.json"
local log = require "weir.pdk.log"
local phases = require "weir.phases"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C = weir.C
local sv = weir.sv
local is_last_call = weir.is_last_call
local ffi_string = weir.ffi.string
local band = require("bit").band

local concat = table.concat
local error = error
local floor = math.floor
local format = string.format
local lower = string.lower
local pairs = pairs
local tonumber = tonumber
local tostring = tostring
local type = type
local wrong_phase = phases.wrong

local READ = phases.response + phases.header_filter + phases.body_filter + phases.log
local WRITE = phases.rewrite + phases.access + phases.response + phases.header_filter
local BODY = phases.body_filter
local HEADER_FILTER = phases.header_filter

local REQUEST = tonumber(C.WEIR_HEADERS_REQUEST)
local HEADERS = tonumber(C.WEIR_HEADERS_RESPONSE)
local STATUS = tonumber(C.WEIR_REQ_STATUS)
local SOURCE = tonumber(C.WEIR_REQ_SOURCE)
local HEAD_SENT = tonumber(C.WEIR_REQ_HEAD_SENT)
local REQUEST_ID = tonumber(C.WEIR_REQ_ID)

local SOURCES = { [0] = "error", "exit", "error", "service" }
local SOURCE_EXIT = 1


local _M = {}


local function raise_if_sent(ctx)
  if C.weir_req_number(ctx.req, HEAD_SENT) ~= 0 then
    error("headers have already been sent", 3)
  end
end


-- The transport frames the response: a plugin has no say in it.
local function is_framing(name)
  return #name == 17 and lower(name) == "transfer-encoding"
end


local function warn_of_framing()
  log.warn("the header Transfer-Encoding cannot be set: it is ignored")
end


--- The status of the response.
-- @function kong.response.get_status
-- @phases response, header_filter, body_filter, log
-- @treturn number the status
-- @usage
-- kong.response.get_status() -- 200
function _M.get_status()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, READ) == 0 then
    wrong_phase(ctx, READ)
  end
  return C.weir_req_number(ctx.req, STATUS)
end


--- One header of the response, whoever set it: its first value.
-- @function kong.response.get_header
-- @phases response, header_filter, body_filter, log
-- @param name string the header's name; case does not matter, `_` stands for `-`
-- @treturn string|nil the value
-- @usage
-- kong.response.get_header("Content-Type") -- "text/html"
function _M.get_header(name)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, READ) == 0 then
    wrong_phase(ctx, READ)
  end
  if type(name) ~= "string" then
    error("header name must be a string", 2)
  end
  return (headers.get(ctx.req, HEADERS, name))
end


--- All headers of the response, as kong.request.get_headers gives those of the request.
-- @function kong.response.get_headers
-- @phases response, header_filter, body_filter, log
-- @param max_headers number|nil how many are read: 1 to 1000, by default 100
-- @treturn table the headers
-- @treturn string|nil `truncated` if there were more
-- @usage
-- kong.response.get_headers()["content-type"]
function _M.get_headers(max_headers)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, READ) == 0 then
    wrong_phase(ctx, READ)
  end
  local max = headers.check_max(max_headers, "max_headers")
  local all, err = headers.collect(ctx.req, HEADERS, max)
  return all, err
end


--- Who made the response.
-- @function kong.response.get_source
-- @phases response, header_filter, body_filter, log
-- @treturn string `service` for the upstream, `exit` for a plugin, `error` for weir itself
-- @usage
-- if kong.response.get_source() == "service" then ... end
function _M.get_source()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, READ) == 0 then
    wrong_phase(ctx, READ)
  end
  return SOURCES[C.weir_req_number(ctx.req, SOURCE)]
end


--- Sets the status of the response.
-- @function kong.response.set_status
-- @phases rewrite, access, response, header_filter
-- @param status number 100 to 599
-- @treturn nil
-- @usage
-- kong.response.set_status(404)
function _M.set_status(status)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, WRITE) == 0 then
    wrong_phase(ctx, WRITE)
  end
  raise_if_sent(ctx)
  if type(status) ~= "number" then
    error("code must be a number", 2)
  end
  if status < 100 or status > 599 then
    error("code must be a number between 100 and 599", 2)
  end
  C.weir_resp_set_status(ctx.req, floor(status))
end


--- Sets a header of the response; other fields of that name go. An upstream's header
-- of the same name is dropped when this is called before the upstream has answered.
-- @function kong.response.set_header
-- @phases rewrite, access, response, header_filter
-- @param name string the header's name
-- @param value string|number|boolean|table the value, or an array of values
-- @treturn nil
-- @usage
-- kong.response.set_header("X-Trace", "17")
function _M.set_header(name, value)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, WRITE) == 0 then
    wrong_phase(ctx, WRITE)
  end
  local req = ctx.req
  if C.weir_req_number(req, HEAD_SENT) ~= 0 then
    error("headers have already been sent", 2)
  end
  if type(name) ~= "string" or type(value) ~= "string" then
    headers.check(name, value)
  end
  if is_framing(name) then
    warn_of_framing()
    return
  end
  headers.set(req, HEADERS, name, value)
end


--- Adds a field to the response's headers; fields of the same name stay.
-- @function kong.response.add_header
-- @phases rewrite, access, response, header_filter
-- @param name string the header's name
-- @param value string|number|boolean|table the value, or an array of values
-- @treturn nil
-- @usage
-- kong.response.add_header("Cache-Control", "no-store")
function _M.add_header(name, value)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, WRITE) == 0 then
    wrong_phase(ctx, WRITE)
  end
  raise_if_sent(ctx)
  headers.check(name, value)
  if is_framing(name) then
    warn_of_framing()
    return
  end
  headers.add(ctx.req, HEADERS, name, value)
end


--- Takes all fields of a name out of the response's headers.
-- @function kong.response.clear_header
-- @phases rewrite, access, response, header_filter
-- @param name string the header's name
-- @treturn nil
-- @usage
-- kong.response.clear_header("Server")
function _M.clear_header(name)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, WRITE) == 0 then
    wrong_phase(ctx, WRITE)
  end
  raise_if_sent(ctx)
  if type(name) ~= "string" then
    error("header must be a string", 2)
  end
  C.weir_header_clear(ctx.req, HEADERS, name, #name)
end


local function set_all(ctx, all)
  for name, value in pairs(all) do
    if is_framing(name) then
      warn_of_framing()
    else
      headers.set(ctx.req, HEADERS, name, value)
    end
  end
end


--- Sets several headers of the response; headers that are not named stay.
-- @function kong.response.set_headers
-- @phases rewrite, access, response, header_filter
-- @param all table name to value, as in kong.response.set_header
-- @treturn nil
-- @usage
-- kong.response.set_headers({ ["X-A"] = "1", ["X-B"] = { "2", "3" } })
function _M.set_headers(all)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, WRITE) == 0 then
    wrong_phase(ctx, WRITE)
  end
  raise_if_sent(ctx)
  headers.check_all(all)
  set_all(ctx, all)
end


-- What a plugin has collected of the body: a list of pieces for each plugin.
local function pieces_of(ctx)
  local all = ctx.body_pieces
  if not all then
    all = {}
    ctx.body_pieces = all
  end
  local name = ctx.plugin or ""
  local pieces = all[name]
  if not pieces then
    pieces = {}
    all[name] = pieces
  end
  return pieces
end


--- The whole body of the response. Called for each piece, it keeps the pieces back
-- and returns nil until the last one has come; then it returns the body, which goes
-- to the client in one piece unless kong.response.set_raw_body replaces it. The body
-- is held in memory: use this for bodies whose size you know.
-- @function kong.response.get_raw_body
-- @phases body_filter
-- @treturn string|nil the body; nil while pieces are missing
-- @usage
-- local body = kong.response.get_raw_body()
-- if body then
--   kong.response.set_raw_body(body:gsub("secret", "******"))
-- end
function _M.get_raw_body()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BODY) == 0 then
    wrong_phase(ctx, BODY)
  end
  local pieces = pieces_of(ctx)
  local chunk = ctx.body_chunk
  if chunk and chunk ~= "" and not pieces.whole then
    pieces[#pieces + 1] = chunk
  end
  if not ctx.body_eof then
    ctx.body_chunk = nil
    return nil
  end
  if not pieces.whole then
    pieces.whole = true
    ctx.body_chunk = concat(pieces)
  end
  return ctx.body_chunk or ""
end


--- Replaces the body of the response, from this piece on to the end. Clear
-- `Content-Length` in header_filter when the new body has another length.
-- @function kong.response.set_raw_body
-- @phases body_filter
-- @param body string the new body; an empty one becomes a line feed
-- @treturn nil
-- @usage
-- kong.response.set_raw_body("hello")
function _M.set_raw_body(body)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BODY) == 0 then
    wrong_phase(ctx, BODY)
  end
  if type(body) ~= "string" then
    error("body must be a string", 2)
  end
  -- COMPAT(kong): clients of such plugins expect the line feed.
  ctx.body_chunk = body == "" and "\n" or body
  ctx.body_eof = true
end


-- In header_filter the body that is on its way follows; there is no phase to leave.
local function finish(ctx, status, body)
  local req = ctx.req
  C.weir_resp_set_source(req, SOURCE_EXIT)
  C.weir_resp_set_status(req, status)
  if ctx.phase ~= HEADER_FILTER then
    ctx.exited = true
    ctx.exit_status = status
    ctx.exit_body = body
    -- nothing of the handler is left to be skipped: an error would only cost time
    if not is_last_call() then
      error(exit_value)
    end
  end
end


local function check_exit(status, least, all)
  if type(status) ~= "number" then
    error("code must be a number", 3)
  end
  if status < least or status > 599 then
    error(format("code must be a number between %d and 599", least), 3)
  end
  if all ~= nil and type(all) ~= "table" then
    error("headers must be a nil or table", 3)
  end
end


-- The text of a body, and its content type where there is only one that fits.
local function body_text(body)
  local kind = type(body)
  if kind == "string" or kind == "nil" then
    return body
  elseif kind == "number" then
    return tostring(body)
  elseif kind ~= "table" then
    error("body must be a nil, string or table", 3)
  end
  local text, err = json.encode(body)
  if not text then
    error(format("body could not be JSON encoded: %s", err), 3)
  end
  return text, errors.JSON
end


local function names_content_type(all)
  for name in pairs(all) do
    if #name == 12 and lower(name) == "content-type" then
      return true
    end
  end
  return false
end


--- Answers the request and ends the phase: code behind the call does not run. Phases
-- that see the response follow. In header_filter only status and headers can be
-- given, and the code behind the call does run.
-- @function kong.response.exit
-- @phases rewrite, access, response, header_filter
-- @param status number 100 to 599
-- @param body string|table|nil a table is written as JSON
-- @param all table|nil headers, as in kong.response.set_headers
-- @treturn nil does not return, except in header_filter
-- @usage
-- return kong.response.exit(403, { message = "keep out" }, { ["X-Why"] = "closed" })
function _M.exit(status, body, all)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, WRITE) == 0 then
    wrong_phase(ctx, WRITE)
  end
  raise_if_sent(ctx)
  check_exit(status, 100, all)
  if body ~= nil and ctx.phase == HEADER_FILTER then
    error("body must be nil in header_filter: the head can be changed, the body follows", 2)
  end
  local text, content_type = body_text(body)
  if all then
    headers.check_all(all)
    set_all(ctx, all)
  end
  if content_type and not (all and names_content_type(all)) then
    C.weir_header_set(ctx.req, HEADERS, "Content-Type", 12, content_type, #content_type)
  end
  return finish(ctx, floor(status), text)
end


-- weir.conf's error_request_id; read at the first use.
local with_id


local function request_id(ctx)
  if with_id == nil then
    with_id = conf.bool("error_request_id")
  end
  if not with_id then
    return nil
  end
  C.weir_req_get(ctx.req, REQUEST_ID, sv)
  return ffi_string(sv[0].p, sv[0].n)
end


local function wanted_type(ctx, all)
  if all then
    for name, value in pairs(all) do
      if #name == 12 and lower(name) == "content-type" then
        return errors.type_of(tostring(value)) or errors.JSON
      end
    end
  end
  if C.weir_header_get(ctx.req, REQUEST, "accept", 6, sv) ~= 0 then
    return errors.JSON
  end
  return (errors.choose(ffi_string(sv[0].p, sv[0].n)))
end


--- Answers the request with an error and ends the phase. The body has the form that
-- the client accepts (JSON, plain text, HTML or XML), or that of the Content-Type
-- among the given headers. `error_request_id = on` puts the request's id into it.
-- @function kong.response.error
-- @phases rewrite, access, response, header_filter
-- @param status number 400 to 599
-- @param message string|table|nil the message; a table is the whole body, as JSON; nil
-- takes the usual message of the status
-- @param all table|nil headers, as in kong.response.set_headers
-- @treturn nil does not return, except in header_filter
-- @usage
-- return kong.response.error(403, "keep out")
function _M.error(status, message, all)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, WRITE) == 0 then
    wrong_phase(ctx, WRITE)
  end
  raise_if_sent(ctx)
  check_exit(status, 400, all)
  if all then
    headers.check_all(all)
    set_all(ctx, all)
  end
  status = floor(status)
  local text, content_type
  if type(message) == "table" then
    text, content_type = body_text(message)
  else
    content_type = wanted_type(ctx, all)
    text = errors.body(message and tostring(message) or errors.message(status), content_type,
                       request_id(ctx))
  end
  if ctx.phase == HEADER_FILTER then
    text = nil
  else
    C.weir_header_set(ctx.req, HEADERS, "Content-Type", 12, content_type, #content_type)
  end
  return finish(ctx, status, text)
end


return _M
