-- Blocking stream sockets with deadlines for the end-to-end specs, over
-- lua-posix: no retries, no buffering behind the caller's back, and ways to be
-- rude (reset, half-close, small receive buffers) that a library would hide.
-- An address is "unix:/path" or "127.0.0.1:8080".
local socket = require "posix.sys.socket"
local poll = require "posix.poll"
local unistd = require "posix.unistd"
local time = require "posix.time"
local fcntl = require "posix.fcntl"
local signal = require "posix.signal"

local _M = {}

signal.signal(signal.SIGPIPE, signal.SIG_IGN) -- a send to who has gone is an error, not our end

local conn = {}
conn.__index = conn

local DEFAULT_TIMEOUT_S = 10

-- Seconds on the monotonic clock.
function _M.now()
  local t = time.clock_gettime(time.CLOCK_MONOTONIC)
  return t.tv_sec + t.tv_nsec / 1e9
end

function _M.sleep(seconds)
  local whole = math.floor(seconds)
  time.nanosleep({ tv_sec = whole, tv_nsec = math.floor((seconds - whole) * 1e9) })
end

-- Calls probe until it gives something true, and returns that; nil after the time.
function _M.wait_until(seconds, probe)
  local till = _M.now() + seconds
  repeat
    local value = probe()
    if value then
      return value
    end
    _M.sleep(0.01)
  until _M.now() > till
  return nil
end

local function parse(address)
  local path = address:match("^unix:(.+)$")
  if path then
    return { family = socket.AF_UNIX, path = path }
  end
  local host, port = address:match("^(.+):(%d+)$")
  assert(host, "not an address: " .. tostring(address))
  return { family = socket.AF_INET, addr = host, port = tonumber(port) }
end
_M.parse = parse

-- Processes that are started meanwhile must not hold our connections open.
local function keep_private(fd)
  fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
end

-- opts: source (local address to bind), rcvbuf (bytes), timeout (seconds for each later step).
function _M.connect(address, opts)
  opts = opts or {}
  local to = parse(address)
  local fd, err = socket.socket(to.family, socket.SOCK_STREAM, 0)
  if not fd then
    return nil, err
  end
  keep_private(fd)
  if opts.rcvbuf then
    socket.setsockopt(fd, socket.SOL_SOCKET, socket.SO_RCVBUF, opts.rcvbuf)
  end
  local timeout = opts.timeout or DEFAULT_TIMEOUT_S
  socket.setsockopt(fd, socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout, 0)
  local ok = true
  if opts.source then
    ok, err = socket.bind(fd, { family = socket.AF_INET, addr = opts.source, port = 0 })
  end
  if ok then
    ok, err = socket.connect(fd, to)
  end
  if not ok then
    unistd.close(fd)
    return nil, err
  end
  if to.family == socket.AF_INET then
    socket.setsockopt(fd, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
  end
  return setmetatable({ fd = fd, timeout = timeout }, conn)
end

-- True, or nil, why and how many bytes went out.
function conn:send(bytes)
  local sent = 0
  while sent < #bytes do
    local n, err = socket.send(self.fd, sent == 0 and bytes or bytes:sub(sent + 1))
    if not n then
      return nil, err, sent
    end
    sent = sent + n
  end
  return true
end

-- Some bytes; or nil and "timeout", "closed" or the system's words.
function conn:recv(timeout, max)
  local ready, err = poll.rpoll(self.fd, math.floor((timeout or self.timeout) * 1000))
  if not ready then
    return nil, err
  end
  if ready == 0 then
    return nil, "timeout"
  end
  local bytes
  bytes, err = socket.recv(self.fd, max or 65536)
  if not bytes then
    return nil, err
  end
  if bytes == "" then
    return nil, "closed"
  end
  return bytes
end

-- True once the peer has closed; what it sent before is thrown away.
function conn:wait_closed(timeout)
  local till = _M.now() + (timeout or self.timeout)
  while true do
    local bytes, err = self:recv(math.max(0, till - _M.now()))
    if not bytes then
      return err ~= "timeout"
    end
  end
end

function conn:close()
  if self.fd then
    unistd.close(self.fd)
    self.fd = nil
  end
end

-- Closes with a TCP reset.
function conn:reset()
  socket.setsockopt(self.fd, socket.SOL_SOCKET, socket.SO_LINGER, 1, 0)
  self:close()
end

function conn:shutdown_write()
  socket.shutdown(self.fd, socket.SHUT_WR)
end

-- A listening socket's descriptor and its port (0 lets the system choose).
function _M.listen(port)
  local fd = assert(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0))
  keep_private(fd)
  socket.setsockopt(fd, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  local ok, err = socket.bind(fd, { family = socket.AF_INET, addr = "127.0.0.1", port = port })
  if not ok then
    unistd.close(fd)
    return nil, err
  end
  assert(socket.listen(fd, 128))
  return fd, socket.getsockname(fd).port
end

-- A port of loopback, below the range from which the system takes those of outgoing connections.
-- It is ours until this process ends: we keep it bound, so that nobody else who looks for one takes
-- it, and servers can listen there all the same, since they set SO_REUSEADDR as we do afterwards.
function _M.free_port()
  while true do
    local port = math.random(20000, 31999)
    local fd = assert(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0))
    keep_private(fd)
    if socket.bind(fd, { family = socket.AF_INET, addr = "127.0.0.1", port = port }) then
      socket.setsockopt(fd, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      return port
    end
    unistd.close(fd)
  end
end

function _M.accept(fd)
  local got, err = socket.accept(fd)
  if not got then
    return nil, err
  end
  keep_private(got)
  return setmetatable({ fd = got, timeout = DEFAULT_TIMEOUT_S }, conn)
end

return _M
