-- kong.service: where the request goes. Overrides are kept in ctx.upstream and
-- read by the runloop when it opens the exchange:
--   scheme, host, port, path, host_header, retries, connect_timeout,
--   write_timeout, read_timeout (ms).

local phases = require "weir.phases"
local wait = require "weir.wait"

local band = require("bit").band

local error = error
local floor = math.floor
local format = string.format
local type = type
local wrong_phase = phases.wrong

local BEFORE = phases.rewrite + phases.access + phases.balancer

local PORT_MAX = 65535
local RETRIES_MAX = 32767
local TIMEOUT_MAX = 2147483646


local _M = {
  request = require "weir.pdk.service_request",
  response = require "weir.pdk.service_response",
}


local function overrides(ctx)
  local upstream = ctx.upstream
  if not upstream then
    upstream = {}
    ctx.upstream = upstream
  end
  return upstream
end


local function check_integer(value, name, least, most)
  if type(value) ~= "number" or floor(value) ~= value then
    error(name .. " must be an integer", 3)
  end
  if value < least or value > most then
    error(format("%s must be an integer between %d and %d: given %d", name, least, most, value), 3)
  end
end


--- Sends the request to another host and port than the service says.
-- @function kong.service.set_target
-- @phases rewrite, access, balancer
-- @param host string a name or an address
-- @param port number 0 to 65535
-- @treturn nil
-- @usage
-- kong.service.set_target("127.0.0.1", 9001)
function _M.set_target(host, port)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE) == 0 then
    wrong_phase(ctx, BEFORE)
  end
  if type(host) ~= "string" then
    error("host must be a string", 2)
  end
  check_integer(port, "port", 0, PORT_MAX)
  local upstream = overrides(ctx)
  upstream.host = host
  upstream.port = port
end


--- How often a connection to the upstream is tried again.
-- @function kong.service.set_retries
-- @phases rewrite, access, balancer
-- @param retries number 0 to 32767
-- @treturn nil
-- @usage
-- kong.service.set_retries(2)
function _M.set_retries(retries)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE) == 0 then
    wrong_phase(ctx, BEFORE)
  end
  check_integer(retries, "retries", 0, RETRIES_MAX)
  overrides(ctx).retries = retries
end


--- How long the upstream may take, in milliseconds.
-- @function kong.service.set_timeouts
-- @phases rewrite, access, balancer
-- @param connect_timeout number to accept a connection
-- @param write_timeout number between two pieces of the request
-- @param read_timeout number between two pieces of the response
-- @treturn nil
-- @usage
-- kong.service.set_timeouts(500, 1000, 5000)
function _M.set_timeouts(connect_timeout, write_timeout, read_timeout)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, BEFORE) == 0 then
    wrong_phase(ctx, BEFORE)
  end
  check_integer(connect_timeout, "connect_timeout", 1, TIMEOUT_MAX)
  check_integer(write_timeout, "write_timeout", 1, TIMEOUT_MAX)
  check_integer(read_timeout, "read_timeout", 1, TIMEOUT_MAX)
  local upstream = overrides(ctx)
  upstream.connect_timeout = connect_timeout
  upstream.write_timeout = write_timeout
  upstream.read_timeout = read_timeout
end


return _M
