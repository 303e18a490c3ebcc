-- Processes under test: starting them in a group of their own with their own
-- environment and output files, looking at them through /proc, ending them.
-- Every process that a spec causes, also one that made itself a daemon, is
-- recognised by the spec's directory, which its environment, its command line
-- or one of its open files names.
local unistd = require "posix.unistd"
local signal = require "posix.signal"
local wait = require "posix.sys.wait"
local fcntl = require "posix.fcntl"
local stdlib = require "posix.stdlib"
local dirent = require "posix.dirent"
local resource = require "posix.sys.resource"
local net = require "lib.net"

local _M = {}

local proc = {}
proc.__index = proc

local function read_file(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read("*a")
  file:close()
  return text
end
_M.read_file = read_file

local function open_output(path)
  local flags = fcntl.O_WRONLY + fcntl.O_CREAT + fcntl.O_APPEND
  return assert(fcntl.open(path, flags, 6 * 64 + 4 * 8 + 4))
end

-- Runs in the child; never returns.
local function become(argv, opts)
  unistd.setpid("p", 0, 0)
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  local null = fcntl.open("/dev/null", fcntl.O_RDONLY)
  local out = open_output(opts.output or "/dev/null")
  unistd.dup2(opts.stdin or null, 0)
  unistd.dup2(out, 1)
  unistd.dup2(out, 2)
  for name, value in pairs(opts.env or {}) do
    stdlib.setenv(name, tostring(value))
  end
  if opts.files then
    resource.setrlimit(resource.RLIMIT_NOFILE, { rlim_cur = opts.files, rlim_max = opts.files })
  end
  if opts.cwd then
    unistd.chdir(opts.cwd)
  end
  local name = table.remove(argv, 1)
  error(select(2, unistd.execp(name, argv)), 0)
end

-- opts: output (file for stdout and stderr), env (table), stdin (descriptor), cwd, files (limit).
function _M.spawn(argv, opts)
  local copy = {}
  for i, arg in ipairs(argv) do
    copy[i] = tostring(arg)
  end
  io.stdout:flush()
  local pid = assert(unistd.fork())
  if pid == 0 then
    local _, err = pcall(become, copy, opts or {})
    io.stderr:write("not run: ", tostring(err), "\n")
    unistd._exit(127)
  end
  return setmetatable({ pid = pid, name = copy[1] }, proc)
end

-- Adds to the environment of a process what moves its clock (not the monotonic one) ahead by
-- some seconds, or back.
function _M.move_clock(vars, seconds)
  local names = "libfaketime.so.1"
  local path
  for _, dir in ipairs({ "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib" }) do
    local candidate = dir .. "/faketime/" .. names
    path = path or (unistd.access(candidate, "r") and candidate)
  end
  assert(path, "no " .. names)
  -- libc in front of jemalloc, which Redis brings: it asks for the time before libfaketime is ready
  vars.LD_PRELOAD = path .. ":" .. (vars.LD_PRELOAD and vars.LD_PRELOAD .. ":" or "") .. "libc.so.6"
  vars.FAKETIME = ("%+d"):format(seconds)
  vars.FAKETIME_DONT_FAKE_MONOTONIC = 1
  vars.DONT_FAKE_MONOTONIC = 1
end

-- Calls main in a child process that shares nothing with this one afterwards.
function _M.fork(main, opts)
  io.stdout:flush()
  local pid = assert(unistd.fork())
  if pid == 0 then
    pcall(function()
      unistd.setpid("p", 0, 0)
      local out = open_output(opts and opts.output or "/dev/null")
      unistd.dup2(out, 1)
      unistd.dup2(out, 2)
      main()
    end)
    unistd._exit(0)
  end
  return setmetatable({ pid = pid, name = "fork" }, proc)
end

-- True while it runs; afterwards its exit status is in .status ("exited", 0).
function proc:alive()
  if self.status then
    return false
  end
  local pid, how, code = wait.wait(self.pid, wait.WNOHANG)
  if pid == nil then
    self.status, self.code = "gone", nil
  elseif pid ~= 0 then
    self.status, self.code = how, code
  end
  return self.status == nil
end

function proc:kill(number)
  return signal.kill(self.pid, number or signal.SIGTERM)
end

-- Waits for its end; its exit code, or nil when it still runs or was killed.
function proc:wait(seconds)
  net.wait_until(seconds or 10, function()
    return not self:alive()
  end)
  return self.status == "exited" and self.code or nil, self.status
end

-- Asks for the end, insists after the time. Returns true when asking was enough. What end_signal
-- names is what this process takes for a request to end.
function proc:stop(number, seconds)
  if not self:alive() then
    return true
  end
  self:kill(self.end_signal or number)
  self:wait(seconds or 10)
  if self.status then
    return true
  end
  signal.kill(-self.pid, signal.SIGKILL)
  self:wait(5)
  return false
end

-- Runs a command to its end: output and exit code (nil after the time, default 60 s).
function _M.run(argv, opts)
  opts = opts or {}
  local path = os.tmpname()
  local options = { output = path, env = opts.env, cwd = opts.cwd, files = opts.files,
                    stdin = opts.stdin }
  local p = _M.spawn(argv, options)
  local code = p:wait(opts.timeout or 60)
  if not p.status then
    p:stop(signal.SIGKILL, 1)
  end
  local text = read_file(path)
  os.remove(path)
  return text, code
end

local function pids()
  local out = {}
  for _, name in ipairs(dirent.dir("/proc")) do
    if name:match("^%d+$") then
      out[#out + 1] = tonumber(name)
    end
  end
  return out
end

local function stat_of(pid)
  local text = read_file("/proc/" .. pid .. "/stat")
  local state, ppid = (text or ""):match("%) (%a) (%d+)")
  return state, tonumber(ppid)
end

-- The living children of a process, oldest first.
function _M.children(pid)
  local out = {}
  for _, child in ipairs(pids()) do
    local state, ppid = stat_of(child)
    if ppid == pid and state ~= "Z" then
      out[#out + 1] = child
    end
  end
  table.sort(out)
  return out
end

function _M.is_alive(pid)
  local state = stat_of(pid)
  return state ~= nil and state ~= "Z"
end

-- Resident memory in KiB: all of it, and the part that is not file-backed or shared.
function _M.rss_kb(pid)
  local text = read_file("/proc/" .. pid .. "/status") or ""
  return tonumber(text:match("VmRSS:%s*(%d+)")) or 0, tonumber(text:match("RssAnon:%s*(%d+)")) or 0
end

function _M.open_files(pid)
  local ok, list = pcall(dirent.dir, "/proc/" .. pid .. "/fd")
  return ok and #list - 2 or 0
end

local function names(pid, dir)
  local base = "/proc/" .. pid
  for _, file in ipairs({ "/environ", "/cmdline" }) do
    if (read_file(base .. file) or ""):find(dir, 1, true) then
      return true
    end
  end
  local ok, list = pcall(dirent.dir, base .. "/fd")
  for _, fd in ipairs(ok and list or {}) do
    local target = unistd.readlink(base .. "/fd/" .. fd)
    if target and target:sub(1, #dir) == dir then
      return true
    end
  end
  return false
end

-- The processes, other than this one, that belong to the directory.
function _M.belonging_to(dir)
  local me, out = unistd.getpid(), {}
  for _, pid in ipairs(pids()) do
    if pid ~= me and _M.is_alive(pid) and names(pid, dir) then
      out[#out + 1] = pid
    end
  end
  return out
end

-- Ends them all, by their ids.
function _M.sweep(dir)
  for _ = 1, 20 do
    local left = _M.belonging_to(dir)
    if #left == 0 then
      return
    end
    for _, pid in ipairs(left) do
      signal.kill(pid, signal.SIGKILL)
    end
    net.sleep(0.02)
  end
end

return _M
