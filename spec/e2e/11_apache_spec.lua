-- Apache in front of weir, with the samples of etc/apache as they are.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fronts = require "lib.fronts"
local http = require "lib.http"
local limits = require "lib.limits"
local modes = require "lib.modes"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local LONG_YML = [[
_format_version: "3.0"
routes:
  - name: long
    paths: [ / ]
    plugins:
      - name: pdk-run
        config: { access: 'kong.response.exit(200, ("x"):rep(20000))' }
]]

describe("Apache", function()
  local e, service, w
  local plain_it = it
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    e:write("www/echo", "a file\n")
    e:write("www/echo-dir/index.html", "an index\n")
  end)

  teardown(function()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  describe("as responder (etc/apache/responder.conf)", function()
    local front

    setup(function()
      -- mod_proxy_fcgi reads the content of END_REQUEST once, and takes the rest of it for the
      -- beginning of the next response
      w = weir.new(e, { yml = limits.sample_yml(service.url), whole_writes = true }):start()
      front = fronts.apache(e, { sample = "apache/responder.conf", weir = w })
    end)

    teardown(function()
      front:stop()
      w:stop()
    end)

    it("limits six requests to five", function()
      local source = env.client()
      limits.assert_six(function()
        return http.request(front.address, { path = "/echo", source = source })
      end, "hello\n")
    end)

    it("keeps its connection to weir", function()
      local source = env.client()
      local function ask()
        return assert(http.request(front.address, { path = "/elsewhere", source = source }))
      end
      ask()
      local before = w:open_files()
      for _ = 1, 30 do
        assert.equal(404, ask().status)
      end
      -- one more for each thread of Apache that had no turn before, not one for each request
      assert.is_true(w:open_files() - before < 30)
    end)

    it("passes bodies of unknown length on", function()
      local c = assert(http.connect(front.address, { source = env.client() }))
      assert(c.conn:send("POST /echo/echo-body HTTP/1.1\r\nHost: localhost\r\n" ..
                         "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"))
      for _ = 1, 3 do
        require("lib.net").sleep(0.05)
        assert(c.conn:send("5\r\nabcde\r\n"))
      end
      assert(c.conn:send("0\r\n\r\n"))
      local got = assert(c:response())
      c:close()
      assert.equal(200, got.status)
      assert.equal("abcdeabcdeabcde", got.body)
    end)

    it("gives a refusal whole, though nobody reads the body", function()
      local source = env.client()
      for _ = 1, 5 do
        assert(http.request(front.address, { path = "/echo", source = source }))
      end
      local got = assert(http.request(front.address, { method = "POST", path = "/echo",
                                      body = ("x"):rep(3000000), source = source }))
      assert.equal(429, got.status)
      assert.is_nil(got.broken)
      assert.equal(limits.DENIED, got.body)
    end)
  end)

  -- the sanitizer must be the first library that is loaded
  local cut_describe = env.mode == "asan" and function() end or describe

  cut_describe("when a full socket cuts the ends of long answers off", function()
    local front

    setup(function()
      w = weir.new(e, { name = "cut", yml = LONG_YML, conf = {
        plugins = "pdk-run",
        plugin_dir = env.srcdir .. "/plugins," .. env.srcdir .. "/spec/fixtures/plugins" } })
      w:start({ vars = weir.slow_io("tail") })
      front = fronts.apache(e, { sample = "apache/responder.conf", weir = w })
    end)

    teardown(function()
      front:stop()
      w:stop()
    end)

    it("stays in step with the records of its kept connection", function()
      for _ = 1, 30 do
        local got = assert(http.request(front.address, { source = env.client() }))
        assert.equal(200, got.status)
        assert.equal(20000, #got.body)
      end
    end)
  end)

  describe("with an authorizer (etc/apache/authorizer.conf)", function()
    local front

    setup(function()
      local tcp = "127.0.0.1:" .. e:port()
      local yml = limits.sample_yml(service.url)
      -- mod_authnz_fcgi keeps of a refusal's body what it reads together with the head
      w = weir.new(e, { name = "auth", yml = yml, conf = { fastcgi_listen = tcp },
                        whole_writes = true })
      w:start()
      front = fronts.apache(e, { sample = "apache/authorizer.conf", weir = w, tcp = tcp })
    end)

    teardown(function()
      front:stop()
      w:stop()
    end)

    it("serves the file five times", function()
      local source = env.client()
      limits.assert_six(function()
        return http.request(front.address, { path = "/echo", source = source })
      end, "a file\n")
    end)

    it("counts the page of a directory once, though Apache asks twice", function()
      local source = env.client()
      env.stay_clear(60)
      for remaining = 4, 3, -1 do
        local got = assert(http.request(front.address, { path = "/echo-dir/", source = source }))
        assert.equal(200, got.status)
        assert.equal("an index\n", got.body)
        assert.equal(tostring(remaining), (got.headers["x-ratelimit-remaining-minute"] or "")
                                          :match("^%d+"))
      end
    end)
  end)

  describe("spawning weir by mod_fcgid (etc/apache/spawned.conf)", function()
    local front

    setup(function()
      local yml = limits.sample_yml(service.url)
      w = weir.new(e, { name = "spawned", yml = yml })
      front = fronts.apache(e, { sample = "apache/spawned.conf", weir = w })
    end)

    teardown(function()
      front:stop()
    end)

    plain_it("limits six requests to five", function()
      local source = env.client()
      limits.assert_six(function()
        return http.request(front.address, { path = "/echo", source = source })
      end, "hello\n")
    end)

    plain_it("counts in all of its processes together", function()
      local load = require "lib.load"
      env.stay_clear(60, 15)
      local got = load.run(e, front.address, { path = "/echo", source = env.client(),
                                               parallel = 4, requests = 60 })
      assert.equal(0, got.failed, got.text)
      assert.equal(5, got.status[200], got.text)
      assert.equal(55, got.status[429], got.text)
    end)
  end)
end)
