-- A PostgreSQL server of a spec: a cluster of its own in the environment's
-- directory, on loopback, run by the user postgres when the spec runs as root.
local dirent = require "posix.dirent"
local pwd = require "posix.pwd"
local signal = require "posix.signal"
local unistd = require "posix.unistd"
local net = require "lib.net"
local env = require "lib.env"
local proc = require "lib.proc"

local _M = {}

local postgres = {}
postgres.__index = postgres

-- Debian keeps the programs of each version apart: those of the newest.
local function program(name)
  local newest
  for _, version in ipairs(dirent.dir("/usr/lib/postgresql")) do
    local n = tonumber(version)
    newest = n and math.max(n, newest or 0) or newest
  end
  return ("/usr/lib/postgresql/%d/bin/%s"):format(assert(newest, "no PostgreSQL"), name)
end

-- PostgreSQL does not run as root.
local function as_its_user(argv)
  if env.is_root then
    local words = { "setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups" }
    for i = #words, 1, -1 do
      table.insert(argv, 1, words[i])
    end
  end
  return argv
end

-- Its own processes end cleanly by SIGINT; by SIGTERM it would wait for its clients.
local function spawn(self)
  local argv = as_its_user({
    program("postgres"), "-D", self.data, "-p", self.port, "-k", self.env:path("run"),
    "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB",
    "-c", "synchronous_commit=" .. (self.opts.synchronous_commit or "off"),
    "-c", "dynamic_shared_memory_type=mmap", "-c", "max_connections=50",
    "-c", "autovacuum=off", "-c", "log_min_messages=warning",
  })
  local output = self.env:path("log/" .. self.name .. ".out")
  self.proc = self.env:spawn(argv, { output = output, cwd = "/" })
  self.proc.end_signal = signal.SIGINT
  return self
end

-- True when it takes queries again.
local function wait_ready(self, seconds)
  return net.wait_until(seconds or 20, function()
    local _, code = self:try("SELECT 1", "postgres")
    return code == 0 or not self.proc:alive()
  end) and self.proc:alive()
end

function postgres:start()
  spawn(self)
  assert(wait_ready(self), "PostgreSQL does not answer:\n" .. self:log())
  return self
end

-- opts: password (of the user weir), synchronous_commit. Makes the database weir and
-- the user of that name; .address, .port, .user, .database.
function _M.start(e, opts)
  opts = opts or {}
  local port = e:port()
  local self = setmetatable({ env = e, opts = opts, port = port, address = "127.0.0.1:" .. port,
                              user = "weir", database = "weir",
                              password = opts.password or "the-password",
                              name = "postgres-" .. port }, postgres)
  self.data = e:path(self.name .. "/data")
  e:write(self.name .. "/password", "the-superuser\n")
  if env.is_root then
    local user = assert(pwd.getpwnam("postgres"), "no user postgres")
    unistd.chown(e:path(self.name), user.pw_uid, user.pw_gid)
  end
  local text, code = proc.run(as_its_user({
    program("initdb"), "-D", self.data, "-U", "postgres", "--no-sync", "--no-instructions",
    "--auth=scram-sha-256", "--pwfile=" .. e:path(self.name .. "/password"), "-E", "UTF8",
    "--locale=C",
  }), { cwd = "/" })
  assert(code == 0, text)
  self:start()
  self:sql("CREATE ROLE weir LOGIN PASSWORD '" .. self.password .. "'", "postgres")
  self:sql("CREATE DATABASE weir OWNER weir", "postgres")
  return self
end

function postgres:log()
  return self.env:read("log/" .. self.name .. ".out")
end

-- psql's output (lines of values with | between them) and exit code.
function postgres:try(statement, database)
  return proc.run({ program("psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1",
                    "-h", "127.0.0.1", "-p", self.port, "-U", "postgres",
                    "-d", database or self.database, "-c", statement },
                  { env = { PGPASSWORD = "the-superuser", PGCONNECT_TIMEOUT = 5 }, timeout = 20 })
end

function postgres:sql(statement, database)
  local text, code = self:try(statement, database)
  if code ~= 0 then
    error("psql: " .. text, 2)
  end
  return (text:gsub("\n$", ""))
end

-- SIGINT: connections are cut, all is written.
function postgres:stop()
  self.proc:kill(signal.SIGCONT)
  assert(self.proc:stop(signal.SIGINT, 15), "PostgreSQL did not stop")
end

function postgres:restart()
  self:stop()
  self:start()
end

-- Cuts all connections of the user weir, and waits until they are; their number.
function postgres:terminate_backends()
  return tonumber(self:sql("SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity "
                           .. "WHERE usename = 'weir'"))
end

-- Holds a table locked for some seconds, beside what the spec does; the process.
function postgres:lock(name, seconds)
  return self.env:spawn({ program("psql"), "-X", "-q", "-h", "127.0.0.1", "-p", self.port,
                          "-U", "postgres", "-d", self.database, "-c",
                          ("BEGIN; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(%g)")
                          :format(name, seconds) },
                        { env = { PGPASSWORD = "the-superuser" } })
end

return _M
