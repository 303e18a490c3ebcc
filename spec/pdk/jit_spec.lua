-- The functions that plugins call on every request stay compiled: a loop over
-- each becomes one closed trace, without a way back to the interpreter.
local lab = require "lab"
local env = require "lib.env" -- found once the lab has set the path

local HOT = {
  'kong.request.get_header("Accept")',
  'kong.request.get_header("X-Missing")',
  "kong.request.get_method()",
  "kong.request.get_path()",
  "kong.request.get_raw_query()",
  "kong.request.get_scheme()",
  "kong.request.get_start_time()",
  "kong.client.get_ip()",
  "kong.client.get_forwarded_ip()",
  "kong.client.get_port()",
  "kong.router.get_route()",
  "kong.router.get_service()",
  "kong.ctx.shared.x = i",
  "kong.ctx.plugin.x = i",
  'kong.response.set_header("X-A", "b")',
  'kong.response.clear_header("X-A")',
  'kong.service.request.set_header("X-A", "b")',
  "handler:access(hidden)",
}

-- Runs the loop until it has been compiled; what links its trace, or nil.
local CODE = [[
  local util = require "jit.util"
  local hot = require("weir.json").decode([==[%s]==])
  local links = {}
  for n, call in ipairs(hot) do
    local link
    local fn = assert(loadstring("local handler, hidden = ... return function(n) for i = 1, n do "
                                 .. call .. " end end"))(
      require("kong.plugins.rate-limiting.handler"),
      { minute = 1e9, limit_by = "ip", hide_client_headers = true })
    local function watch(what, tr, func)
      if what == "stop" then
        local info = util.traceinfo(tr)
        if info and info.linktype == "loop" then link = "loop" end
        if info and info.linktype == "stitch" then link = link or "stitch" end
      end
    end
    jit.attach(watch, "trace")
    for _ = 1, 20 do
      if link ~= "loop" then fn(200) end
    end
    jit.attach(watch)
    links[n] = link or "none"
  end
  kong.response.exit(200, links)
]]

describe("PDK", function()
  local l = lab.new()
  local path = l:route(CODE:format(require("weir.json").encode(HOT)))

  setup(function()
    l:start()
  end)
  teardown(function()
    l:stop()
  end)

  it("stays compiled where it is hot", function()
    if env.mode == "nojit" then
      return
    end
    local links = l:json(path, { HTTP_ACCEPT = "*/*" })
    for i, call in ipairs(HOT) do
      assert.equal("loop", links[i], call)
    end
  end)
end)
