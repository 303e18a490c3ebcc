-- The providers' test servers (spec/servers/*.py): starting one, changing its
-- state, ordering faults, reading what it was asked. What each one's state may
-- hold stands at the top of its file; spec/servers/README.md has the rest.
local signal = require "posix.signal"
local unistd = require "posix.unistd"
local json = require "weir.json"
local env = require "lib.env"
local http = require "lib.http"
local net = require "lib.net"
local proc = require "lib.proc"
local redis = require "lib.redis"

local _M = {}

local server = {}
server.__index = server

local function spawn(self)
  local program = env.srcdir .. "/spec/servers/" .. self.name .. ".py"
  local argv = { "python3", "-B", program, json.encode(self.options) }
  local output = os.tmpname()
  local p = self.env and self.env:spawn(argv, { output = output }) or
            proc.spawn(argv, { output = output })
  local ready = net.wait_until(20, function()
    return (proc.read_file(output) or ""):find("\n", 1, true) or not p:alive()
  end)
  local said = proc.read_file(output) or ""
  os.remove(output)
  if not ready or not said:match("^%d+ %d+\n") then
    error("spec/servers/" .. self.name .. ".py does not listen:\n" .. said, 3)
  end
  self.proc = p
end

-- A Redis behind the server's gate: what it stands before (target, password; see gate.py).
local function gated(options, redis_port)
  local copy = { port = redis_port }
  for key, value in pairs(options) do
    copy[key] = value
  end
  return copy
end

-- Starts spec/servers/<name>.py. options: state, faults, tls = { cert, key, client_ca,
-- client_required }, redis (a gate) and what the server's file says. With an environment e it ends
-- with that; without one, with this process. .url, .address, .port and .host are the service's,
-- .redis_port the gate's.
function _M.start(name, options, e)
  local copy = {}
  for key, value in pairs(options or {}) do
    copy[key] = value
  end
  copy.port = copy.port or net.free_port()
  copy.control_port = net.free_port()
  local self = setmetatable({ name = name, options = copy, env = e, port = copy.port }, server)
  self.host, self.address = "127.0.0.1", "127.0.0.1:" .. copy.port
  self.url = (copy.tls and "https://" or "http://") .. self.address
  self.control = "127.0.0.1:" .. copy.control_port
  if copy.redis then
    copy.redis = gated(copy.redis, net.free_port())
    self.redis_port = copy.redis.port
  end
  spawn(self)
  return self
end

local function ask(self, verb, value)
  local response, err = http.request(self.control, {
    method = value and "POST" or "GET", path = "/_test/" .. verb,
    body = value and json.encode(value),
  })
  if not response or response.status ~= 200 then
    error(("/_test/%s of %s: %s"):format(verb, self.name, err or response.body), 3)
  end
  return assert(json.decode(response.body))
end

-- Changes the state by a JSON merge patch: tables merge, json.null removes, arrays replace.
function server:set(patch)
  ask(self, "set", patch)
end

function server:state()
  return ask(self, "state")
end

-- Orders faults in place of those there are: a list; none without one.
function server:faults(list)
  ask(self, "faults", setmetatable(list or {}, json.array_mt))
end

-- What the server does by its own do_<verb>, such as "revoke".
function server:call(verb, args)
  return ask(self, "do/" .. verb, args or {})
end

-- The requests so far, oldest first: { method, target, headers = {{name, value}}, body, status,
-- note, time }; those whose "METHOD target" the pattern matches, if there is one.
function server:log(pattern)
  local out = {}
  for _, entry in ipairs(ask(self, "log").requests) do
    if not pattern or (entry.method .. " " .. entry.target):match(pattern) then
      out[#out + 1] = entry
    end
  end
  return out
end

function server:forget()
  ask(self, "forget")
end

-- Ends it. start() brings it back on the same ports with the state that it had; what logins gave
-- is gone.
function server:stop()
  if self.proc and self.proc:alive() then
    local ok, state = pcall(ask, self, "state")
    self.options.state = ok and state or self.options.state
    self.proc:stop(signal.SIGTERM, 5)
  end
end

function server:start()
  spawn(self)
  return self
end

-- Nobody answers, but the system still takes connections.
function server:pause()
  self.proc:kill(signal.SIGSTOP)
end

function server:resume()
  self.proc:kill(signal.SIGCONT)
end

-- Files for TLS, made once for each environment: ca, cert and key (127.0.0.1, localhost,
-- redis.spec), client_cert and client_key (CN weir-client, of the same CA), other_cert and
-- other_key (the client's likeness by another CA, other_ca).
function _M.certificates(e)
  local dir = redis.certificates(e)
  local files = { dir = dir, ca = dir .. "/ca.crt", cert = dir .. "/server.crt",
                  key = dir .. "/server.key" }
  for _, name in ipairs({ "client", "other" }) do
    files[name .. "_cert"] = dir .. "/" .. name .. ".crt"
    files[name .. "_key"] = dir .. "/" .. name .. ".key"
  end
  files.other_ca = dir .. "/other-ca.crt"
  if unistd.access(files.other_ca, "r") then
    return files
  end
  local text, code = proc.run({ "/bin/sh", "-ec", [[
    cd "$0"
    key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
    signed() {
        key "$1.key"
        openssl req -new -key "$1.key" -subj /CN=weir-client -out "$1.csr"
        openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 36500 \
            -out "$1.crt"
    }
    key other-ca.key
    openssl req -x509 -new -key other-ca.key -days 36500 -subj /CN=other-ca -out other-ca.crt
    signed client ca
    signed other other-ca
    chmod 644 ./*
  ]], dir })
  assert(code == 0, text)
  return files
end

-- A service account of Google's: json, the text of its key file (token_uri is the issuer's,
-- a server, if one is given), and state, what the server's state.accounts wants.
function _M.service_account(e, email, issuer)
  local key = e:path("service-account.pem")
  local text, code = proc.run({ "/bin/sh", "-ec", [[
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$0" 2>&1
    openssl pkey -in "$0" -pubout -out "$0.pub"
  ]], key })
  assert(code == 0, text)
  local account = {
    type = "service_account", project_id = "spec-project", private_key_id = "k1",
    private_key = proc.read_file(key), client_email = email, client_id = "100000000000000000000",
    auth_uri = "https://accounts.google.com/o/oauth2/auth",
    token_uri = issuer and issuer.url .. "/token" or "https://oauth2.googleapis.com/token",
  }
  return { json = json.encode(account), account = account,
           state = { [email] = { public_key = proc.read_file(key .. ".pub"), kid = "k1" } } }
end

return _M
