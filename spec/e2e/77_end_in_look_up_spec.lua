-- A worker that ends while coroutines that belong to no request wait for whatever
-- look-ups wait for: it gives everything back, and runs none of them again.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local net = require "lib.net"
local weir = require "lib.weir"
local signal = require "posix.signal"
local unistd = require "posix.unistd"

local WAITER = [[
local ask = require "weir.ask"
local http = require "weir.http"
local log = require "weir.log"
local secret = require "weir.secret"
local timer = require "weir.timer"

local waiter = { PRIORITY = 1, VERSION = "1.0.0" }
local redis = { host = "127.0.0.1", port = PORT, timeout = 60000 }

local ways = {
  function() return ask.redis(redis, "GET", "key") end,
  function()
    return ask.postgres({ host = "127.0.0.1", port = "PORT", user = "u", database = "d",
                          timeout = "60000" }, "SELECT $1", "x")
  end,
  function() return http.request({ url = "http://127.0.0.1:PORT/", timeout_ms = 60000 }) end,
  function() timer.sleep(60) end,
  function()
    return secret.look_up(secret.keep("{cloud://spec/one}", function()
      timer.sleep(60)
      return "value"
    end))
  end,
}

function waiter:init_worker()
  for i, way in ipairs(ways) do
    timer.at(0, function()
      log.notice("way ", i, " waits")
      way()
      log.crit("way ", i, " went on")
    end)
  end
end

function waiter:access()
  return kong.response.exit(200, "here")
end

return waiter
]]

local YML = [[
_format_version: "3.0"
services:
  - name: service
    url: http://127.0.0.1:9
    routes: [ { name: all, paths: [ / ] } ]
    plugins: [ { name: waiter } ]
]]

describe("a worker's end", function()
  local e, w, silent

  before_each(function()
    e = env.new()
    local port
    silent, port = net.listen(0) -- takes connections, and never answers
    local dir = weir.plugin_dir(e)
    weir.write_plugin(e, "waiter", (WAITER:gsub("PORT", port)), "")
    w = weir.new(e, { yml = YML, conf = { plugin_dir = dir, workers = 1 } })
    w:start()
    assert.is_string(w:wait_log("way 5 waits"))
    assert.equal("here", assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/" } })).body)
  end)

  after_each(function()
    unistd.close(silent)
    e:destroy()
  end)

  for _, number in ipairs({ signal.SIGTERM, signal.SIGQUIT }) do
    it("lets look-ups go, by signal " .. number, function()
      w:stop(number)
    end)
  end
end)
