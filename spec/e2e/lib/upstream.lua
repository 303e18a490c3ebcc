-- Services behind weir: a real nginx (spec/fixtures/upstream.conf), and a
-- server that answers with exactly the bytes it was given, for what no decent
-- server would send.
local signal = require "posix.signal"
local unistd = require "posix.unistd"
local net = require "lib.net"
local env = require "lib.env"
local proc = require "lib.proc"

local _M = {}

local upstream = {}
upstream.__index = upstream

-- The fixture with its @NAMES@ replaced.
function _M.fill(name, values)
  local text = assert(proc.read_file(env.srcdir .. "/spec/fixtures/" .. name), name)
  return (text:gsub("@([%u_]+)@", function(key)
    return assert(values[key], "no value for @" .. key .. "@ of " .. name)
  end))
end

-- opts: port, workers. .url is what weir.yml gets; files lie in the environment's www/.
function _M.nginx(e, opts)
  opts = opts or {}
  local self = setmetatable({ env = e, port = opts.port or e:port() }, upstream)
  self.address = "127.0.0.1:" .. self.port
  self.url = "http://" .. self.address
  self.conf = e:write("upstream.conf", _M.fill("upstream.conf", {
    DIR = e.dir, PORT = self.port, USER = env.is_root and "user www-data;" or "",
    WORKERS = opts.workers or 1,
  }))
  e:write("www/hello.txt", "hello\n")
  return self:start()
end

function upstream:start()
  local e = self.env
  self.proc = e:spawn({ "/usr/sbin/nginx", "-p", e.dir, "-e", e:path("log/upstream.err"),
                        "-c", self.conf }, { files = 16384 })
  assert(env.wait_listening(self.address, self.proc),
         "the upstream does not listen: " .. e:read("log/upstream.err") .. e:read("log/nginx.out"))
  return self
end

function upstream:stop()
  self.proc:stop(signal.SIGTERM, 5)
end

-- The requests that it has seen: its access log's lines.
function upstream:requests()
  local list = {}
  for line in self.env:read("log/upstream.access"):gmatch("[^\n]+") do
    list[#list + 1] = line
  end
  return list
end

local function read_head(conn)
  local head = ""
  while not head:find("\r\n\r\n", 1, true) do
    local bytes = conn:recv(10)
    if not bytes then
      return nil
    end
    head = head .. bytes
  end
  return head
end

-- A reply is a string or a list of strings and numbers (seconds to wait). "keep" at the end
-- keeps the connection; else it is closed.
local function reply_with(conn, reply)
  for _, part in ipairs(type(reply) == "table" and reply or { reply }) do
    if type(part) == "number" then
      net.sleep(part)
    elseif part == "keep" then
      return true
    elseif part == "reset" then
      conn:reset()
      return false
    elseif not conn:send(part) then
      return false
    end
  end
  return false
end

local function serve(conn, replies)
  repeat
    local head = read_head(conn)
    local path = head and head:match("^%S+ ([^ ?]+)")
  until not head or not reply_with(conn, replies[path] or replies["*"] or "")
  if conn.fd then
    conn:close()
  end
end

-- Serves one connection in each of some processes: replies is a map from path to reply.
function _M.raw(e, replies, processes)
  local fd, port = assert(net.listen(e:port()))
  for _ = 1, processes or 4 do
    e:fork(function()
      while true do
        local conn = net.accept(fd)
        if conn then
          serve(conn, replies)
        end
      end
    end)
  end
  unistd.close(fd)
  return { port = port, address = "127.0.0.1:" .. port, url = "http://127.0.0.1:" .. port }
end

return _M
