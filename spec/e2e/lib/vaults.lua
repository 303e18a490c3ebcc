-- Vaults that are asked over HTTP, each before its test server (servers.lua): the
-- server, the entity of weir.yml with the prefix "safe" or another, and how a secret is put
-- there and referred to. What a login needs is in .secrets, for specs of leaks, and the
-- client's own part of it in .credential.
local json = require "weir.json"
local servers = require "lib.servers"

local _M = { kinds = { "hcv", "aws", "gcp", "azure" } }

local vault = {}
vault.__index = vault

-- How soon a value is looked up again, and a failure tried again.
local TIMES = "ttl: 1, neg_ttl: 0.3"

local start = {}

function start.hcv(self, e)
  local role, secret = "role-4fd1-9d3e-0123456789ab", "secret-id-8c1f-77aa-0123456789ab"
  self.secrets = { secret } -- the role id is no secret, as a user name is none
  self.server = servers.start("hcv", { state = {
    auth = { approle = { roles = { web = { role_id = role, secret_ids = { secret } } } } },
    mounts = { secret = { secrets = {} } },
  } }, e)
  self.config = ("protocol: http, host: 127.0.0.1, port: %d, mount: secret, kv: v2, auth_method: "
                 .. "approle, approle_role_id: %s, approle_secret_id: %s"):format(
                 self.server.port, role, secret)
  self.path = "/value"
end

function start.aws(self, e)
  local secret = "aws/Secret+Key0123456789abcdefghijklmnop"
  self.secrets = { secret }
  self.server = servers.start("aws", { state = {
    region = "eu-west-1", keys = { AKIASPEC0000EXAMPLE = { secret = secret } },
  } }, e)
  self.config = ("region: eu-west-1, endpoint_url: '%s', access_key_id: AKIASPEC0000EXAMPLE, "
                 .. "secret_access_key: '%s'"):format(self.server.url, secret)
end

function start.gcp(self, e)
  self.server = servers.start("gcp", {}, e)
  local account = servers.service_account(e, "weir@spec-project.iam.gserviceaccount.com",
                                          self.server)
  self.server:set({ accounts = account.state })
  self.secrets, self.credential = {}, account.json
  for line in account.account.private_key:gmatch("[^\n]+") do
    if #line == 64 then
      self.secrets[#self.secrets + 1] = line
    end
  end
  self.config = ("project_id: spec-project, endpoint: '%s', service_account_json: '%s'"):format(
    self.server.url, account.json)
end

function start.azure(self, e)
  local secret = "azure~Client.Secret-0123456789abcdef"
  self.secrets, self.credential = { secret }, secret
  self.server = servers.start("azure", { state = {
    tenants = { ["tenant-1"] = { ["client-1"] = { secrets = { secret } } } },
  } }, e)
  self.config = ("vault_uri: '%s', client_id: client-1, tenant_id: tenant-1, client_secret: '%s'")
                :format(self.server.url, secret)
  self.vars = { AZURE_AUTHORITY_HOST = self.server.url }
end

-- Starts one of the kinds. .entity is its line below vaults, .yml that and its head; .vars is what
-- weir's environment must have besides. times: in place of those above.
function _M.start(e, kind, prefix, times)
  local self = setmetatable({ kind = kind, prefix = prefix or "safe", path = "", vars = {} }, vault)
  start[kind](self, e)
  self.entity = ("  - { name: %s, prefix: %s, config: { %s, %s } }\n"):format(
    kind, self.prefix, self.config, times or TIMES)
  self.yml = "vaults:\n" .. self.entity
  return self
end

-- The server has a secret with this value, which is .last then.
function vault:put(name, value)
  self.last = value
  local patch = { secrets = { [name] = value } }
  if self.kind == "hcv" then
    local data = value == json.null and value or { value = value }
    patch = { mounts = { secret = { secrets = { [name] = data } } } }
  elseif self.kind == "gcp" then
    patch = { secrets = { ["projects/spec-project/secrets/" .. name] = value } }
  end
  self.server:set(patch)
end

function vault:take_away(name)
  self:put(name, json.null)
end

-- What logins gave is worth nothing from now on.
function vault:expire()
  self.server:call(self.kind == "hcv" and "revoke" or "expire")
end

function vault:reference(name)
  return "{vault://" .. self.prefix .. "/" .. name .. self.path .. "}"
end

return _M
