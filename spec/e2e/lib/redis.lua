-- Redis servers of a spec: one server with passwords, users, TLS or a unix
-- socket, a master with replicas and Sentinels, or a Cluster; in the
-- environment's directory, on loopback. What is asked of them goes by redis-cli.
local signal = require "posix.signal"
local unistd = require "posix.unistd"
local net = require "lib.net"
local env = require "lib.env"
local proc = require "lib.proc"

local _M = {}

local server = {}
server.__index = server

-- A CA and a certificate for 127.0.0.1 and redis.spec, made once for each environment: a directory
-- with ca.crt, server.crt and server.key.
function _M.certificates(e)
  local dir = e:path("tls")
  if e.has_certificates then
    return dir
  end
  e:write("tls/san", "subjectAltName=DNS:redis.spec,DNS:localhost,IP:127.0.0.1\n")
  local text, code = proc.run({ "/bin/sh", "-ec", [[
    cd "$0"
    key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
    key ca.key
    openssl req -x509 -new -key ca.key -days 36500 -subj /CN=spec-ca -out ca.crt
    key server.key
    openssl req -new -key server.key -subj /CN=redis.spec -out server.csr
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 36500 \
        -extfile san -out server.crt
    chmod 644 ./*
  ]], dir })
  assert(code == 0, text)
  e.has_certificates = true
  return dir
end

local function add(argv, ...)
  for _, word in ipairs({ ... }) do
    argv[#argv + 1] = word
  end
end

local function argv_of(self)
  local opts = self.opts
  local argv = { "/usr/bin/redis-server", "--port", opts.tls and 0 or self.port,
                 "--bind", "127.0.0.1", "--dir", self.dir, "--save", "",
                 "--loglevel", "notice", "--unixsocket", self.socket, "--unixsocketperm", "777",
                 "--appendonly", opts.appendonly and "yes" or "no", "--appendfsync", "always" }
  if opts.tls then
    local dir = _M.certificates(self.env)
    add(argv, "--tls-port", self.port, "--tls-cert-file", dir .. "/server.crt",
        "--tls-key-file", dir .. "/server.key", "--tls-ca-cert-file", dir .. "/ca.crt",
        "--tls-auth-clients", "no")
  end
  if self.password then
    add(argv, "--requirepass", self.password, "--masterauth", self.password)
  end
  if opts.maxclients then
    add(argv, "--maxclients", opts.maxclients)
  end
  if self.aclfile then
    add(argv, "--aclfile", self.aclfile)
  end
  for _, word in ipairs(opts.args or {}) do
    add(argv, word)
  end
  if self.replicaof then
    add(argv, "--replicaof", "127.0.0.1 " .. self.replicaof)
  end
  return argv
end

function server:start()
  self.proc = self.env:spawn(argv_of(self), {
    output = self.env:path("log/" .. self.name .. ".out"), env = self.opts.env,
  })
  if not env.wait_listening(self.address, self.proc) then
    error("redis-server does not listen:\n" .. self:log(), 2)
  end
  return self
end

-- opts: name, password, users (lines of an ACL file), tls, maxclients, appendonly, args (more words
-- of its command line), env, replicaof (a port). .address, .port, .socket are where it listens.
function _M.start(e, opts)
  opts = opts or {}
  local port = opts.port or e:port()
  local name = opts.name or "redis-" .. port
  local self = setmetatable({ env = e, opts = opts, name = name, port = port,
                              address = "127.0.0.1:" .. port, password = opts.password,
                              replicaof = opts.replicaof }, server)
  self.dir = e:path(name)
  self.socket = e:path("run/" .. name .. ".sock")
  e:write(name .. "/empty", "")
  if opts.users then
    self.aclfile = e:write(name .. "/users.acl", table.concat(opts.users, "\n") .. "\n")
  end
  return self:start()
end

function server:log()
  return self.env:read("log/" .. self.name .. ".out")
end

-- What redis-cli prints for a command, without the newline at its end. Raises when Redis refuses.
function server:cli(...)
  local argv = { "/usr/bin/redis-cli", "-e" }
  if self.opts.tls then
    add(argv, "-h", "127.0.0.1", "-p", self.port, "--tls", "--cacert",
        _M.certificates(self.env) .. "/ca.crt")
  else
    add(argv, "-h", "127.0.0.1", "-p", self.port)
  end
  add(argv, ...)
  local vars = { REDISCLI_AUTH = self.password }
  if self.database then
    add(argv, "-n", self.database)
  end
  local text, code = proc.run(argv, { env = vars, timeout = 20 })
  if code ~= 0 then
    error("redis-cli " .. table.concat({ ... }, " ") .. ": " .. text, 2)
  end
  return (text:gsub("\n$", ""))
end

-- How often each command was carried out so far; evalsha, evalsha_ro and so on.
function server:calls()
  local out = setmetatable({}, { __index = function() return 0 end })
  for name, n in self:cli("INFO", "commandstats"):gmatch("cmdstat_([^:]+):calls=(%d+)") do
    out[name] = tonumber(n)
  end
  return out
end

-- Those of fn's time: a table of differences, without what the spec itself asks.
function server:calls_during(fn)
  local before = self:calls()
  fn()
  local after = self:calls()
  local out = setmetatable({}, getmetatable(after))
  for name, n in pairs(after) do
    out[name] = n - before[name]
  end
  out.info = nil
  return out
end

-- All keys of a database, sorted.
function server:keys(database)
  local out = {}
  for key in self:cli("-n", database or 0, "KEYS", "*"):gmatch("[^\n]+") do
    out[#out + 1] = key
  end
  table.sort(out)
  return out
end

-- The connections of others: a list of { name = value } of CLIENT LIST.
function server:clients()
  local out = {}
  for line in self:cli("CLIENT", "LIST", "TYPE", "normal"):gmatch("[^\n]+") do
    local client = {}
    for name, value in line:gmatch("([%w-]+)=(%S*)") do
      client[name] = value
    end
    if client.cmd ~= "client|list" and client.cmd ~= "client" then
      out[#out + 1] = client
    end
  end
  return out
end

function server:kill()
  self.proc:kill(signal.SIGKILL)
  self.proc:wait(5)
end

function server:stop()
  if not self.proc:alive() then
    return
  end
  self.proc:kill(signal.SIGCONT)
  assert(self.proc:stop(signal.SIGTERM, 10), "redis-server did not stop")
end

-- kill -9 and a start without any data.
function server:restart_empty()
  if self.proc:alive() then
    self:kill()
  end
  os.execute("rm -rf '" .. self.dir .. "'/dump.rdb '" .. self.dir .. "'/appendonlydir")
  self:start()
end

function server:pause()
  self.proc:kill(signal.SIGSTOP)
end

function server:resume()
  self.proc:kill(signal.SIGCONT)
end

-- ---------------------------------------------------------------------------------- Sentinel

local sentinels = {}
sentinels.__index = sentinels

-- A sentinel's word: whether the master is known with all its replicas and sentinels.
local function knows_all(self)
  for _, s in ipairs(self.sentinels) do
    local text = s:cli("SENTINEL", "MASTER", self.master_name)
    local found = {}
    for name, value in text:gmatch("([^\n]+)\n([^\n]*)") do
      found[name] = value
    end
    if found["num-slaves"] ~= tostring(#self.servers - 1)
       or found["num-other-sentinels"] ~= tostring(#self.sentinels - 1)
       or found.flags ~= "master" then
      return false
    end
  end
  return true
end

local function start_sentinel(e, i, opts, master_port)
  local name = "sentinel-" .. i
  local lines = {
    "sentinel monitor " .. opts.master_name .. " 127.0.0.1 " .. master_port .. " 2",
    "sentinel down-after-milliseconds " .. opts.master_name .. " 700",
    "sentinel failover-timeout " .. opts.master_name .. " 3000",
    "sentinel parallel-syncs " .. opts.master_name .. " 2",
  }
  if opts.password then
    add(lines, "sentinel auth-pass " .. opts.master_name .. " " .. opts.password)
  end
  local port = e:port()
  local self = setmetatable({ env = e, name = name, port = port, address = "127.0.0.1:" .. port,
                              opts = {}, dir = e:path(name),
                              password = opts.sentinel_password }, server)
  add(lines, "port " .. port, "bind 127.0.0.1", "dir " .. e:path(name))
  if opts.sentinel_password then
    add(lines, "requirepass " .. opts.sentinel_password,
        "sentinel sentinel-pass " .. opts.sentinel_password)
  end
  local conf = e:write(name .. "/sentinel.conf", table.concat(lines, "\n") .. "\n")
  self.proc = e:spawn({ "/usr/bin/redis-server", conf, "--sentinel" },
                      { output = e:path("log/" .. name .. ".out") })
  assert(env.wait_listening(self.address, self.proc), "no sentinel:\n" .. self:log())
  return self
end

-- A master, two replicas, three sentinels. opts: master_name, password, sentinel_password.
-- .addresses is a list of the sentinels' host:port.
function _M.start_sentinels(e, opts)
  opts = opts or {}
  opts.master_name = opts.master_name or "mymaster"
  local self = setmetatable({ servers = {}, sentinels = {}, addresses = {},
                              master_name = opts.master_name }, sentinels)
  local args = { "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1" }
  for i = 1, 3 do
    self.servers[i] = _M.start(e, {
      name = "replicated-" .. i, password = opts.password, args = args,
      replicaof = i > 1 and self.servers[1].port or nil,
    })
  end
  local first = self.servers[1]
  assert(net.wait_until(20, function()
    local _, n = first:cli("INFO", "replication"):gsub("state=online", "")
    return n == 2
  end), "no replicas:\n" .. first:log())
  for i = 1, 3 do
    self.sentinels[i] = start_sentinel(e, i, opts, first.port)
    self.addresses[i] = self.sentinels[i].address
  end
  assert(net.wait_until(20, function()
    return knows_all(self)
  end), "the sentinels do not find each other")
  return self
end

-- The server that is the master by the last sentinel's word.
function sentinels:master()
  local last = self.sentinels[#self.sentinels]
  local text = last:cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.master_name)
  local port = tonumber(text:match("\n(%d+)"))
  for _, s in ipairs(self.servers) do
    if s.port == port then
      return s
    end
  end
end

function sentinels:stop()
  for _, list in ipairs({ self.sentinels, self.servers }) do
    for _, s in ipairs(list) do
      s:stop()
    end
  end
end

-- Kills the master; true when another one answers as such.
function sentinels:fail_over(seconds)
  local old = self:master()
  old:kill()
  return net.wait_until(seconds or 20, function()
    local new = self:master()
    return new ~= old and new:cli("ROLE"):match("^master") ~= nil
  end)
end

-- ----------------------------------------------------------------------------------- Cluster

local cluster = {}
cluster.__index = cluster

local SLOTS = 16384

-- The nodes.conf from which a node begins as a member of a whole cluster.
local function nodes_conf(members, me)
  local out = {}
  for i, m in ipairs(members) do
    local flags = (i == me and "myself," or "") .. (m.master and "slave" or "master")
    out[#out + 1] = ("%s 127.0.0.1:%d@%d %s %s 0 0 %d connected%s"):format(
      m.id, m.port, m.bus, flags, m.master and members[m.master].id or "-",
      m.master or i, m.first and (" %d-%d"):format(m.first, m.last) or "")
  end
  out[#out + 1] = "vars currentEpoch " .. #members .. " lastVoteEpoch 0"
  return table.concat(out, "\n") .. "\n"
end

local function members_of(e, masters)
  local members = {}
  for i = 1, masters * 2 do
    local m = { id = ("%040x"):format(i), port = e:port(), bus = e:port() }
    if i <= masters then
      m.first = math.floor((i - 1) * SLOTS / masters)
      m.last = math.floor(i * SLOTS / masters) - 1
    else
      m.master = i - masters
    end
    members[i] = m
  end
  return members
end

-- Three masters (opts.masters), each with one replica. opts: password. .addresses lists them.
function _M.start_cluster(e, opts)
  opts = opts or {}
  local members = members_of(e, opts.masters or 3)
  local self = setmetatable({ nodes = {}, addresses = {}, members = members }, cluster)
  for i, m in ipairs(members) do
    local name = "cluster-" .. i
    e:write(name .. "/nodes.conf", nodes_conf(members, i))
    self.nodes[i] = _M.start(e, {
      name = name, port = m.port, password = opts.password,
      args = { "--cluster-enabled", "yes", "--cluster-port", m.bus, "--cluster-node-timeout", 1000,
               "--repl-diskless-sync-delay", 0, "--cluster-replica-validity-factor", 0 },
    })
    self.nodes[i].id = m.id
    self.addresses[i] = self.nodes[i].address
  end
  assert(self:wait_whole(30), "the cluster does not form:\n" .. self.nodes[1]:log())
  return self
end

-- True when all living nodes say that all is well.
function cluster:wait_whole(seconds)
  return net.wait_until(seconds or 20, function()
    for _, node in ipairs(self.nodes) do
      if node.proc:alive() then
        if not node:cli("CLUSTER", "INFO"):find("cluster_state:ok", 1, true)
           or node:cli("INFO", "replication"):find("master_link_status:down", 1, true) then
          return false
        end
      end
    end
    return true
  end)
end

function cluster:stop()
  for _, node in ipairs(self.nodes) do
    node:stop()
  end
end

function cluster:slot_of(key)
  return tonumber(self.nodes[1]:cli("CLUSTER", "KEYSLOT", key))
end

-- The living nodes that are masters now.
function cluster:masters()
  local out = {}
  for _, node in ipairs(self.nodes) do
    if node.proc:alive() and node:cli("ROLE"):match("^master") then
      out[#out + 1] = node
    end
  end
  return out
end

-- All keys with the master that holds them: a list of { key, node }.
function cluster:keys()
  local out = {}
  for _, node in ipairs(self:masters()) do
    for _, key in ipairs(node:keys()) do
      out[#out + 1] = { key, node }
    end
  end
  return out
end

-- How often a command was carried out by all nodes together.
function cluster:calls()
  local out = setmetatable({}, { __index = function() return 0 end })
  for _, node in ipairs(self.nodes) do
    if node.proc:alive() then
      for name, n in pairs(node:calls()) do
        out[name] = out[name] + n
      end
    end
  end
  return out
end

-- Moves a slot with its keys from one master to another as redis-cli's reshard does, with a pause
-- (seconds) in the middle, in which the slot is between the two.
function cluster:migrate(slot, from, to, pause)
  to:cli("CLUSTER", "SETSLOT", slot, "IMPORTING", from.id)
  from:cli("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
  net.sleep(pause or 0)
  repeat
    local moved = 0
    for key in from:cli("CLUSTER", "GETKEYSINSLOT", slot, 100):gmatch("[^\n]+") do
      local argv = { "MIGRATE", "127.0.0.1", to.port, key, 0, 5000 }
      if to.password then
        add(argv, "AUTH", to.password)
      end
      from:cli(unpack(argv))
      moved = moved + 1
    end
    net.sleep(pause or 0)
  until moved == 0
  to:cli("CLUSTER", "SETSLOT", slot, "NODE", to.id)
  from:cli("CLUSTER", "SETSLOT", slot, "NODE", to.id)
end

-- Kills a master; true when a replica has taken its place and the cluster is whole.
function cluster:fail_over(node, seconds)
  local before = #self:masters()
  node:kill()
  return net.wait_until(seconds or 20, function()
    return #self:masters() == before and self:wait_whole(0.1)
  end)
end

-- --------------------------------------------------------------------- servers that misbehave

-- Something that listens where a Redis should and does as it likes with each connection:
-- on_conn(conn), in some processes.
function _M.impostor(e, on_conn, processes)
  local port = e:port()
  local fd = assert(net.listen(port))
  for _ = 1, processes or 4 do
    e:fork(function()
      while true do
        local conn = net.accept(fd)
        if conn then
          pcall(on_conn, conn)
          conn:close()
        end
      end
    end)
  end
  unistd.close(fd)
  return { port = port, address = "127.0.0.1:" .. port }
end

return _M
