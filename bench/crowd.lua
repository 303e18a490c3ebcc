-- Measures one worker in a crowd: its memory when idle, per idle connection and per request that
-- waits for a slow service, and what other requests cost beside them. Prints the rows of a table.
-- usage: srcdir=. WEIR_BIN=BUILD/weir luajit bench/crowd.lua BUILD   (bench/run does it)
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local limits = require "lib.limits"
local net = require "lib.net"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local resource = require "posix.sys.resource"
local unistd = require "posix.unistd"

local BUILD = arg[1] or error("usage: crowd.lua BUILD_DIR")
local QUICK = arg[2] == "-q"
local PASSES, REQUESTS = QUICK and 3 or 5, QUICK and 40000 or 200000
local PER_CONNECTION = 100 -- waiting requests are multiplexed
local TICKS_PER_S = unistd.sysconf(unistd._SC_CLK_TCK)

local hard = resource.getrlimit(resource.RLIMIT_NOFILE).rlim_max
local IDLE = math.min(10000, hard > 0 and math.floor(hard / 2) or 10000)
local WAITING = math.min(10000, hard > 0 and hard - IDLE - 300 or 10000)
WAITING = WAITING - WAITING % PER_CONNECTION

local function row(what, value, ratio, bar)
  print(("| %s | %s | %s | %s |"):format(what, value, ratio or "", bar or ""))
end

-- CPU microseconds that a process has used.
local function cpu_us(pid)
  local user, system = proc.read_file("/proc/" .. pid .. "/stat")
                           :match("^.*%) %S" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
  return (user + system) * 1e6 / TICKS_PER_S
end

local function median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

-- What a request of others costs now: CPU microseconds, and microseconds until its answer.
local function cost(w)
  local pid, cpu, wait = w:workers()[1], {}, {}
  local command = { "taskset", "-c", "0", BUILD .. "/bench/fcgiload", "-s", w.socket, "-k",
                    "-u", "/answer", "-c", "16", "-n", tostring(REQUESTS) }
  for i = 1, PASSES do
    local before = cpu_us(pid)
    local output, code = proc.run(command, { timeout = 120 })
    assert(code == 0, output)
    cpu[i] = (cpu_us(pid) - before) / REQUESTS
    wait[i] = tonumber(output:match("mean_us (%d+)"))
  end
  return { cpu = median(cpu), wait = median(wait) }
end

local function show(what, now, before)
  local function ratio(field)
    return before and ("%.2f"):format(now[field] / before[field]), before and "<= 1.1"
  end
  row("another request's CPU, us, " .. what, ("%.2f"):format(now.cpu), ratio("cpu"))
  row("another request's time, us, " .. what, now.wait, ratio("wait"))
end

local function config(e)
  local service = upstream.nginx(e)
  return limits.yml(service.url, "{ minute: 1000000000, policy: local }",
                    "    read_timeout: 3600000\n") .. [[
      - name: answer-some
]], service
end

-- Answers /answer itself; everything else goes to the service.
local HANDLER = [[
local AnswerSome = { PRIORITY = 1, VERSION = "1.0.0" }
function AnswerSome:access()
  if kong.request.get_path() == "/answer" then
    return kong.response.exit(200, "ok\n")
  end
end
return AnswerSome
]]

local function open_idle(w, n)
  local conns = {}
  for i = 1, n do
    local c = assert(fcgi.connect(w.unix))
    assert(c:send(fcgi.request({ id = 1, keep = true, params = { REQUEST_URI = "/answer" } })))
    assert(assert(c:answer(1)).status == 200)
    conns[i] = c
  end
  return conns
end

local function open_waiting(w, n)
  local conns = {}
  for i = 1, n / PER_CONNECTION do
    local c = assert(fcgi.connect(w.unix))
    for id = 1, PER_CONNECTION do
      assert(c:send(fcgi.request({ id = id, keep = true,
                                   params = { REQUEST_URI = "/delay?ms=3600000" } })))
    end
    conns[i] = c
  end
  assert(net.wait_until(60, function()
    return w:open_files() >= IDLE + n
  end), "not all requests wait")
  return conns
end

local function measure(e)
  local yml = config(e)
  local w = weir.new(e, {
    yml = yml,
    conf = { workers = 1, max_connections = IDLE + 1000, max_requests = WAITING + 1000,
             plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) },
  })
  weir.write_plugin(e, "answer-some", HANDLER)
  w:start({ files = hard > 0 and hard or IDLE + WAITING + 1000 })
  local private, all = w:rss_kb()
  os.execute("taskset -cp 1 " .. w:workers()[1] .. " >/dev/null")
  row("an idle worker, KiB of its own (with what it shares)", ("%d (%d)"):format(private, all))
  cost(w) -- warm
  local before = cost(w)
  show("alone", before)
  local kb = w:rss_kb()
  local idle = open_idle(w, IDLE)
  row(("an idle connection, bytes, of %d"):format(IDLE),
      math.floor((w:rss_kb() - kb) * 1024 / IDLE + 0.5), nil, "<= 4096")
  show("beside them", cost(w), before)
  kb = w:rss_kb()
  local waiting = open_waiting(w, WAITING)
  row(("a waiting request, bytes, of %d"):format(WAITING),
      math.floor((w:rss_kb() - kb) * 1024 / WAITING + 0.5), nil, "<= 24576")
  show("beside all of them", cost(w), before)
  for _, list in ipairs({ idle, waiting }) do
    for _, c in ipairs(list) do
      c:close()
    end
  end
  w:stop()
end

if hard > 0 then
  resource.setrlimit(resource.RLIMIT_NOFILE, { rlim_cur = hard, rlim_max = hard })
end
local e = env.new()
local ok, err = xpcall(measure, debug.traceback, e)
e:destroy()
if not ok then
  io.stderr:write("bench: ", tostring(err), "\n")
  os.exit(1)
end
