-- nginx in front of weir, with the samples of etc/nginx as they are.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fronts = require "lib.fronts"
local http = require "lib.http"
local limits = require "lib.limits"
local modes = require "lib.modes"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

describe("nginx", function()
  local e, service, w
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    e:write("www/echo", "a file\n")
    e:write("www/echo-dir/index.html", "an index\n")
    w = weir.new(e, { yml = limits.sample_yml(service.url) }):start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  describe("as responder (etc/nginx/responder.conf)", function()
    local front

    setup(function()
      front = fronts.nginx(e, { sample = "nginx/responder.conf", weir = w })
    end)

    teardown(function()
      front:stop()
    end)

    it("limits six requests to five", function()
      local source = env.client()
      limits.assert_six(function()
        return http.request(front.address, { path = "/echo", source = source })
      end, "hello\n")
    end)

    it("keeps its connections to weir", function()
      local function ask()
        return assert(http.request(front.address, { path = "/elsewhere" }))
      end
      ask()
      local before = w:open_files()
      for _ = 1, 40 do
        assert.equal(404, ask().status)
      end
      assert.is_true(w:open_files() - before < 10)
    end)

    it("joins headers that the client sent twice", function()
      local got = assert(http.request(front.address, { path = "/echo/headers",
        headers = { { "X-Twice", "a" }, { "X-Twice", "b" },
                    { "Cookie", "c=1" }, { "Cookie", "d=2" } },
        source = env.client() }))
      assert.matches("[Xx]%-[Tt]wice: a, b\r\n", got.body)
      assert.matches("[Cc]ookie: c=1; d=2\r\n", got.body)
    end)

    it("is not steered by a service", function()
      local got = assert(http.request(front.address, { path = "/echo/set-headers",
                                                       source = env.client() }))
      assert.equal(200, got.status)
      assert.equal("ok\n", got.body)
      assert.is_nil(got.headers["x-accel-redirect"])
      assert.is_nil(got.headers["x-sendfile"])
    end)

    it("passes HEAD on", function()
      local got = assert(http.request(front.address, { method = "HEAD", path = "/echo",
                                                       source = env.client() }))
      assert.equal(200, got.status)
      assert.equal("6", got.headers["content-length"])
    end)
  end)

  describe("with auth_request (etc/nginx/auth-request.conf)", function()
    local front

    setup(function()
      front = fronts.nginx(e, { sample = "nginx/auth-request.conf", weir = w })
    end)

    teardown(function()
      front:stop()
    end)

    it("serves the file five times", function()
      local source = env.client()
      limits.assert_six(function()
        return http.request(front.address, { path = "/echo", source = source })
      end, "a file\n")
    end)

    it("counts the page of a directory once, though nginx asks twice", function()
      local source = env.client()
      env.stay_clear(60)
      for remaining = 4, 3, -1 do
        local got = assert(http.request(front.address, { path = "/echo-dir/", source = source }))
        assert.equal(200, got.status)
        assert.equal("an index\n", got.body)
        assert.equal(tostring(remaining), got.headers["x-ratelimit-remaining-minute"])
      end
    end)

    it("serves what no route matches without a limit", function()
      local got = assert(http.request(front.address, { path = "/hello.txt" }))
      assert.equal(200, got.status)
      assert.equal("hello\n", got.body)
      assert.is_nil(got.headers["ratelimit-limit"])
    end)

    it("asks for a request with a body without sending it", function()
      local got = assert(http.request(front.address, { method = "POST", path = "/echo",
                                      body = "ten bytes.", source = env.client() }))
      assert.equal(405, got.status) -- nginx's own: a file takes no POST
      assert.equal("4", got.headers["x-ratelimit-remaining-minute"])
    end)
  end)
end)
