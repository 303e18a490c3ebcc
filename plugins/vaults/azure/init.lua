-- The vault azure: secrets in Azure's Key Vault, by its REST API 7.4. Who asks is
-- decided by weir.cloud.azure.

local api = require "weir.cloud.api"
local azure = require "weir.cloud.azure"

local format = string.format

local API_VERSION = "7.4"
local PUBLIC = "vault.azure.net"

-- A Key Vault takes tokens for the cloud that it is in.
local DOMAINS = { PUBLIC, "vault.azure.cn", "vault.usgovcloudapi.net" }

local _M = { VERSION = "1.0.0" }

local function audience_of(uri)
  local host = uri:lower():match("^https?://([^/:]+)")
  for _, domain in ipairs(DOMAINS) do
    if host and host:sub(-#domain - 1) == "." .. domain then
      return "https://" .. domain
    end
  end
  return "https://" .. PUBLIC
end

-- The URL of a secret | nil, err
local function url_of(conf, resource, version)
  if not api.text(conf.vault_uri) then
    return nil, "vault_uri is missing: the vault does not say which Key Vault is meant"
  end
  if not resource:find("^[%w-]+$") then
    return nil, "names of secrets in a Key Vault consist of letters, digits and -"
  end
  if version then
    return nil, "versions in a Key Vault are no numbers: write ?secret_version=... for #"
      .. format("%d", version)
  end
  local wanted = api.text(conf.secret_version)
  return format("%s/secrets/%s%s?api-version=%s", (conf.vault_uri:gsub("/+$", "")), resource,
    wanted and "/" .. wanted or "", API_VERSION)
end

function _M.get(conf, resource, version)
  local url, err = url_of(conf, resource, version)
  if not url then
    return nil, err
  end
  local body, refused
  body, err, refused = api.call_with_token("the Key Vault", { url = url }, function(fresh)
    return azure.token({
      client_id = conf.client_id, client_secret = conf.client_secret, tenant_id = conf.tenant_id,
      prefix = conf.credentials_prefix,
    }, audience_of(conf.vault_uri), fresh)
  end)
  if not body then
    return nil, err, refused
  end
  local value = body.value
  if type(value) ~= "string" then
    return nil, "the Key Vault answers without a value"
  end
  return api.secret(conf, value)
end

return _M
