-- What one spec file lives in: a directory of its own under /tmp, free ports,
-- its processes, and the certainty that none of them outlives it. A guardian
-- process waits for this one's end, however that comes, and clears up.
local unistd = require "posix.unistd"
local signal = require "posix.signal"
local dirent = require "posix.dirent"
local fcntl = require "posix.fcntl"
local stdlib = require "posix.stdlib"
local stat = require "posix.sys.stat"
local net = require "lib.net"
local proc = require "lib.proc"

local _M = {}

local env = {}
env.__index = env

math.randomseed(unistd.getpid() * 7919 + os.time())

_M.srcdir = stdlib.realpath(os.getenv("srcdir") or ".")
_M.is_root = unistd.geteuid() == 0

local MODE = os.getenv("WEIR_TEST_MODE") or "plain"
_M.mode = MODE

local function remove_tree(dir)
  for _ = 1, 20 do -- who is just ending may still make a file
    os.execute("rm -rf '" .. dir .. "' 2>/dev/null")
    if not stat.stat(dir) then
      return
    end
    net.sleep(0.05)
  end
end

-- The names of the shared memory of those whose prefix lies in dir (src/srv/shared.c). Weir keeps
-- it for the next process when no master ends it, as behind a web server that spawns weir.
local function regions(dir)
  local start, out = "weir-" .. dir:sub(2):gsub("%W", "_"), {}
  for _, name in ipairs(dirent.dir("/dev/shm")) do
    if name:sub(1, #start) == start then
      out[#out + 1] = "/dev/shm/" .. name
    end
  end
  return out
end

local function remove_regions(dir)
  for _, path in ipairs(regions(dir)) do
    unistd.unlink(path)
  end
end

-- The pipes to our guardians: a child that kept one open would keep its guardian waiting.
local pipes = {}

local function close_pipes()
  for writer in pairs(pipes) do
    unistd.close(writer)
  end
end

-- A child that outlives us for a moment: when the pipe closes, it ends what is left.
local function start_guardian(dir)
  local reader, writer = unistd.pipe()
  local pid = assert(unistd.fork())
  if pid == 0 then
    unistd.close(writer)
    close_pipes()
    unistd.setpid("p", 0, 0)
    local null = fcntl.open("/dev/null", fcntl.O_RDWR)
    for fd = 0, 2 do
      unistd.dup2(null, fd)
    end
    for _, number in ipairs({ signal.SIGINT, signal.SIGTERM, signal.SIGHUP }) do
      signal.signal(number, signal.SIG_IGN)
    end
    local word = unistd.read(reader, 1)
    if word == "" then
      pcall(proc.sweep, dir)
      pcall(remove_regions, dir)
      remove_tree(dir)
    end
    unistd._exit(0)
  end
  unistd.close(reader)
  fcntl.fcntl(writer, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
  pipes[writer] = true
  return writer, pid
end

-- The environment of a spec file. Its directory holds run/ (sockets and pid files, which the
-- servers' own user may write), log/ and www/ (served files).
function _M.new()
  local parent = os.getenv("WEIR_SPEC_TMP") or "/tmp"
  local dir = assert(stdlib.mkdtemp(parent .. "/weir-spec-XXXXXX"))
  local self = setmetatable({ dir = dir, started = {}, checks = {} }, env)
  local mode = 7 * 64 + 7 * 8 + 7
  stat.chmod(dir, 7 * 64 + 5 * 8 + 5)
  for _, name in ipairs({ "run", "log", "www", "tmp" }) do
    stat.mkdir(dir .. "/" .. name, mode)
    stat.chmod(dir .. "/" .. name, mode)
  end
  self.guardian, self.guardian_pid = start_guardian(dir)
  return self
end

function env:path(name)
  return self.dir .. "/" .. name
end

function env:write(name, text, mode)
  local path = self:path(name)
  os.execute("mkdir -p '" .. path:match("^(.*)/") .. "'")
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  stat.chmod(path, mode or (6 * 64 + 4 * 8 + 4))
  return path
end

function env:regions()
  return regions(self.dir)
end

function env:read(name)
  return proc.read_file(self:path(name)) or ""
end

function env:port()
  return net.free_port()
end

-- Another address of this machine's loopback each time: a client that nobody has counted yet.
local next_client = math.random(0, 254 * 256 * 100)
function _M.client()
  next_client = next_client + 1
  local n = next_client
  return ("127.%d.%d.%d"):format(1 + math.floor(n / 65024) % 200, math.floor(n / 254) % 256,
                                 1 + n % 254)
end

-- Starts a process; see proc.spawn. It is ended with the environment.
function env:spawn(argv, opts)
  opts = opts or {}
  opts.env = opts.env or {}
  opts.env.WEIR_SPEC_DIR = self.dir
  opts.output = opts.output or self:path("log/" .. argv[1]:match("[^/]+$") .. ".out")
  local p = proc.spawn(argv, opts)
  self.started[#self.started + 1] = p
  return p
end

function env:fork(main)
  local p = proc.fork(function()
    close_pipes()
    main()
  end, { output = self:path("log/fork.out") })
  self.started[#self.started + 1] = p
  return p
end

-- Waits until somebody listens. p: the process that should; its death ends the wait.
function _M.wait_listening(address, p, seconds)
  local found = net.wait_until(seconds or 15, function()
    local conn = net.connect(address)
    if conn then
      conn:close()
      return "yes"
    end
    return p and not p:alive() and "died"
  end)
  return found == "yes"
end

-- Something to ask after each example: fn() raises when a server misbehaved.
function env:add_check(fn)
  self.checks[#self.checks + 1] = fn
end

function env:check()
  for _, fn in ipairs(self.checks) do
    fn()
  end
end

-- Ends what still runs and removes the directory, unless WEIR_SPEC_KEEP is set.
function env:destroy()
  for i = #self.started, 1, -1 do
    self.started[i]:stop(signal.SIGTERM, 5)
  end
  proc.sweep(self.dir)
  remove_regions(self.dir)
  if (os.getenv("WEIR_SPEC_KEEP") or "") == "" then
    remove_tree(self.dir)
  end
  unistd.write(self.guardian, "x")
  unistd.close(self.guardian)
  pipes[self.guardian] = nil
  require("posix.sys.wait").wait(self.guardian_pid)
end

-- Waits if the calendar minute (hour...) would end within margin seconds.
function _M.stay_clear(size_s, margin_s)
  local left = size_s - os.time() % size_s
  if left <= (margin_s or 5) then
    net.sleep(left + 0.1)
  end
end

return _M
