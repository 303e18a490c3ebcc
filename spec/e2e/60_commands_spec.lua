-- The commands of weir, as an administrator types them, and the signals: what
-- they do, what they print, how they end.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local limits = require "lib.limits"
local net = require "lib.net"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local signal = require "posix.signal"
local stat = require "posix.sys.stat"

-- Runs what follows with SIGCHLD ignored, as some do that start others.
local DEAF = [[
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
]]

describe("the command weir", function()
  local e, service, w

  before_each(function()
    e = env.new()
    service = upstream.nginx(e)
    w = weir.new(e, { yml = limits.sample_yml(service.url),
                      conf = { access_log = e:path("log/access.log") } })
  end)

  after_each(function()
    local ok, err = pcall(e.check, e)
    w:command("stop")
    e:destroy()
    assert(ok, err)
  end)

  local function run(verb, args)
    local text, code = w:command(verb, { args = args })
    return code, text
  end

  local function start()
    local code, text = run("start")
    assert.equal(0, code, text)
    w.master = tonumber(e:read("run/weir.pid"):match("%d+"))
    assert.is_true(proc.is_alive(w.master))
  end

  local function ask(params)
    return fcgi.once(w.unix, { params = params })
  end

  it("start returns when weir serves; stop when it has gone", function()
    start()
    assert.equal(200, assert(ask()).status)
    assert.equal(1, #e:regions())
    local code = run("stop")
    assert.equal(0, code)
    -- under a sanitizer, it looks for leaks at last
    assert(net.wait_until(env.mode == "asan" and 5 or 0.1, function()
      return not proc.is_alive(w.master)
    end), "it is still there")
    assert.is_nil(stat.stat(w.socket))
    assert.is_nil(stat.stat(e:path("run/weir.pid")))
    assert.same({}, e:regions())
  end)

  it("tells of a weir that runs without its pid file, and what to do", function()
    start()
    local pid_file = e:path("run/weir.pid")
    assert(os.remove(pid_file))
    local advice = ("weir runs, pid %d, but somebody has removed %s: kill -QUIT %d, then "
                    .. "weir start"):format(w.master, pid_file, w.master)
    for _, verb in ipairs({ "status", "reload", "stop", "quit", "restart" }) do
      local code, text = run(verb)
      assert.equal(1, code, verb)
      assert.is_truthy(text:find(advice, 1, true), text)
    end
    signal.kill(w.master, signal.SIGQUIT)
    assert(net.wait_until(10, function()
      return not proc.is_alive(w.master)
    end))
    local code, text = run("status")
    assert.equal(1, code)
    assert.matches("not running", text)
    start()
  end)

  it("check warns of a plugin_dir that does not exist", function()
    w:write_conf({ plugin_dir = "/nowhere/weir", pg_password = "{vault://env/some-password}" })
    w:write_yml('_format_version: "3.0"\n')
    local code, text = run("check")
    assert.equal(1, code)
    local _, times = text:gsub("weir.conf:%d+: plugin_dir: /nowhere/weir: there is no such", "")
    assert.equal(1, times, text)
    assert.matches("could not find vault %(env%)", text)
    w:write_conf({})
    code, text = run("check")
    assert.equal(0, code, text)
    assert.not_matches("no such directory", text)
  end)

  it("start says why it cannot", function()
    w:write_conf({ workers = "many" })
    local code, text = run("start")
    assert.equal(1, code)
    assert.matches("weir.conf:%d+: ", text)
    assert.matches("workers", text)
    w:write_conf({})
    w:write_yml("services: [\n")
    code, text = run("start")
    assert.equal(1, code)
    assert.matches("weir.yml", text)
    assert.is_nil(stat.stat(w.socket))
    w:expect_log("cannot start", "maybe")
  end)

  it("start says that weir runs already", function()
    start()
    local code, text = run("start")
    assert.equal(1, code)
    assert.matches("already", text)
    assert.equal(200, assert(ask()).status)
  end)

  it("quit lets what is in flight end", function()
    start()
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(fcgi.request({ params = { REQUEST_URI = "/echo/delay?ms=700" } })))
    net.sleep(0.2)
    -- beside us: a byte at a time, the answer does not fit into a socket that nobody reads
    local quit = w:command_beside("quit")
    assert.equal("late\n", assert(c:answer()).body)
    assert.equal(0, quit:wait(10))
    c:close()
    assert(net.wait_until(5, function()
      return not proc.is_alive(w.master)
    end))
  end)

  it("reload takes the new configuration over", function()
    start()
    w:write_yml((limits.sample_yml(service.url):gsub("minute: 5", "minute: 7")))
    local code, text = run("reload")
    assert.equal(0, code, text)
    assert(net.wait_until(5, function()
      return assert(ask({ REMOTE_ADDR = env.client() })).headers["ratelimit-limit"] == "7"
    end))
  end)

  it("reload keeps the counts", function()
    start()
    local client = env.client()
    env.stay_clear(60, 10)
    assert.equal("4", assert(ask({ REMOTE_ADDR = client })).headers["ratelimit-remaining"])
    assert.equal(0, (run("reload")))
    assert.equal("3", assert(ask({ REMOTE_ADDR = client })).headers["ratelimit-remaining"])
  end)

  it("check says what is wrong, with file and line", function()
    local good, found = run("check")
    assert.equal(0, good, found)
    local files = w.conf_path .. " and " .. w.yml_path
    assert.is_truthy(found:find(files .. " are good\n", 1, true), found)
    assert.matches("\n1 service, 1 route, 1 plugin configured; plugins found: [^\n]*rate%-limiting",
                   found)
    w:write_conf({ no_such_key = 1 })
    local code, text = run("check")
    assert.equal(1, code)
    assert.matches("weir.conf:%d+: .*no_such_key", text)
    w:write_conf({ fastcgi_socket_owner = "no-such-user" })
    code, text = run("check")
    assert.equal(1, code)
    assert.matches("weir.conf:%d+: fastcgi_socket_owner: .*no%-such%-user", text)
    w:write_conf({})
    w:write_yml((limits.sample_yml(service.url):gsub("minute: 5", "minute: five")))
    code, text = run("check")
    assert.equal(1, code)
    assert.matches("minute", text)
    assert.matches("expected a number", text)
  end)

  it("check cuts no line of many mistakes, and counts those that it leaves out", function()
    w:write_yml('_format_version: "3.0"\nservices:\n' .. ("- port: 70000\n"):rep(100))
    local code, text = run("check")
    assert.equal(1, code)
    local _, lines = text:gsub("services%[%d+%]%.%l+: [^\n]+\n", "")
    assert.is_true(lines > 4)
    assert.equal(200 - lines, tonumber(text:match("\nand (%d+) more mistakes\n$")))
  end)

  it("status shows what runs, and fails when nothing does", function()
    local code, text = run("status")
    assert.equal(1, code, text)
    start()
    code, text = run("status")
    assert.equal(0, code)
    assert.matches("pid " .. w.master, text)
    assert.is_truthy(text:find(w.unix, 1, true), text)
  end)

  it("restart replaces everything", function()
    start()
    local before = w.master
    local code, text = run("restart")
    assert.equal(0, code, text)
    w.master = tonumber(e:read("run/weir.pid"):match("%d+"))
    assert.is_not.equal(before, w.master)
    assert.is_false(proc.is_alive(before))
    assert.equal(200, assert(ask()).status)
  end)

  it("restart waits for what it starts, whatever signals it was started without", function()
    start()
    local text, code = proc.run({ "python3", "-c", DEAF, weir.bin, "restart", "-c", w.conf_path },
                                { env = weir.mode_environment() })
    assert.equal(0, code, text)
    assert.equal(200, assert(ask()).status)
  end)

  it("restart leaves a running weir alone when the configuration is wrong", function()
    start()
    w:write_yml("nonsense: [")
    assert.equal(1, (run("restart")))
    assert.is_true(proc.is_alive(w.master))
    assert.equal(200, assert(ask()).status)
  end)

  it("restart leaves it alone too when a log cannot be opened", function()
    start()
    w:write_conf({ access_log = e:path("no/such/access.log") })
    local code, text = run("restart")
    assert.equal(1, code)
    assert.matches("weir.conf:%d+: access_log: cannot open ", text)
    assert.matches("not restarted, what runs goes on", text)
    assert.is_true(proc.is_alive(w.master))
    assert.equal(200, assert(ask()).status)
  end)

  it("restart says so when it has stopped what ran and cannot start", function()
    start()
    w:expect_log("cannot start", "maybe")
    w:write_conf({ counter_file = e:path("no/such/counters") })
    local code, text = run("restart")
    assert.equal(1, code)
    assert.matches("counter_file: .*cannot open .*/no/such/counters: No such file", text)
    assert.matches("what ran was stopped before this", text)
    assert.is_false(proc.is_alive(w.master))
  end)

  it("names the key for what is enabled and not there", function()
    for key, word in pairs({ plugins = "plugin", vaults = "vault" }) do
      w:write_conf({ [key] = "bundled, zork" })
      local code, text = run("check")
      assert.equal(1, code)
      assert.matches("weir%.conf:%d+: " .. key .. ": zork " .. word .. " is enabled but not", text)
    end
  end)

  it("plugins lists and checks plugins", function()
    local code, text = run("plugins", { "list" })
    assert.equal(0, code)
    assert.matches("rate%-limiting", text)
    code, text = run("plugins", { "check" })
    assert.equal(0, code, text)
  end)

  it("refuses the Lua files of another build", function()
    local text = proc.read_file(env.srcdir .. "/lua/weir/abi.lua")
    proc.run({ "cp", "-r", env.srcdir .. "/lua", e:path("lua") })
    e:write("lua/weir/abi.lua", (text:gsub("SUM = %d+", "SUM = 1")))
    local out, code = w:command("check", { vars = { WEIR_DATA_DIR = e.dir } })
    assert.equal(1, code)
    assert.matches("are of another build than this weir", out)
  end)

  it("misused ends with status 2 and says how it is used", function()
    for _, argv in ipairs({ { "no-such-command" }, { "start", "--no-such-option" }, {} }) do
      local text, code = proc.run({ weir.bin, unpack(argv) }, { env = weir.mode_environment() })
      assert.equal(2, code, text)
      assert.matches("weir", text)
    end
    local text, code = proc.run({ weir.bin, "--help" }, { env = weir.mode_environment() })
    assert.equal(0, code)
    for _, verb in ipairs({ "start", "stop", "quit", "reload", "restart", "check", "status" }) do
      assert.matches("%f[%w]" .. verb .. "%f[%W]", text)
    end
  end)

  it("says once that the access log cannot be written", function()
    w:write_conf({ access_log = "/dev/full", workers = 1 })
    start()
    w:expect_log("access_log: cannot write /dev/full, lines are lost")
    for _ = 1, 3 do
      assert.equal(200, assert(ask()).status)
    end
  end)

  it("opens its logs again at SIGUSR1", function()
    start()
    assert(ask())
    assert(net.wait_until(3, function()
      return e:read("log/access.log") ~= ""
    end))
    os.rename(e:path("log/access.log"), e:path("log/access.old"))
    os.rename(w.log_path, w.log_path .. ".old")
    w.read_to[1] = 0
    signal.kill(w.master, signal.SIGUSR1)
    assert(w:wait_log("logs opened again"))
    assert(net.wait_until(5, function()
      ask()
      return e:read("log/access.log") ~= ""
    end), "the access log was not opened again")
  end)

  it("leaves root", function()
    if not env.is_root then
      return
    end
    start()
    for _, pid in ipairs(w:workers()) do
      local uid = proc.read_file("/proc/" .. pid .. "/status"):match("Uid:%s+(%d+)")
      assert.is_not.equal("0", uid)
    end
    assert.equal(200, assert(ask()).status)
  end)

  it("cleans up after a master that was killed", function()
    start()
    signal.kill(w.master, signal.SIGKILL)
    assert(net.wait_until(10, function()
      return #proc.belonging_to(w.conf_path) == 0
    end), "workers outlive their master")
    start()
    assert.equal(200, assert(ask()).status)
  end)
end)
