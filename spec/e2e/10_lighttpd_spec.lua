-- lighttpd in front of weir, with the samples of etc/lighttpd as they are.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fronts = require "lib.fronts"
local http = require "lib.http"
local limits = require "lib.limits"
local modes = require "lib.modes"
local net = require "lib.net"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local e, service, w

local function start_weir(opts)
  opts = opts or {}
  opts.yml = opts.yml or limits.sample_yml(service.url)
  return weir.new(e, opts)
end

describe("lighttpd", function()
  local plain_it = it
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    e:write("www/echo", "a file\n")
    e:write("www/dir/index.html", "an index\n")
  end)

  teardown(function()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  describe("as responder (etc/lighttpd/responder.conf)", function()
    local front

    setup(function()
      w = start_weir():start()
      front = fronts.lighttpd(e, { sample = "lighttpd/responder.conf", weir = w })
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

    it("counts clients apart", function()
      for _ = 1, 2 do
        local got = assert(http.request(front.address, { path = "/echo", source = env.client() }))
        assert.equal(200, got.status)
        assert.equal("4", got.headers["x-ratelimit-remaining-minute"])
      end
    end)

    it("answers 404 where no route leads", function()
      local got = assert(http.request(front.address, { path = "/elsewhere" }))
      assert.equal(404, got.status)
      assert.equal('{"message":"no Route matched with those values"}', got.body)
      assert.is_nil(got.headers["ratelimit-limit"])
    end)

    it("matches the path that lighttpd would serve, however it is written", function()
      local source = env.client()
      for _, path in ipairs({ "/%65cho", "/x/../echo", "//echo", "/./echo" }) do
        local got = assert(http.request(front.address, { path = path, source = source }))
        assert.equal(200, got.status, path)
      end
      local got = assert(http.request(front.address, { path = "/echo", source = source }))
      assert.equal("0", got.headers["x-ratelimit-remaining-minute"])
    end)

    it("passes bodies on", function()
      local body = ("0123456789"):rep(modes.bytes(200000) / 10)
      local got = assert(http.request(front.address, { method = "POST", path = "/echo/echo-body",
                                                       body = body, source = env.client() }))
      assert.equal(200, got.status)
      assert.is_true(got.body == body)
    end)
  end)

  describe("with an authorizer (etc/lighttpd/authorizer.conf)", function()
    local front

    setup(function()
      w = start_weir({ name = "auth", socket = e:path("run/auth.sock") }):start()
      front = fronts.lighttpd(e, { sample = "lighttpd/authorizer.conf", weir = w })
    end)

    teardown(function()
      front:stop()
      w:stop()
    end)

    it("serves the file five times", function()
      local source = env.client()
      local function ask()
        return http.request(front.address, { path = "/echo", source = source })
      end
      limits.assert_six(ask, "a file\n")
    end)

    it("asks for a request with a body without waiting for it", function()
      local got = assert(http.request(front.address, {
        method = "POST", path = "/echo", body = "ten bytes.", source = env.client() }))
      assert.equal("4", got.headers["x-ratelimit-remaining-minute"])
    end)

    it("serves what no route matches without a limit", function()
      local got = assert(http.request(front.address, { path = "/dir/index.html" }))
      assert.equal(200, got.status)
      assert.equal("an index\n", got.body)
      assert.is_nil(got.headers["ratelimit-limit"])
    end)

    it("lets nobody through while weir is away", function()
      local source = env.client()
      w:stop()
      local got = assert(http.request(front.address, { path = "/echo", source = source }))
      assert.equal(503, got.status)
      w:start()
      assert(require("lib.net").wait_until(5, function()
        got = http.request(front.address, { path = "/echo", source = source })
        return got and got.status == 200
      end), "weir is back, but lighttpd does not ask it")
    end)
  end)

  describe("spawning weir (etc/lighttpd/spawned.conf)", function()
    local front

    setup(function()
      w = start_weir({ name = "spawned" })
      front = fronts.lighttpd(e, { sample = "lighttpd/spawned.conf", weir = w })
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

    plain_it("ends weir when it ends, and the counts stay", function()
      local source = env.client()
      local function remaining()
        local got = assert(http.request(front.address, { path = "/echo", source = source }))
        return got.headers["x-ratelimit-remaining-minute"]
      end
      env.stay_clear(60)
      assert.equal("4", remaining())
      front:stop()
      net.wait_until(5, function() -- lighttpd tells weir, and does not wait for it
        return not proc.belonging_to(e:path("bin"))[1]
      end)
      assert.same({}, proc.belonging_to(e:path("bin")))
      front:start()
      assert.equal("3", remaining())
    end)
  end)
end)
