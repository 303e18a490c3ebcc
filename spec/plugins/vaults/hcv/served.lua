-- A weir whose plugin tells secrets of the vault hcv, before the test server of
-- HashiCorp Vault. What it was told must be in no log: stop() looks for it, at log
-- level debug, as for every token that a request bore.
local env = require "lib.env"
local servers = require "lib.servers"
local teller = require "lib.teller"

local _M = {
  TOKEN = "hvs.the-token-of-weir", SECRET_ID = "1234-the-secret-id",
  JWT = "eyJhbGciOi.the-service.account",
  OLD_S = 2.5, -- a younger token is not doubted where it is refused
}
_M.__index = _M

function _M.new()
  return setmetatable({
    e = env.new(), told = { _M.TOKEN, _M.SECRET_ID, _M.JWT, "first" },
  }, _M)
end

-- The server. state: of it; it has the token and a secret, redis, in KV 1, if that names no other.
function _M:serve(state, options)
  options = options or {}
  state = state or {}
  options.state = state
  state.tokens = state.tokens or { [_M.TOKEN] = { ttl = 0 } }
  state.mounts = state.mounts or { secret = { version = 1, secrets = {
    redis = { password = "first" } } } }
  self.hcv = servers.start("hcv", options, self.e)
  return self.hcv
end

-- The same with the role of by_role; changes: of the role.
function _M:serve_role(changes)
  local role = { role_id = "role-1", secret_ids = { _M.SECRET_ID }, token_ttl = 600 }
  for name, value in pairs(changes or {}) do
    role[name] = value
  end
  return self:serve({ auth = { approle = { roles = { web = role } } } })
end

-- A secret's value on the server.
function _M:put(password)
  self.hcv:set({ mounts = { secret = { secrets = { redis = { password = password } } } } })
  self.told[#self.told + 1] = password
end

-- A vault's config: with these fields, with the token, with the role.
function _M:config(more)
  return ("{ port: %d, ttl: 1, neg_ttl: 0.3, %s }"):format(self.hcv.port, more)
end

function _M:by_token(more)
  return self:config("token: '" .. _M.TOKEN .. "'" .. (more and ", " .. more or ""))
end

function _M:by_role(more)
  return self:config("auth_method: approle, approle_role_id: role-1, "
    .. (more or "approle_secret_id: '" .. _M.SECRET_ID .. "'"))
end

-- The text of weir.yml: vaults are configs by prefix, or the config of mine; what the plugin tells
-- at / and at /other.
function _M.yml(vaults, word, other)
  local lines = {}
  for prefix, config in pairs(type(vaults) == "table" and vaults or { mine = vaults }) do
    lines[#lines + 1] = ("  - { prefix: %s, name: hcv, config: %s }"):format(prefix, config)
  end
  return teller.yml(table.concat(lines, "\n"), {
    word = word or "{vault://mine/redis/password}", other = other,
  })
end

-- Starts weir. conf: further keys of weir.conf; vars: of its environment.
function _M:start(yml, conf, vars)
  local keys = { log_level = "debug" }
  for name, value in pairs(conf or {}) do
    keys[name] = value
  end
  self.w = teller.start(self.e, { yml = yml, conf = keys, vars = vars })
  return self.w
end

-- Another weir.yml for it.
function _M:reload(yml)
  self.w:write_yml(yml)
  assert(self.w:reload())
end

function _M:ask(path)
  return teller.ask(self.w, path)
end

function _M:until_body(body, seconds)
  return teller.until_body(self.w, body, seconds)
end

-- How often there was a login at the mount.
function _M:logins(mount)
  return #self.hcv:log("^POST /v1/auth/" .. (mount or "approle") .. "/login$")
end

local function add_tokens(self)
  for _, request in ipairs(self.hcv and self.hcv.proc:alive() and self.hcv:log() or {}) do
    for _, header in ipairs(request.headers) do
      if header[1]:lower() == "x-vault-token" then
        self.told[#self.told + 1] = header[2]
      end
    end
  end
end

-- Ends it all. What was told is in no log; and nothing is there that was not expected.
function _M:stop()
  add_tokens(self)
  local log = self.w and self.w:log() .. self.w:output() or ""
  local ok, err = pcall(self.e.check, self.e)
  if self.w then
    self.w:stop()
  end
  self.e:destroy()
  assert(ok, err)
  for _, word in ipairs(self.told) do
    assert(not log:find(word, 1, true), word .. " is in the log")
  end
end

return _M
