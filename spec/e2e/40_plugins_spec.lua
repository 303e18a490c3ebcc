-- Plugins of a site: dropped into plugin_dir they work after a reload; a
-- broken one is named with file and line while what runs goes on.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local limits = require "lib.limits"
local net = require "lib.net"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local signal = require "posix.signal"
local unistd = require "posix.unistd"

local GREETER = [[
local greeter = { PRIORITY = 500, VERSION = "1.0.0" }

function greeter:access(conf)
  kong.service.request.set_header("X-Greeting", conf.text)
end

function greeter:header_filter(conf)
  kong.response.set_header("X-Greeted", conf.text)
end

return greeter
]]

local FIELDS = '{ text = { type = "string", required = true } }'

local SAMPLE = [[
_format_version: "3.0"
services:
  - name: service
    url: URL
    routes: [ { name: all, paths: [ / ], strip_path: false } ]
    plugins: PLUGINS
]]

local LOOPING = GREETER:gsub("kong.service.request.set_header",
  "if kong.request.get_path() == '/loop' then while true do end end %0")

describe("a plugin of the site", function()
  local e, service, w

  local function yml(plugins)
    return (SAMPLE:gsub("URL", service.url):gsub("PLUGINS", plugins))
  end

  before_each(function()
    e = env.new()
    service = upstream.nginx(e)
    local dir = weir.plugin_dir(e)
    w = weir.new(e, { yml = yml("[]"),
                      conf = { plugin_dir = env.srcdir .. "/plugins," .. dir, workers = 2 } })
    w:start()
  end)

  after_each(function()
    e:check()
    w:stop()
    e:destroy()
  end)

  local function ask(path)
    return assert(fcgi.once(w.unix, { params = { REQUEST_URI = path or "/headers" } }))
  end

  it("works after SIGHUP", function()
    assert.is_nil(ask().headers["x-greeted"])
    weir.write_plugin(e, "greeter", GREETER, FIELDS)
    w:write_yml(yml("[ { name: greeter, config: { text: hello } } ]"))
    assert(w:reload())
    assert(net.wait_until(5, function()
      return ask().headers["x-greeted"] == "hello"
    end))
    assert.matches("\r\nX%-Greeting: hello\r\n", ask().body)
  end)

  it("changes with its file and its configuration after SIGHUP", function()
    weir.write_plugin(e, "greeter", GREETER, FIELDS)
    w:write_yml(yml("[ { name: greeter, config: { text: hello } } ]"))
    assert(w:reload())
    weir.write_plugin(e, "greeter", (GREETER:gsub("X%-Greeted", "X-Welcomed")), FIELDS)
    w:write_yml(yml("[ { name: greeter, config: { text: again } } ]"))
    assert(w:reload())
    assert(net.wait_until(5, function()
      return ask().headers["x-welcomed"] == "again"
    end))
    assert.is_nil(ask().headers["x-greeted"])
  end)

  -- What is wrong, and what the log and "weir reload" must say of it.
  local BROKEN = {
    { "does not parse", GREETER:gsub("return greeter", "return return"), FIELDS,
      "greeter/handler.lua:11:" },
    { "fails while it is loaded", "local x\nx.y = 1\nreturn {}", FIELDS, "greeter/handler.lua:2:" },
    { "has no priority", "return { VERSION = '1.0.0' }", FIELDS, "greeter/handler.lua" },
    { "has a schema that does not parse", GREETER, "{ text = { ", "greeter/schema.lua:" },
    { "has a schema of another language", GREETER, '{ text = { type = "sting" } }', "greeter" },
  }

  for _, case in ipairs(BROKEN) do
    local what, handler, fields, where = unpack(case)
    it("that " .. what .. " is named, and the running generation stays", function()
      local before = w:workers()
      weir.write_plugin(e, "greeter", handler, fields)
      w:write_yml(yml("[ { name: greeter, config: { text: hello } } ]"))
      local text, code = w:command("reload")
      assert.equal(1, code)
      assert.is_truthy(text:find(where, 1, true), text)
      w:expect_log("reload failed")
      assert(net.wait_until(2, function()
        return #w:workers() == #before -- the trial has gone
      end))
      assert.same(before, w:workers())
      assert.equal(200, ask().status)
      text, code = w:command("check")
      assert.equal(1, code)
      assert.is_truthy(text:find(where, 1, true), text)
    end)
  end

  it("is refused a configuration that its schema does not allow", function()
    weir.write_plugin(e, "greeter", GREETER, FIELDS)
    w:write_yml(yml("[ { name: greeter, config: { txt: hello } } ]"))
    local text, code = w:command("reload")
    assert.equal(1, code)
    assert.is_truthy(text:find("txt", 1, true), text)
    assert.is_truthy(text:find("unknown field", 1, true), text)
    w:expect_log("reload failed")
    assert.equal(200, ask().status)
  end)

  it("that nobody has is refused by name", function()
    w:write_yml(yml("[ { name: no-such-plugin } ]"))
    local text, code = w:command("reload")
    assert.equal(1, code)
    assert.is_truthy(text:find("no-such-plugin", 1, true), text)
    w:expect_log("reload failed")
    assert.equal(200, ask().status)
  end)

  it("costs its own request when it fails, and no other", function()
    weir.write_plugin(e, "greeter", GREETER:gsub("kong.service.request.set_header",
      "if kong.request.get_path() == '/boom' then error('boom') end %0"), FIELDS)
    w:write_yml(yml("[ { name: greeter, config: { text: hello } } ]"))
    assert(w:reload())
    local got = ask("/boom")
    assert.equal(500, got.status)
    assert.equal('{"message":"An unexpected error occurred"}', got.body)
    local line = w:wait_log("boom")
    w:expect_log("boom", "any")
    for _, word in ipairs({ "greeter", "access", "handler.lua:4", "all" }) do
      assert.is_truthy(line:find(word, 1, true), line)
    end
    assert.equal(200, ask().status)
  end)

  it("that fails as a filter is told with route and request, and once", function()
    for _, phase in ipairs({ "header_filter", "body_filter" }) do
      weir.write_plugin(e, "greeter", ([[
        local greeter = { PRIORITY = 500, VERSION = "1.0.0" }
        function greeter:%s()
          error("bo" .. "om")
        end
        return greeter]]):format(phase), FIELDS)
      w:write_yml(yml("[ { name: greeter, config: { text: hello } } ]"))
      assert(w:reload())
      local wanted = phase .. " phase, route all, request %x+: .*handler.lua:3: boom"
      w:expect_log(wanted)
      ask()
      assert(w:wait_log(wanted))
    end
  end)

  it("that loops for ever takes down its own worker, which comes back", function()
    w:write_conf({ plugin_dir = env.srcdir .. "/plugins," .. e:path("plugins"), workers = 2,
                   heartbeat_timeout = "1s" })
    weir.write_plugin(e, "greeter", LOOPING, FIELDS)
    w:write_yml(yml("[ { name: greeter, config: { text: hello } } ]"))
    assert(w:reload())
    net.sleep(0.3)
    local before = w:workers()
    assert.equal(2, #before)
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(fcgi.request({ params = { REQUEST_URI = "/loop?key=hidden" } })))
    local served, lost = 0, 0
    local till = net.now() + 3
    while net.now() < till do
      -- a connection that the looping worker took is lost with it; no other is
      if fcgi.once(w.unix, { timeout = 4 }) then
        served = served + 1
      else
        lost = lost + 1
      end
    end
    assert.is_nil((c:answer(1, 1)))
    c:close()
    assert.is_true(served > 20, served .. " served")
    assert.is_true(lost <= 1, lost .. " lost")
    local after = w:workers()
    assert.equal(2, #after)
    local kept = 0
    for _, pid in ipairs(after) do
      kept = kept + ((pid == before[1] or pid == before[2]) and 1 or 0)
    end
    assert.equal(1, kept)
    w:expect_log("heartbeat_timeout", 1)
    w:expect_log("worker %d: at its end this process was in %[greeter%] access phase, " ..
                 "route all, request %x+, GET /loop$", 1)
    w:expect_log("died by signal")
  end)

  it("is named by what it loops in: a timer, a look-up, or a request after a wait", function()
    e:write("plugins/vaults/dizzy/schema.lua", [[
      return { name = "dizzy", fields = require("weir.schema.vault").fields({}) }
    ]])
    e:write("plugins/vaults/dizzy/init.lua", [[
      return { VERSION = "1.0.0", get = function() while true do end end }
    ]])
    weir.write_plugin(e, "looper", [[
      local timer = require "weir.timer"
      local function spin() while true do end end
      return { VERSION = "1.0.0", PRIORITY = 1,
        access = function()
          local path = kong.request.get_path()
          if path == "/timer" then
            timer.at(0.1, spin)
          elseif path == "/vault" then
            kong.vault.get("{vault://dizzy/spin}")
          end
          timer.sleep(0.2)
        end,
        header_filter = function()
          spin()
        end }
    ]])
    w:write_conf({ plugin_dir = env.srcdir .. "/plugins," .. e:path("plugins"), workers = 1,
                   heartbeat_timeout = "500ms" })
    w:write_yml(yml("[ { name: looper } ]"))
    assert(w:reload())
    for path, at in pairs({
      ["/timer"] = "%[looper%] timer phase$",
      ["/vault"] = "timer phase, looking up {vault://dizzy/spin}$",
      ["/a%0Ab"] = "%[looper%] header_filter phase, route all, request %x+, GET /a%%0Ab$",
    }) do
      w:expect_log("heartbeat_timeout", 3)
      w:expect_log("at its end this process was in .*" .. at, 1)
      w:expect_log("died by signal", 3)
      w:expect_log("it comes back in %d s", "maybe")
      assert.is_nil((fcgi.once(w.unix, { params = { REQUEST_URI = path }, timeout = 5 })))
      assert(w:wait_log("at its end this process was in .*" .. at))
      assert(net.wait_until(10, function()
        local pid = w:workers()[1]
        return pid and fcgi.connect(w.unix)
      end))
      net.sleep(1)
    end
  end)

  -- Sends the worker at the address into its loop; the connection, to be closed.
  local function send_into_loop(address)
    local c = assert(fcgi.connect(address))
    assert(c:send(fcgi.request({ params = { REQUEST_URI = "/loop" } })))
    net.sleep(0.1)
    return c
  end

  local function assert_nobody_left(name)
    assert(net.wait_until(10, function()
      return #proc.belonging_to(name) == 0
    end), "a worker loops for ever")
  end

  it("that loops for ever ends its worker also when the master was killed", function()
    w:write_conf({ plugin_dir = env.srcdir .. "/plugins," .. e:path("plugins"), workers = 1,
                   heartbeat_timeout = "1s" })
    weir.write_plugin(e, "greeter", LOOPING, FIELDS)
    w:write_yml(yml("[ { name: greeter, config: { text: hello } } ]"))
    assert(w:reload())
    local c = send_into_loop(w.unix)
    signal.kill(w.master, signal.SIGKILL)
    assert_nobody_left(w.conf_path)
    c:close()
    w:expect_log("twice the heartbeat_timeout: it ends itself; it was in %[greeter%] access phase")
    w.proc:wait(5)
    w.proc = nil
  end)

  it("that loops for ever ends a process that a web server has spawned", function()
    weir.write_plugin(e, "greeter", LOOPING, FIELDS)
    local spawned = weir.new(e, {
      name = "spawned", yml = yml("[ { name: greeter, config: { text: hello } } ]"),
      conf = { fastcgi_listen = "stdin", heartbeat_timeout = "500ms",
               plugin_dir = e:path("plugins") },
    })
    local vars = weir.mode_environment()
    vars.WEIR_SPEC_DIR = e.dir
    local p = e:spawn({ "spawn-fcgi", "-n", "-s", spawned.socket, "-M", "0666", "--", weir.bin,
                        "-c", spawned.conf_path }, { env = vars })
    assert(env.wait_listening(spawned.unix, p), e:read("log/spawn-fcgi.out"))
    local c = send_into_loop(spawned.unix)
    p:wait(10)
    assert.equal("killed", p.status)
    assert.equal(signal.SIGALRM, p.code)
    c:close()
    spawned:expect_log("twice the heartbeat_timeout: .* %[greeter%] access phase, .*, GET /loop$")
  end)

  it("stays as it was checked for a worker that comes back", function()
    local with_module = "local greeting = require 'kong.plugins.greeter.greeting'\n" ..
      GREETER:gsub("conf%.text%)\nend\n\nreturn",
                   "greeting .. require 'kong.plugins.greeter.late')\nend\n\nreturn")
    weir.write_plugin(e, "greeter", with_module, FIELDS)
    e:write("plugins/greeter/greeting.lua", "return 'hello'")
    e:write("plugins/greeter/late.lua", "return ' again'") -- nobody loads it before a request
    w:write_yml(yml("[ { name: greeter, config: { text: hello } } ]"))
    assert(w:reload())
    -- the next generation is not wanted yet, and would be refused
    for _, name in ipairs({ "handler", "schema", "greeting", "late" }) do
      e:write("plugins/greeter/" .. name .. ".lua", "return return")
    end
    w:write_yml("services: [\n")
    net.sleep(1.1) -- a worker that dies younger comes back later
    for _, pid in ipairs(w:workers()) do
      signal.kill(pid, signal.SIGKILL)
    end
    assert(net.wait_until(5, function()
      local got = fcgi.once(w.unix, { params = { REQUEST_URI = "/headers" } })
      return got and got.headers["x-greeted"] == "hello again"
    end), w:log())
    w:expect_log("died by signal 9", 2)
    w:write_yml(yml("[ { name: greeter, config: { text: hello } } ]"))
    local text, code = w:command("reload")
    assert.equal(1, code)
    assert.is_truthy(text:find("greeter/handler.lua:1: ", 1, true), text)
    w:expect_log("reload failed")
    assert.equal("hello again", ask().headers["x-greeted"])
    for _, name in ipairs({ "greeting", "late" }) do
      unistd.unlink(e:path("plugins/greeter/" .. name .. ".lua"))
    end
    weir.remove_plugin(e, "greeter")
  end)

  it("may be one of those that came with weir", function()
    w:write_yml(limits.yml(service.url, "{ hour: 7, policy: local }"))
    assert(w:reload())
    assert.equal("7", ask().headers["ratelimit-limit"])
  end)
end)
