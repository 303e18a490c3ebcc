-- Google Cloud and Azure, as spec/servers speak for them: their vaults, and Redis
-- behind their tokens, which are short-lived here: each kind of credentials, tokens
-- that are replaced while requests come, credentials that are refused.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local clouds = require "lib.clouds"
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local proc = require "lib.proc"
local redis = require "lib.redis"
local stores = require "lib.stores"
local teller = require "lib.teller"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local waiting_it = modes.waiting(it)

local GATE_PASSWORD = "behind the gate"

local function sorted(map)
  local names = {}
  for name in pairs(map) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

for _, cloud in ipairs(clouds) do
  describe("weir with " .. cloud.name, function()
    local e, server, w, known

    before_each(function()
      e = env.new()
      known = {}
    end)

    -- No secret stands in what weir wrote.
    after_each(function()
      if w then
        w:stop()
        local wrote = w:log() .. w:output()
        for _, entry in ipairs(server:log("^AUTH")) do
          known[#known + 1] = entry.body
        end
        for _, text in ipairs(known) do
          assert.is_nil(wrote:find(text, 1, true), "weir wrote a secret")
        end
      end
      w = nil
      e:check()
      e:destroy()
    end)

    local function start_server(options)
      server = cloud.start(e, options or {})
      for i, text in ipairs(cloud.known) do
        known[i] = text
      end
    end

    -- Starts weir with a source of credentials. routes: as for stores.yml.
    local function start(source, routes, more)
      w = weir.new(e, {
        yml = stores.yml(upstream.nginx(e).url, routes, more),
        conf = { workers = 1, plugin_dir = teller.write(e) },
      })
      w:start({ vars = cloud.sources[source](server, e) })
    end

    local function ask(path, source)
      local params = { REQUEST_URI = path, PATH_INFO = path, REMOTE_ADDR = source or "10.0.0.1" }
      return assert(fcgi.once(w.unix, { params = params }))
    end

    local function statuses_of(n, path, source)
      local statuses = {}
      for i = 1, n do
        statuses[i] = ask(path, source).status
      end
      return statuses
    end

    local function assert_six(path)
      assert.same({ 200, 200, 200, 200, 200, 429 }, statuses_of(6, path, env.client()))
    end

    -- ---- the vault

    local function vaults(more)
      return ("vaults:\n  - name: %s\n    prefix: my-%s\n    config: %s\n"):format(
        cloud.name, cloud.name, cloud.vault(server):gsub("}$", (more or "") .. " }"))
    end

    local function telling(reference)
      return { "/word", "teller", ("word: %q"):format(reference) }
    end

    for reference, value in pairs(cloud.secrets) do
      it("finds " .. reference, function()
        start_server()
        start(cloud.main, { telling(reference) }, vaults())
        assert.equal(value, ask("/word").body)
        assert.equal(1, #server:log(cloud.token))
      end)
    end

    it("opens a Redis with a password of its vault, and a new one", function()
      start_server()
      local name = cloud.name == "gcp" and "projects/my-project/secrets/redis" or "redis"
      server:set({ secrets = { [name] = "first # password" } })
      known[#known + 1], known[#known + 2] = "first # password", "second # password"
      local guarded = redis.start(e, { password = "first # password" })
      start(cloud.main, { { "/five", "rate-limiting", ("hour: 5, limit_by: ip, policy: redis,"
        .. " fault_tolerant: false, redis: { host: 127.0.0.1, port: %d, password: %q }"):format(
          guarded.port, ("{vault://my-%s/redis}"):format(cloud.name)) } }, vaults(", ttl: 1"))
      stores.stay_in_hour(20)
      assert_six("/five")
      server:set({ secrets = { [name] = "second # password" } })
      guarded:cli("CONFIG", "SET", "requirepass", "second # password")
      guarded.password = "second # password"
      guarded:cli("CLIENT", "KILL", "TYPE", "normal")
      w:expect_log("does not answer:", "maybe")
      assert_six("/five")
      assert.equal(1, #server:log(cloud.token))
    end)

    it("says why there is no secret", function()
      start_server()
      server:set(cloud.deny())
      start(cloud.main, { telling("{vault://my-" .. cloud.name .. "/password}") },
            vaults(", neg_ttl: 0.5"))
      w:expect_log("{vault://my%-" .. cloud.name .. "/password}: " .. cloud.denial .. ".*no value")
      assert.equal(503, ask("/word").status)
      server:set(cloud.allow())
      assert.is_truthy(net.wait_until(10, function()
        return ask("/word").status == 200
      end))
    end)

    it("says which secret there is not", function()
      start_server()
      start(cloud.main, { telling(cloud.missing[1]) }, vaults())
      w:expect_log(cloud.missing[2])
      assert.equal(503, ask("/word").status)
    end)

    it("prints a secret by weir vault get", function()
      start_server()
      w = weir.new(e, { yml = stores.yml("http://127.0.0.1:9", { { "/" } }) })
      local vars = weir.mode_environment()
      for name, value in pairs(cloud.sources[cloud.main](server, e)) do
        vars[name] = value
      end
      local function get(reference)
        return proc.run({ weir.bin, "vault", "get", reference, "-c", w.conf_path }, { env = vars })
      end
      local text, code = get(("{vault://%s/json/pass?%s}"):format(cloud.name, cloud.query(server)))
      assert.same({ "in JSON\n", 0 }, { text, code })
      text, code = get(cloud.name .. "/nothing?" .. cloud.query(server))
      assert.match(cloud.missing[2], text)
      assert.equal(1, code)
      w = nil -- it did not run
    end)

    -- ---- Redis

    -- A plugin's config that counts in the Redis behind the gate, with a source of credentials; at
    -- tolerant_path, if there is one, it is fault-tolerant.
    local function behind_gate(source, tolerant_path)
      local _, fields, user = cloud.sources[source](server, e)
      return { tolerant_path or "/five", "rate-limiting", ("hour: 5, limit_by: ip, policy: redis, "
        .. "fault_tolerant: %s, redis: { host: 127.0.0.1, port: %d, %s cloud_authentication: "
        .. "{ auth_provider: %s%s } }"):format(tostring(tolerant_path ~= nil), server.redis_port,
          user and ('username: "%s",'):format(user) or "", cloud.name,
          fields and ", " .. fields or "") }
    end

    local function start_gate(options)
      local backend = redis.start(e, { password = GATE_PASSWORD })
      options = options or {}
      options.redis = { target = backend.address, password = GATE_PASSWORD }
      start_server(options)
      known[#known + 1] = GATE_PASSWORD
    end

    -- Of the logins at the gate: the number of tokens, of connections, of refusals.
    local function logins()
      local tokens, connections, refused = {}, {}, 0
      for _, entry in ipairs(server:log("^AUTH")) do
        tokens[entry.body], connections[entry.connection] = true, true
        refused = refused + (entry.status == 200 and 0 or 1)
      end
      return #sorted(tokens), #sorted(connections), refused
    end

    for _, source in ipairs(sorted(cloud.sources)) do
      it("logs in to Redis with " .. source, function()
        start_gate()
        start(source, { behind_gate(source) })
        stores.stay_in_hour(10)
        assert_six("/five")
        local tokens, _, refused = logins()
        assert.same({ 1, 0 }, { tokens, refused })
      end)
    end

    waiting_it("logs in anew on the same connection before a token ends", function()
      start_gate({ token_s = 2 })
      start(cloud.main, { behind_gate(cloud.main) })
      stores.stay_in_hour(30)
      local source, granted = env.client(), 0
      local till = net.now() + 7
      while net.now() < till do
        local status = ask("/five", source).status
        assert.is_true(status == 200 or status == 429, "answered " .. status)
        granted = granted + (status == 200 and 1 or 0)
        assert.equal(200, ask("/five", env.client()).status)
        net.sleep(0.05)
      end
      assert.equal(5, granted)
      local tokens, connections, refused = logins()
      assert.is_true(tokens >= 3, tokens .. " tokens in 7 seconds")
      assert.same({ 1, 0 }, { connections, refused })
    end)

    it("gets another token where one is refused", function()
      start_gate()
      start(cloud.main, { behind_gate(cloud.main) })
      stores.stay_in_hour(20)
      assert_six("/five")
      w:expect_log("does not answer:", "maybe")
      w:expect_log("password", "maybe")
      server:set({ redis = { refuse = true } })
      server:call("kick")
      assert.equal(500, ask("/five", env.client()).status)
      server:set({ redis = { refuse = false } })
      assert.is_truthy(net.wait_until(10, function()
        return ask("/five", env.client()).status == 200
      end))
      assert_six("/five")
      assert.is_true(logins() >= 2)
    end)

    waiting_it("bears wrong credentials, as fault_tolerant says", function()
      start_gate()
      server:set(cloud.spoil())
      start(cloud.main, { behind_gate(cloud.main), behind_gate(cloud.main, "/tolerant") })
      stores.stay_in_hour(20)
      w:expect_log("{cloud://" .. cloud.name .. "/%x+}: " .. cloud.refusal .. ".*no value")
      w:expect_log("does not answer:", "maybe")
      local source = env.client()
      for path, status in pairs({ ["/five"] = 500, ["/tolerant"] = 200 }) do
        assert.same({ status, status, status, status, status, status, status },
                    statuses_of(7, path, source))
      end
      server:set(cloud.mend(server))
      for _, path in ipairs({ "/five", "/tolerant" }) do
        assert.is_truthy(net.wait_until(15, function()
          return ask(path, "10.9.9.9").headers["ratelimit-remaining"]
        end))
        assert_six(path)
      end
    end)
  end)
end
