-- A Redis of a cloud whose tokens live for a second or two: requests are counted
-- as ever while they are renewed, again and again; nothing leaks, and each
-- generation of weir has tokens before its first request.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local clouds = require "lib.clouds"
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local redis = require "lib.redis"
local stores = require "lib.stores"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

for _, cloud in ipairs(clouds) do
  describe("weir with tokens of " .. cloud.name, function()
    local e, server, w
    local it = modes.wrap(it, function()
      return w
    end)

    setup(function()
      e = env.new()
      local backend = redis.start(e, { password = "behind the gate" })
      server = cloud.start(e, {
        token_s = 2, redis = { target = backend.address, password = "behind the gate" },
      })
      local vars, fields, user = cloud.sources[cloud.main](server, e)
      w = weir.new(e, { conf = { workers = 2 }, yml = stores.yml(upstream.nginx(e).url, {
        { "/five", "rate-limiting", ("hour: 5, limit_by: ip, policy: redis, fault_tolerant: false,"
          .. " redis: { host: 127.0.0.1, port: %d, %s cloud_authentication: { auth_provider: %s %s"
          .. " } }"):format(server.redis_port, user and ("username: %q,"):format(user) or "",
            cloud.name, fields and "," .. fields or "") },
      }) })
      w:start({ vars = vars })
    end)

    teardown(function()
      w:stop()
      e:destroy()
    end)

    after_each(function()
      e:check()
    end)

    it("lets five of six through meanwhile", function()
      stores.stay_in_hour(5)
      local source, statuses = env.client(), {}
      for i = 1, 6 do
        local params = { REQUEST_URI = "/five", PATH_INFO = "/five", REMOTE_ADDR = source }
        statuses[i] = assert(fcgi.once(w.unix, { params = params })).status
        net.sleep(0.1)
      end
      assert.same({ 200, 200, 200, 200, 200, 429 }, statuses)
      for _, entry in ipairs(server:log("^AUTH")) do
        assert.equal(200, entry.status, entry.note)
      end
    end)
  end)
end
