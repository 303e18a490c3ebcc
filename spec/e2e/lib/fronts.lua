-- The web servers in front of weir: real ones, each with a small main
-- configuration (spec/fixtures) that includes a sample of etc/ as it stands,
-- but for ports and paths.
local signal = require "posix.signal"
local env = require "lib.env"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local _M = {}

local front = {}
front.__index = front

local function plain_gsub(text, from, to)
  return (text:gsub(from:gsub("%p", "%%%0"), (to:gsub("%%", "%%%%"))))
end

-- A script that starts weir as a web server would: the specs' environment does not reach it.
local function wrapper(e)
  local lines = { "#!/bin/sh" }
  local vars = weir.mode_environment()
  vars.WEIR_SPEC_DIR = e.dir
  for name, value in pairs(vars) do
    lines[#lines + 1] = ("export %s='%s'"):format(name, value)
  end
  lines[#lines + 1] = ("exec '%s' \"$@\""):format(weir.bin)
  return e:write("bin/weir", table.concat(lines, "\n") .. "\n", 7 * 64 + 5 * 8 + 5)
end

-- The sample with this environment's paths and ports in place of a site's. changes: a list of
-- {from, to} that the spec wants besides.
function _M.sample(self, name, changes)
  local e = self.env
  local text = assert(proc.read_file(env.srcdir .. "/etc/" .. name), name)
  local known = {
    { "/run/weir/weir.sock", self.socket }, { "/usr/bin/weir", wrapper(e) },
    { "/etc/weir/weir.conf", self.weir_conf or "/nowhere" },
    { "/etc/weir/lighttpd/", env.srcdir .. "/etc/lighttpd/" },
    { "/var/www/html", e:path("www") }, { "/var/log/lighttpd/", e:path("log/") },
    { "/var/log/apache2/", e:path("log/") }, { "/run/lighttpd/", e:path("run/") },
    { "127.0.0.1:9000", self.tcp or "127.0.0.1:1" },
    { "listen 80;", "listen 127.0.0.1:" .. self.port .. ";" },
    { "*:80>", "*:" .. self.port .. ">" },
  }
  for _, change in ipairs(changes or {}) do
    assert(text:find(change[1], 1, true), name .. " has no " .. change[1])
    text = plain_gsub(text, change[1], change[2])
  end
  for _, pair in ipairs(known) do
    text = plain_gsub(text, pair[1], pair[2])
  end
  return e:write("front/" .. name, text)
end

local function new(e, opts)
  local self = setmetatable({ env = e, port = e:port() }, front)
  self.address = "127.0.0.1:" .. self.port
  self.socket = opts.socket or (opts.weir and opts.weir.socket) or e:path("run/weir.sock")
  self.weir_conf = opts.weir and opts.weir.conf_path
  self.tcp = opts.tcp
  return self
end

local function fill_and_start(self, fixture, opts, argv_of)
  local e = self.env
  local values = {
    DIR = e.dir, PORT = self.port, ROOT = env.is_root and "" or "#",
    SAMPLE = _M.sample(self, opts.sample, opts.changes), MORE = opts.more or "",
    BEFORE = opts.before or "",
  }
  self.conf = e:write("front/" .. fixture, upstream.fill(fixture, values))
  self.argv = argv_of(self.conf)
  return self:start()
end

function front:start()
  self.proc = self.env:spawn(self.argv)
  if not env.wait_listening(self.address, self.proc, 20) then
    error(self.argv[1] .. " does not listen:\n" .. self:log(), 2)
  end
  return self
end

function front:stop()
  self.proc:stop(signal.SIGTERM, 10)
end

-- Everything that it said.
function front:log()
  local e, out = self.env, {}
  for _, name in ipairs({ "lighttpd.err", "apache2.err", "weir.log", "front.err", "lighttpd.out",
                          "apache2.out", "nginx.out" }) do
    out[#out + 1] = e:read("log/" .. name)
  end
  return table.concat(out)
end

-- opts: sample ("lighttpd/responder.conf"), weir or socket, tcp, changes, before and more
-- (configuration in front of and behind the sample).
function _M.lighttpd(e, opts)
  return fill_and_start(new(e, opts), "lighttpd.conf", opts, function(conf)
    return { "/usr/sbin/lighttpd", "-D", "-f", conf }
  end)
end

function _M.apache(e, opts)
  return fill_and_start(new(e, opts), "apache2.conf", opts, function(conf)
    return { "/usr/sbin/apache2", "-D", "FOREGROUND", "-f", conf }
  end)
end

function _M.nginx(e, opts)
  return fill_and_start(new(e, opts), "nginx.conf", opts, function(conf)
    return { "/usr/sbin/nginx", "-p", e.dir, "-e", e:path("log/front.err"), "-c", conf }
  end)
end

return _M
