-- One weir and each store: six requests, five let through; once more after the
-- store has cut its connections. Short, so that the modes can repeat it, and look
-- for what leaks, and reload in front of it.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local nodes = require "lib.nodes"
local stores = require "lib.stores"
local upstream = require "lib.upstream"

for _, name in ipairs(stores.names) do
  describe("weir with " .. name, function()
    local e, store, n
    local it = modes.wrap(it, function()
      return n[1]
    end)

    setup(function()
      e = env.new()
      local service = upstream.nginx(e)
      store = stores.start(e, name)
      n = nodes.new(e, {
        n = 1, front = false, conf = store.conf,
        yml = stores.yml(service.url, {
          { "/five", "rate-limiting", "hour: 5, limit_by: ip, " .. stores.fields(store) },
          { "/advanced", "rate-limiting-advanced",
            "limit: [ 5 ], window_size: [ 3600 ], sync_rate: 0, identifier: ip, "
            .. stores.fields(store, "strategy") },
          { "/exchanged", "rate-limiting-advanced",
            "limit: [ 5 ], window_size: [ 3600 ], sync_rate: 0.05, identifier: ip, "
            .. stores.fields(store, "strategy") },
        }),
      })
      stores.migrate(store, n[1])
      n:start()
    end)

    teardown(function()
      if n then
        n:stop()
      end
      e:destroy()
    end)

    after_each(function()
      e:check()
    end)

    local function remaining(path, source)
      local params = { REQUEST_URI = path, PATH_INFO = path, REMOTE_ADDR = source }
      local got = assert(fcgi.once(n[1].unix, { params = params }))
      return tonumber(got.headers["ratelimit-remaining"]), got.status
    end

    local function assert_six(path)
      stores.stay_in_hour(5)
      local source, left, statuses = env.client(), {}, {}
      for i = 1, 6 do
        left[i], statuses[i] = remaining(path, source)
      end
      assert.same({ 200, 200, 200, 200, 200, 429 }, statuses)
      assert.same({ 4, 3, 2, 1, 0, 0 }, left)
    end

    it("lets five of six through", function()
      assert_six("/five")
    end)

    it("lets five of six through in a sliding window", function()
      assert_six("/advanced")
    end)

    it("lets five of six through that are counted here and exchanged", function()
      assert_six("/exchanged")
    end)

    if name ~= "sqlite" then
      it("lets five of six through after its connections were cut", function()
        n:expect_log("does not answer:", "maybe")
        if store.server and store.server.terminate_backends then
          store.server:terminate_backends()
        elseif store.server then
          store.server:cli("CLIENT", "KILL", "TYPE", "normal")
        else
          for _, server in ipairs(store.group.servers or store.group.nodes) do
            server:cli("CLIENT", "KILL", "TYPE", "normal")
          end
        end
        local well = 0 -- each worker must know: they take turns as they like
        assert(net.wait_until(10, function()
          well = remaining("/five", env.client()) and well + 1 or 0
          return well == 20
        end), "the store does not come back")
        assert_six("/five")
      end)
    end
  end)
end
