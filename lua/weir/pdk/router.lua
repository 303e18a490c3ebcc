-- kong.router: what the request was matched with. The tables belong to the plan
-- that all requests share: plugins read them and never change them.

local phases = require "weir.phases"
local wait = require "weir.wait"

local band = require("bit").band
local wrong_phase = phases.wrong

local ROUTED = phases.access + phases.balancer + phases.response + phases.header_filter
             + phases.body_filter + phases.log


local _M = {}


--- The route that the request matched.
-- @function kong.router.get_route
-- @phases access, balancer, response, header_filter, body_filter, log
-- @treturn table|nil the route entity; nil if none matched
-- @usage
-- local route = kong.router.get_route()
-- kong.log("matched ", route and route.name)
function _M.get_route()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ROUTED) == 0 then
    wrong_phase(ctx, ROUTED)
  end
  return ctx.route
end


--- The service of the matched route.
-- @function kong.router.get_service
-- @phases access, balancer, response, header_filter, body_filter, log
-- @treturn table|nil the service entity; nil if no route matched or it has no service
-- @usage
-- local service = kong.router.get_service()
-- kong.log("goes to ", service and service.host)
function _M.get_service()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ROUTED) == 0 then
    wrong_phase(ctx, ROUTED)
  end
  return ctx.service
end


return _M
