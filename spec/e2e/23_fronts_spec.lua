-- What web servers do that opens a way around a limit, or makes an answer of
-- weir's mean something else: each is a trap that was measured at a real one.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fronts = require "lib.fronts"
local http = require "lib.http"
local limits = require "lib.limits"
local modes = require "lib.modes"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local HOST_YML = [[
  - name: site
    url: %s
    routes: [ { name: site, hosts: [ site.test ] } ]
    plugins: [ { name: rate-limiting, config: { minute: 5 } } ]
]]

describe("no spelling leads past a limit", function()
  local e, w, tcp
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    local service = upstream.nginx(e)
    e:write("www/echo", "a file\n")
    e:write("www/a@b", "another\n")
    local yml = limits.sample_yml(service.url):gsub("%- /echo\n", "%0          - /a@b\n")
    yml = yml .. HOST_YML:format(service.url)
    tcp = "127.0.0.1:" .. e:port() -- all that mod_authnz_fcgi speaks
    w = weir.new(e, { yml = yml, conf = {
      fastcgi_listen = "unix:" .. e:path("run/weir.sock") .. "," .. tcp } }):start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local SAMPLES = {
    apache = "apache/authorizer.conf", lighttpd = "lighttpd/authorizer.conf",
    nginx = "nginx/auth-request.conf",
  }
  local SPELLINGS = {
    "/%65cho", "/x/../echo", "/x/..%2fecho", "/x%2F..%2f%2e/echo", "/%2fecho", "//echo", "/./echo",
    "/a%40b", "/x/%2e%2e%2fa%40b", "/echo?/../x", "http://localhost/x/..%2fecho",
  }
  for name, sample in pairs(SAMPLES) do
    describe("that " .. name, function()
      local front

      setup(function()
        front = fronts[name](e, { sample = sample, weir = w, tcp = tcp })
      end)

      teardown(function()
        front:stop()
      end)

      it("serves", function()
        local served = 0
        for _, path in ipairs(SPELLINGS) do
          local got = assert(http.request(front.address, { path = path, source = env.client() }))
          if got.status ~= 404 then -- as Apache does with %2F
            assert.equal(200, got.status, path)
            assert.equal("4", got.headers["ratelimit-remaining"], path)
            served = served + 1
          end
        end
        assert.is_true(served >= (name == "apache" and 5 or #SPELLINGS))
      end)

      it("takes for a host", function()
        for _, asked in ipairs({
          { "/x", "site.test" }, { "/x", "SITE.test:80" }, { "/x", "site.test." },
          { "/x", "site.test.:80" }, { "/x", "site.test:" }, { "http://site.test/x", "elsewhere" },
        }) do
          local got = assert(http.request(front.address, {
            path = asked[1], headers = { { "Host", asked[2] } }, source = env.client() }))
          if got.status ~= 400 then
            assert.equal(404, got.status) -- there is no such file
            assert.equal("4", got.headers["ratelimit-remaining"], table.concat(asked, " "))
          end
        end
      end)

      it("decodes once only", function()
        local got = assert(http.request(front.address, { path = "/x/..%252fecho" }))
        assert.equal(404, got.status)
        assert.is_nil(got.headers["ratelimit-limit"])
      end)
    end)
  end
end)
