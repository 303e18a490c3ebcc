-- What web servers do that opens a way around a limit, or makes an answer of
-- weir's mean something else: each is a trap that was measured at a real one.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
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

local HANDLER = [[
local _M = { PRIORITY = 2000, VERSION = "1.0.0" }
function _M:access(conf)
  if conf.what == "exit" then
    return kong.response.exit(conf.status, { said = "so" })
  elseif conf.what == "fail" then
    error("on purpose")
  end
end
function _M:header_filter(conf)
  if conf.what == "turn" then
    kong.response.set_status(200)
  end
end
return _M
]]

local ANSWERS_YML = [[
_format_version: "3.0"
services:
  - name: service
    url: %s
    routes:
      - { name: ok, paths: [ /ok ], strip_path: false,
          plugins: [ { name: rate-limiting, config: { hour: 1 } } ] }
      - { name: six, paths: [ /six ], plugins: [ { name: rate-limiting, config:
          { second: 11, minute: 12, hour: 13, day: 14, month: 15, year: 16 } } ] }
      - { name: exit, paths: [ /exit ],
          plugins: [ { name: answers, config: { what: exit, status: 200 } } ] }
      - { name: teapot, paths: [ /teapot ],
          plugins: [ { name: answers, config: { what: exit, status: 418 } } ] }
      - { name: fail, paths: [ /fail ],
          plugins: [ { name: answers, config: { what: fail } } ] }
      - { name: turn, paths: [ /turn ], plugins: [
          { name: answers, config: { what: turn } },
          { name: rate-limiting, config: { hour: 1 } } ] }
]]

describe("a web server is told", function()
  local e, service, w
  local plain_it = it
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    local dir = weir.plugin_dir(e)
    weir.write_plugin(e, "answers", HANDLER,
                      "{ what = { type = 'string' } }, { status = { type = 'integer' } }")
    w = weir.new(e, { yml = ANSWERS_YML:format(service.url), conf = {
      workers = 1, plugin_dir = env.srcdir .. "/plugins," .. dir, max_header_count = 30,
    } }):start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local function authorize(changes, extra, style)
    changes.REMOTE_ADDR = changes.REMOTE_ADDR or env.client()
    changes.WEIR_DENY_STYLE = style
    return assert(fcgi.once(w.unix, { role = fcgi.AUTHORIZER, body = false, params = changes,
                                      extra = extra }))
  end

  -- What each style makes of a status; the status comes first, and it is never a bare end.
  local function assert_refused(status, changes, extra)
    for style, want in pairs({ status = status, nginx = 403, variable = 200 }) do
      local got = authorize(changes, extra, style)
      assert.equal("Status", got.all[1][1])
      if style == "variable" and status >= 500 then
        want = status
      end
      assert.equal(want, got.status, style)
      assert.is_true(got.stdout_closed)
      if style == "nginx" then
        assert.equal(tostring(status), got.headers["x-weir-status"])
      elseif style == "variable" then
        assert.equal(tostring(status), got.headers["variable-weir_status"])
      else
        assert.is_nil(got.raw:find("Variable-", 1, true))
      end
    end
  end

  it("no when a limit is reached", function()
    local client = env.client()
    assert.equal(200, authorize({ REQUEST_URI = "/ok", REMOTE_ADDR = client }).status)
    assert_refused(429, { REQUEST_URI = "/ok", REMOTE_ADDR = client })
  end)

  it("no when a plugin answers, be it with 200", function()
    assert_refused(418, { REQUEST_URI = "/teapot" })
    assert_refused(403, { REQUEST_URI = "/exit" })
  end)

  it("no when a filter turns a refusal into 200", function()
    local client = env.client()
    assert.equal(200, authorize({ REQUEST_URI = "/turn", REMOTE_ADDR = client }).status)
    assert_refused(403, { REQUEST_URI = "/turn", REMOTE_ADDR = client })
  end)

  it("no when a plugin fails", function()
    assert_refused(500, { REQUEST_URI = "/fail" })
    w:expect_log("on purpose", 3)
  end)

  it("no when it is what it sends that is wrong", function()
    local many = {}
    for i = 1, 31 do
      many[i] = { "HTTP_X_" .. i, "v" }
    end
    for status, case in pairs({
      [431] = { {}, many }, [400] = { { REQUEST_METHOD = "?" } },
    }) do
      local got = authorize(case[1], case[2])
      assert.equal("Status", got.all[1][1])
      assert.equal(status, got.status)
    end
    local got = assert(fcgi.once(w.unix, { role = 7, body = false }))
    assert.equal("Status", got.all[1][1])
    assert.equal(500, got.status)
    w:expect_log("is answered", 3)
  end)

  it("yes by the same status without a route", function()
    local got = authorize({ REQUEST_URI = "/elsewhere" })
    assert.equal("Status", got.all[1][1])
    assert.equal(200, got.status)
  end)

  it("yes in a head that nginx takes by default, with all windows", function()
    local got = authorize({ REQUEST_URI = "/six" }, { { "WEIR_ROLE", "authorizer" } }, "nginx")
    assert.equal("13", got.headers["x-ratelimit-limit-hour"])
    assert.is_true(#got.raw < 4096 - 8) -- of fastcgi_buffer_size, without the record's header
  end)

  plain_it("a head of 30 KB that the service sent, and shows it to the client", function()
    local lines = {}
    for i = 1, 30 do
      lines[i] = "X-Long-" .. i .. ": " .. ("v"):rep(1000) .. "\r\n"
    end
    local long = upstream.raw(e, { ["*"] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" ..
      "Connection: close\r\n" .. table.concat(lines) .. "\r\nok" }, 1)
    local heads = weir.new(e, { name = "heads", prefix = "heads", whole_writes = true,
      yml = limits.yml(long.url, "{ minute: 5 }") }):start()
    for name, sample in pairs({ apache = "apache/responder.conf", nginx = "nginx/responder.conf",
                                lighttpd = "lighttpd/responder.conf" }) do
      local front = fronts[name](e, { sample = sample, weir = heads })
      local got = assert(http.request(front.address, { path = "/", source = env.client() }))
      assert.equal(200, got.status, name)
      assert.equal(1000, #(got.headers["x-long-30"] or ""), name)
      assert.equal("4", got.headers["ratelimit-remaining"], name)
      front:stop()
    end
    heads:stop()
  end)

  it("all of a small answer at once", function()
    local client = env.client()
    for _ = 1, 2 do
      local c = assert(fcgi.connect(w.unix))
      assert(c:send(fcgi.request({ keep = true, params = { REQUEST_URI = "/ok",
                                                           REMOTE_ADDR = client } })))
      local bytes = assert(c.conn:recv(5, 65536))
      c.rest = bytes
      if env.mode ~= "slow-io" then
        assert(c:answer(1, 0), "the rest came behind")
      end
      c:close()
    end
  end)

  it("by REQUEST_URI what is asked for, whatever the other variables say", function()
    local got = assert(fcgi.once(w.unix, { params = {
      REQUEST_URI = "/ok/a%20b?x=1", SCRIPT_NAME = "/elsewhere", PATH_INFO = "/a b",
      QUERY_STRING = "y=2", DOCUMENT_URI = "/no", REMOTE_ADDR = env.client() } }))
    assert.equal(200, got.status)
    assert.equal("GET /ok/a%20b?x=1\n", got.body)
  end)

  it("a connection that it opens, though no worker accepts for a while", function()
    local signal = require "posix.signal"
    local workers = w:workers()
    for _, pid in ipairs(workers) do
      signal.kill(pid, signal.SIGSTOP)
    end
    local open, n = {}, 0
    for i = 1, 1024 do
      open[i] = fcgi.connect(w.unix, { timeout = 1 })
      n = n + (open[i] and 1 or 0)
    end
    for _, pid in ipairs(workers) do
      signal.kill(pid, signal.SIGCONT)
    end
    for _, c in pairs(open) do
      c:close()
    end
    assert.equal(1024, n)
    assert.is_not_nil(fcgi.once(w.unix, { params = { REQUEST_URI = "/ok" } }))
  end)
end)
