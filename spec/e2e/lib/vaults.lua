-- Vaults that are asked over HTTP, each before its test server (servers.lua): the
-- server, the entity of weir.yml with the prefix "safe", and how a secret is put
-- there and referred to. What a login needs is in .secrets, for specs of leaks.
local json = require "weir.json"
local servers = require "lib.servers"

local _M = { kinds = { "aws", "gcp", "azure" } }

local vault = {}
vault.__index = vault

-- How soon a value is looked up again, and a failure tried again.
local TIMES = "ttl: 1, neg_ttl: 0.3"

local start = {}

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
  self.secrets = {}
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
  self.secrets = { secret }
  self.server = servers.start("azure", { state = {
    tenants = { ["tenant-1"] = { ["client-1"] = { secrets = { secret } } } },
  } }, e)
  self.config = ("vault_uri: '%s', client_id: client-1, tenant_id: tenant-1, client_secret: '%s'")
                :format(self.server.url, secret)
  self.vars = { AZURE_AUTHORITY_HOST = self.server.url }
end

-- Starts one of the kinds. .vars is what weir's environment must have besides.
function _M.start(e, kind)
  local self = setmetatable({ kind = kind, path = "", vars = {} }, vault)
  start[kind](self, e)
  self.yml = ("vaults:\n  - { name: %s, prefix: safe, config: { %s, %s } }\n"):format(
    kind, self.config, TIMES)
  return self
end

-- What the server's state says of a secret with this value.
function vault:put(name, value)
  local patch = { secrets = { [name] = value } }
  if self.kind == "gcp" then
    patch = { secrets = { ["projects/spec-project/secrets/" .. name] = value } }
  end
  self.server:set(patch)
end

function vault:take_away(name)
  self:put(name, json.null)
end

function vault:reference(name)
  return "{vault://safe/" .. name .. self.path .. "}"
end

return _M
