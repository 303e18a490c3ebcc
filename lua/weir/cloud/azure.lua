-- Tokens of Microsoft Entra, for the vault azure and for a Redis of Azure: of a
-- client secret, of a workload identity's file, or of the machine's managed
-- identity. Which it is follows from what is configured, then from the environment,
-- in the order of the credentials that Azure's own libraries try.

local api = require "weir.cloud.api"
local crypto = require "weir.crypto"
local leases = require "weir.cloud.leases"
local small_file = require "weir.small_file"
local url = require "weir.cloud.url"

local find, format, gsub = string.find, string.format, string.gsub

local AUTHORITY = "https://login.microsoftonline.com"
local ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
local IMDS = "http://169.254.169.254"
local IMDS_VERSION = "2018-02-01"
local APP_SERVICE_VERSION = "2019-08-01"
local REDIS = "https://redis.azure.com"

local _M = {}

local kept = leases.new()


local function token_url(tenant_id)
  local authority = api.env("AZURE_AUTHORITY_HOST") or AUTHORITY
  if not find(authority, "://", 1, true) then
    authority = "https://" .. authority
  end
  local ok, err = url.check(authority)
  if not ok then
    return nil, "AZURE_AUTHORITY_HOST " .. err
  end
  if not find(tenant_id, "^[%w.-]+$") then
    return nil, "a tenant's id consists of letters, digits, . and -"
  end
  return format("%s/%s/oauth2/v2.0/token", gsub(authority, "/+$", ""), tenant_id)
end


local function post_for_token(source, resource, proof)
  local endpoint, err = token_url(source.tenant_id)
  if not endpoint then
    return nil, err
  end
  local fields = {
    { "grant_type", "client_credentials" }, { "client_id", source.client_id },
    { "scope", resource .. "/.default" }, unpack(proof),
  }
  return api.call_for_token("Entra's token endpoint", api.form_post(endpoint, fields))
end


-- Each kind of source: fetch(source, resource) -> as api.call_for_token.
local fetch = {}


function fetch.secret(source, resource)
  return post_for_token(source, resource, { { "client_secret", source.client_secret } })
end


-- The file is replaced long before the assertion in it ends, so it is read each time.
function fetch.workload(source, resource)
  local assertion, err = small_file("AZURE_FEDERATED_TOKEN_FILE", source.file)
  if not assertion then
    return nil, err
  end
  return post_for_token(source, resource, {
    { "client_assertion_type", ASSERTION_TYPE },
    { "client_assertion", assertion },
  })
end


function fetch.app_service(source, resource)
  return api.call_for_token("the managed identity of App Service", {
    url = source.endpoint .. "?" .. url.form({
      { "api-version", APP_SERVICE_VERSION }, { "resource", resource },
      { "client_id", source.client_id },
    }),
    headers = { ["X-IDENTITY-HEADER"] = source.header },
  })
end


function fetch.machine(source, resource)
  return api.call_for_token("the managed identity of the machine", {
    url = source.host .. "/metadata/identity/oauth2/token?" .. url.form({
      { "api-version", IMDS_VERSION }, { "resource", resource },
      { "client_id", source.client_id },
    }),
    headers = { Metadata = "true" },
  })
end


-- A client secret, if there is one. One of the environment belongs to the client of the
-- environment: for another client that is configured, it is none.
local function find_secret(given, client_id, tenant_id)
  local secret = api.text(given.client_secret)
  if not secret and (not given.env_client_id or given.env_client_id == client_id) then
    secret = given.env_client_secret
  end
  if not secret then
    return nil
  end
  if client_id and tenant_id then
    return {
      kind = "secret", client_id = client_id, tenant_id = tenant_id, client_secret = secret,
    }
  end
  return nil, api.text(given.client_secret)
    and "a client secret needs the client's id and the tenant's" or nil
end


local function find_managed(client_id)
  local endpoint, header = api.env("IDENTITY_ENDPOINT"), api.env("IDENTITY_HEADER")
  if endpoint and header and not api.env("IDENTITY_SERVER_THUMBPRINT") then
    return { kind = "app_service", endpoint = endpoint, header = header, client_id = client_id }
  end
  if endpoint then
    return nil, "this kind of IDENTITY_ENDPOINT (Azure Arc's or Service Fabric's) is not supported"
  end
  local host = api.env("AZURE_POD_IDENTITY_AUTHORITY_HOST") or IMDS
  return { kind = "machine", host = gsub(host, "/+$", ""), client_id = client_id }
end


-- given: client_id, client_secret, tenant_id, as they are configured, and those of the environment.
local function find_source(given)
  local client_id = api.text(given.client_id) or given.env_client_id
  local tenant_id = api.text(given.tenant_id) or given.env_tenant_id
  local source, err = find_secret(given, client_id, tenant_id)
  if source or err then
    return source, err
  end
  local file = api.env("AZURE_FEDERATED_TOKEN_FILE")
  if file and client_id and tenant_id then
    return { kind = "workload", client_id = client_id, tenant_id = tenant_id, file = file }
  end
  return find_managed(client_id)
end


local function key_of(source, resource)
  return crypto.digest(source.kind, resource, source.client_id, source.tenant_id,
    source.client_secret, source.file, source.endpoint, source.header, source.host,
    api.env("AZURE_AUTHORITY_HOST"))
end


-- A token for a resource such as https://vault.azure.net: { text =, ends_at = } | nil, err. It may
-- wait. configured: client_id, client_secret, tenant_id, each may be nil, and prefix, what the
-- names of these begin with in the environment (AZURE). fresh: the one before was refused.
function _M.token(configured, resource, fresh)
  local prefix = api.text(configured.prefix) or "AZURE"
  local source, err = find_source({
    client_id = configured.client_id, client_secret = configured.client_secret,
    tenant_id = configured.tenant_id, env_client_id = api.env(prefix .. "_CLIENT_ID"),
    env_client_secret = api.env(prefix .. "_CLIENT_SECRET"),
    env_tenant_id = api.env(prefix .. "_TENANT_ID"),
  })
  if not source then
    return nil, err
  end
  return kept:get(key_of(source, resource), function()
    return fetch[source.kind](source, resource)
  end, fresh)
end


-- The password of a Redis with cloud_authentication, as weir.cloud.credential asks for it:
-- token | nil, err, ttl_s. It may wait. The user is the object id that the config names.
function _M.redis_password(cloud, redis, fresh)
  if not api.text(redis.username) then
    return nil, "the Redis of Azure needs the object id of the identity as its username"
  end
  return api.as_secret(_M.token({
    client_id = cloud.azure_client_id, client_secret = cloud.azure_client_secret,
    tenant_id = cloud.azure_tenant_id,
  }, REDIS, fresh))
end


return _M
