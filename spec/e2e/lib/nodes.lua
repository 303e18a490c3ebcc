-- Several weirs that know nothing of each other but the stores they share: each
-- with its own prefix, socket and shared memory, all behind one lighttpd that
-- gives them requests in turn.
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local fronts = require "lib.fronts"
local weir = require "lib.weir"

local _M = {}

local nodes = {}
nodes.__index = nodes

-- The host of etc/lighttpd/responder.conf once for each node, taken in turn.
local function changes(list)
  local hosts = {}
  for i, node in ipairs(list) do
    hosts[i] = ([[(
        "socket"              => "%s",
        "check-local"         => "disable",
        "fix-root-scriptname" => "enable",
        "connect-timeout"     => 2,
        "read-timeout"        => 60,
        "disable-time"        => 0
    )]]):format(node.socket)
  end
  return {
    { [[((
        "socket"              => "/run/weir/weir.sock",
        "check-local"         => "disable",
        "fix-root-scriptname" => "enable",
        "connect-timeout"     => 2,
        "read-timeout"        => 60,
        "disable-time"        => 0
    ))]], "( " .. table.concat(hosts, ", ") .. " )" },
    { "fastcgi.server =", 'fastcgi.balance = "round-robin"\nfastcgi.server =' },
  }
end

-- opts: n (3), yml, conf, name ("node"), conf_of(i) (keys of one node), start_of(i) (opts of its
-- start), front (false: none). [1] to [n] are the weirs, .address is the front's.
function _M.new(e, opts)
  local self = setmetatable({ env = e, opts = opts }, nodes)
  for i = 1, opts.n or 3 do
    local name = (opts.name or "node") .. i
    local conf = { workers = 2, drain_timeout = "2s" }
    for key, value in pairs(opts.conf or {}) do
      conf[key] = value
    end
    for key, value in pairs(opts.conf_of and opts.conf_of(i) or {}) do
      conf[key] = value
    end
    self[i] = weir.new(e, { name = name, prefix = name, conf = conf, yml = opts.yml or "" })
  end
  return self
end

function nodes:start()
  for i, node in ipairs(self) do
    node:start(self.opts.start_of and self.opts.start_of(i))
  end
  if self.opts.front ~= false then
    self.front = fronts.lighttpd(self.env, { sample = "lighttpd/responder.conf",
                                             weir = self[1], changes = changes(self) })
    self.address = self.front.address
  end
  return self
end

-- All of them get this configuration.
function nodes:configure(yml)
  for _, node in ipairs(self) do
    node:write_yml(yml)
    if node.proc then
      assert(node:reload(), "reload failed:\n" .. node:log())
    end
  end
end

-- One request of a client, to the node with that number, without a front.
function nodes:ask(i, source, params)
  local all = { REMOTE_ADDR = source }
  for name, value in pairs(params or {}) do
    all[name] = value
  end
  return fcgi.once(self[i].unix, { params = all })
end

-- As weir:expect_log, for each.
function nodes:expect_log(pattern, times)
  for _, node in ipairs(self) do
    node:expect_log(pattern, times)
  end
end

function nodes:log_count(pattern)
  local n = 0
  for _, node in ipairs(self) do
    n = n + node:log_count(pattern)
  end
  return n
end

function nodes:stop()
  if self.front then
    self.front:stop()
    self.front = nil
  end
  for _, node in ipairs(self) do
    node:stop()
  end
end

-- A client that nobody has counted yet.
_M.client = env.client

return _M
