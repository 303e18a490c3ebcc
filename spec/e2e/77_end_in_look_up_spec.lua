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

-- A vault that does not answer, and a counter whose password it would have.
local HANGING = [[
vaults:
  - name: redis
    prefix: mine
    config: { redis: { host: 127.0.0.1, port: PORT, timeout: 60000 } }
plugins:
  - name: rate-limiting
    config:
      minute: 5
      policy: redis
      redis: { host: 127.0.0.1, port: PORT, password: "{vault://mine/password}" }
]]

describe("a worker's end", function()
  local e, w, silent, port

  before_each(function()
    e = env.new()
    silent, port = net.listen(0) -- takes connections, and never answers
    local dir = weir.plugin_dir(e)
    weir.write_plugin(e, "waiter", (WAITER:gsub("PORT", port)), "")
    w = weir.new(e, { yml = YML, conf = {
      plugin_dir = env.srcdir .. "/plugins," .. dir, workers = 1,
    } })
    w:start()
    assert.is_string(w:wait_log("way 5 waits"))
    assert.equal("here", assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/" } })).body)
  end)

  after_each(function()
    unistd.close(silent)
    e:destroy()
  end)

  -- As scripts start what they put in the background.
  local function start_ignoring(number)
    local before = signal.signal(number, signal.SIG_IGN)
    w:start()
    signal.signal(number, before)
  end

  it("comes at once where it still prepares itself", function()
    w:stop()
    w:write_yml(YML:gsub("services:", HANGING:gsub("PORT", port) .. "services:"))
    start_ignoring(signal.SIGQUIT)
    w:expect_log("not found within 5 s")
    signal.kill(w:workers()[1], signal.SIGKILL)
    w:expect_log("died by signal 9")
    assert(w:wait_log("died by signal 9"))
    assert(net.wait_until(5, function()
      return #w:workers() == 1
    end))
    local begun = net.now()
    w:stop(signal.SIGQUIT)
    assert.is_true(net.now() - begun < 3)
  end)

  for _, number in ipairs({ signal.SIGTERM, signal.SIGQUIT }) do
    it("lets look-ups go, by signal " .. number, function()
      w:stop(number)
    end)
  end
end)
