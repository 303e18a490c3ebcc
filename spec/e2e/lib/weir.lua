-- The weir under test: its configuration files, its life, and its error log.
-- After each example check() asserts that the log holds no line of level warn
-- or above but those that the example announced with expect_log.
local signal = require "posix.signal"
local stdlib = require "posix.stdlib"
local unistd = require "posix.unistd"
local stat = require "posix.sys.stat"
local net = require "lib.net"
local env = require "lib.env"
local proc = require "lib.proc"

local _M = {}

local weir = {}
weir.__index = weir

local BAD_LEVELS = { emerg = true, alert = true, crit = true, error = true, warn = true }

_M.bin = stdlib.realpath(os.getenv("WEIR_BIN") or "build/weir")
if not _M.bin then
  error("no weir to test: set WEIR_BIN")
end

-- What makes weir read and write in pieces, and which (see spec/slowio.c).
function _M.slow_io(what)
  return { WEIR_TEST_SLOW_IO = what,
           LD_PRELOAD = assert(stdlib.realpath(os.getenv("WEIR_SLOWIO") or "build/slowio.so")) }
end

-- What the mode puts around weir, and around nothing else. whole_writes: for fronts that do not
-- take a record in pieces.
local function mode_environment(whole_writes)
  local vars = { WEIR_DATA_DIR = os.getenv("WEIR_DATA_DIR") or env.srcdir }
  if env.mode == "slow-io" then
    for name, value in pairs(_M.slow_io(whole_writes and "read" or "1")) do
      vars[name] = value
    end
  elseif env.mode == "nojit" then
    vars.WEIR_TEST_JIT = "off"
  elseif env.mode == "asan" then
    -- what is freed stays out of use for a while, but not in more memory than specs bear
    vars.ASAN_OPTIONS = "abort_on_error=0:exitcode=99:detect_leaks=1:quarantine_size_mb=8"
    vars.UBSAN_OPTIONS = "print_stacktrace=1:halt_on_error=1"
  end
  return vars
end
_M.mode_environment = mode_environment

local function conf_text(self, changes)
  local keys = {
    prefix = self.prefix or self.env:path("run"), fastcgi_listen = "unix:" .. self.socket,
    fastcgi_socket_mode = "0666", workers = 2, declarative_config = self.yml_path,
    error_log = self.log_path, log_level = "notice", counter_memory = "4m",
    user = env.is_root and "www-data" or "", drain_timeout = "10s",
    plugin_dir = env.srcdir .. "/plugins", max_connections = 4096, max_requests = 4096,
    upstream_keepalive_pool_size = 128,
  }
  for key, value in pairs(changes or {}) do
    keys[key] = value
  end
  local lines = {}
  for key, value in pairs(keys) do
    lines[#lines + 1] = key .. " = " .. tostring(value)
  end
  table.sort(lines)
  return table.concat(lines, "\n") .. "\n"
end

-- opts: name (default "weir"), conf (keys that differ), yml (text of weir.yml), whole_writes (see
-- mode_environment), prefix (of its own, for one beside others).
-- .socket is its unix socket, .unix that as an address.
function _M.new(e, opts)
  local name = opts.name or "weir"
  local self = setmetatable({ env = e, name = name, conf = opts.conf or {}, expected = {} }, weir)
  self.socket = opts.socket or e:path("run/" .. name .. ".sock")
  self.unix = "unix:" .. self.socket
  self.conf_path = e:path(name .. ".conf")
  self.yml_path = e:path(name .. ".yml")
  self.log_name = "log/" .. name .. ".log"
  self.log_path = e:path(self.log_name)
  self.read_to = { 0, 0 }
  self.whole_writes = opts.whole_writes
  if opts.prefix then
    self.prefix = e:path(opts.prefix)
    stat.mkdir(self.prefix, 7 * 64 + 5 * 8 + 5)
  end
  self:write_conf(self.conf)
  self:write_yml(opts.yml)
  e:add_check(function()
    self:check()
  end)
  return self
end

function weir:write_conf(changes)
  self.env:write(self.name .. ".conf", conf_text(self, changes))
end

function weir:write_yml(text)
  self.env:write(self.name .. ".yml", text)
end

-- How many generations have served, and how many reloads have failed.
local function generations(self)
  return self:log_count("%[notice%] [^\n]* serves with "), self:log_count("reload failed")
end

-- Starts it in the foreground and waits until it serves. opts.files: the limit of open files;
-- opts.clock_off_s: how far its clock is ahead; opts.vars: more variables of its environment.
function weir:start(opts)
  opts = opts or {}
  local argv = { _M.bin, "start", "--foreground", "-c", self.conf_path }
  local vars = mode_environment(self.whole_writes)
  if opts.clock_off_s then
    proc.move_clock(vars, opts.clock_off_s)
  end
  for name, value in pairs(opts.vars or {}) do
    vars[name] = value
  end
  self.proc = self.env:spawn(argv, {
    env = vars, files = opts.files,
    output = self.env:path("log/" .. self.name .. ".out"),
  })
  local served = generations(self)
  net.wait_until(30, function()
    return not self.proc:alive() or generations(self) > served
  end)
  if generations(self) == served then
    error(("weir does not serve (%s %s)\n%s%s"):format(tostring(self.proc.status),
          tostring(self.proc.code), self:output(), self:log()), 2)
  end
  self.master = self.proc.pid
  return self
end

local function command_of(self, verb, opts)
  local argv = { _M.bin, verb, "-c", self.conf_path }
  for _, arg in ipairs(opts.args or {}) do
    argv[#argv + 1] = arg
  end
  local vars = mode_environment(self.whole_writes)
  vars.WEIR_SPEC_DIR = self.env.dir
  for name, value in pairs(opts.vars or {}) do
    vars[name] = value
  end
  return argv, { env = vars, timeout = opts.timeout }
end

-- A command on this configuration, such as "check": its output and exit code. opts: args, timeout,
-- vars (more variables of its environment).
function weir:command(verb, opts)
  return proc.run(command_of(self, verb, opts or {}))
end

-- The same beside what the spec does meanwhile: the process.
function weir:command_beside(verb)
  return self.env:spawn(command_of(self, verb, {}))
end

function weir:output()
  return self.env:read("log/" .. self.name .. ".out")
end

function weir:log()
  return self.env:read(self.log_name)
end

-- The worker processes, oldest first: the master's children that serve.
function weir:workers()
  local out = {}
  for _, pid in ipairs(proc.children(self.master)) do
    out[#out + 1] = pid
  end
  return out
end

-- SIGHUP. False when weir refuses it. True when the new generation serves, and the workers of the
-- old one have gone: until they have, they may take a connection; those that have work to do are
-- not waited for.
function weir:reload(seconds)
  local served, failed = generations(self)
  local before = #self:workers()
  signal.kill(self.master, signal.SIGHUP)
  local good = net.wait_until(seconds or 30, function()
    local s, f = generations(self)
    return (s > served or f > failed) and { s > served }
  end)[1]
  if good then
    net.wait_until(2, function()
      return #self:workers() <= before
    end)
  end
  return good
end

-- What the log and standard error got since the last check.
function weir:news()
  local log, output = self:log(), self:output()
  return log:sub(self.read_to[1] + 1) .. output:sub(self.read_to[2] + 1), #log, #output
end

function weir:log_count(pattern)
  local _, n = self:log():gsub(pattern, "")
  return n
end

-- Waits for a line that matches; the line, or nil.
function weir:wait_log(pattern, seconds)
  return net.wait_until(seconds or 5, function()
    for line in self:news():gmatch("[^\n]+") do
      if line:match(pattern) then
        return line
      end
    end
  end)
end

-- The example will cause a line of level warn or above that matches. It must come, and that
-- many times at most; "any" allows any number, "maybe" none too.
function weir:expect_log(pattern, times)
  local number = type(times) == "number" and times or times == nil and 1 or nil
  for _, want in ipairs(self.expected) do
    if want.pattern == pattern then -- an example that is repeated
      want.times = number and want.times and want.times + number
      return
    end
  end
  self.expected[#self.expected + 1] = {
    pattern = pattern, seen = 0, optional = times == "maybe", times = number,
  }
end

local function is_expected(self, line)
  local found
  for _, want in ipairs(self.expected) do
    if line:match(want.pattern) then
      found = want
      if not want.times or want.seen < want.times then
        break
      end
    end
  end
  if found then
    found.seen = found.seen + 1
  end
  return found ~= nil
end

-- What a sanitizer says, and the master of a worker that crashed.
local function is_crash(line)
  local number = line:match("died by signal (%d+)")
  return number and tonumber(number) ~= signal.SIGKILL
         or line:find("Sanitizer", 1, true) or line:find("runtime error:", 1, true)
end

local function is_bad(line)
  local level = line:match("^%d+/%d+/%d+ [%d:]+ %[(%a+)%]")
  return BAD_LEVELS[level] or is_crash(line)
end

-- The bad lines of the log and of standard error since the last call.
function weir:check()
  if #self.expected > 0 then
    net.wait_until(2, function()
      local news = self:news()
      for _, want in ipairs(self.expected) do
        if not want.optional and not news:find(want.pattern) then
          return false
        end
      end
      return true
    end)
  end
  local news, log_to, output_to = self:news()
  local bad = {}
  for line in news:gmatch("[^\n]+") do
    if is_bad(line) and not is_expected(self, line) then
      bad[#bad + 1] = line
    end
  end
  local expected = self.expected
  self.read_to, self.expected = { log_to, output_to }, {}
  if #bad > 0 then
    error("weir logged:\n" .. table.concat(bad, "\n"), 0)
  end
  for _, want in ipairs(expected) do
    if want.seen == 0 and not want.optional then
      error("weir did not log: " .. want.pattern, 0)
    elseif want.times and want.seen > want.times then
      error(("weir logged %d times, not %d: %s"):format(want.seen, want.times, want.pattern), 0)
    end
  end
end

-- Ends it: gracefully (SIGQUIT) or fast. Raises when it must be killed, a process stays, or one
-- crashes as it ends.
function weir:stop(number)
  if not self.proc then
    return
  end
  if not self.proc:stop(number or signal.SIGTERM, 15) then
    error("weir did not stop when asked", 2)
  end
  self.proc = nil
  for line in self:news():gmatch("[^\n]+") do
    if is_crash(line) and not is_expected(self, line) then
      error("weir ended so:\n" .. line, 2)
    end
  end
end

function weir:rss_kb()
  local all, private = 0, 0
  for _, pid in ipairs(self:workers()) do
    local a, p = proc.rss_kb(pid)
    all, private = all + a, private + p
  end
  return private, all
end

function weir:open_files()
  local n = 0
  for _, pid in ipairs(self:workers()) do
    n = n + proc.open_files(pid)
  end
  return n
end

-- A plugin directory for plugins that a spec brings along; give it to the key plugin_dir.
function _M.plugin_dir(e)
  local dir = e:path("plugins")
  stat.mkdir(dir, 7 * 64 + 5 * 8 + 5)
  return dir
end

-- Writes dir/name/handler.lua and schema.lua.
function _M.write_plugin(e, name, handler, fields)
  e:write("plugins/" .. name .. "/handler.lua", handler)
  e:write("plugins/" .. name .. "/schema.lua", ([[
return {
  name = "%s",
  fields = {
    { config = { type = "record", fields = { %s } } },
  },
}
]]):format(name, fields or ""))
end

function _M.remove_plugin(e, name)
  for _, file in ipairs({ "handler.lua", "schema.lua" }) do
    unistd.unlink(e:path("plugins/" .. name .. "/" .. file))
  end
  unistd.rmdir(e:path("plugins/" .. name))
end

return _M
