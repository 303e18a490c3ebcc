-- Tokens of Google Cloud: of a service account's key, shown to the token endpoint
-- that the key names as a signed assertion (RFC 7523), or of the metadata server of
-- the machine, where there is no key. They are used by the vault gcp, and are the
-- password of a Memorystore with IAM authentication.

local C = require("weir.ffi").C
local api = require "weir.cloud.api"
local crypto = require "weir.crypto"
local json = require "weir.json"
local jwt = require "weir.jwt"
local leases = require "weir.cloud.leases"
local small_file = require "weir.small_file"
local url = require "weir.cloud.url"

local floor, format = math.floor, string.format

local SCOPE = "https://www.googleapis.com/auth/cloud-platform"
local GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
local TOKEN_URI = "https://oauth2.googleapis.com/token"
local METADATA_HOST = "metadata.google.internal"
local ASSERTION_S = 3600

local _M = {}

local kept = leases.new()


-- The text of the credentials, and where they are from: nil if there are none | nil, err
local function find_credentials(configured)
  local text = api.text(configured)
  if text then
    return text, "the service account's JSON"
  end
  text = api.env("GCP_SERVICE_ACCOUNT") -- COMPAT(kong): its vault's name for the JSON itself
  if text then
    return text, "GCP_SERVICE_ACCOUNT"
  end
  local path = api.env("GOOGLE_APPLICATION_CREDENTIALS")
  if path then
    local err
    text, err = small_file("GOOGLE_APPLICATION_CREDENTIALS", path)
    return text, text and "the file of GOOGLE_APPLICATION_CREDENTIALS" or err
  end
end


local function read_account(text, origin)
  local account = json.decode(text)
  if type(account) ~= "table" then
    return nil, origin .. " is no JSON object"
  end
  if account.type ~= "service_account" then
    return nil, origin .. " is not the key of a service account (type service_account); other"
      .. " types of credentials are not supported"
  end
  for _, name in ipairs({ "client_email", "private_key" }) do
    if not api.text(account[name]) then
      return nil, origin .. " has no " .. name
    end
  end
  account.token_uri = api.text(account.token_uri) or TOKEN_URI
  local ok, err = url.check(account.token_uri)
  if not ok then
    return nil, format("token_uri in %s %s", origin, err)
  end
  return account
end


-- The service account to be used, or false: the metadata server's | nil, err
local function find_account(configured)
  local text, origin = find_credentials(configured)
  if text then
    return read_account(text, origin)
  end
  if origin then
    return nil, origin
  end
  return false
end


local function fetch_by_key(account)
  local now = floor(C.weir_now())
  local assertion, err = jwt.sign({
    iss = account.client_email, scope = SCOPE, aud = account.token_uri,
    iat = now, exp = now + ASSERTION_S,
  }, account.private_key, { kid = api.text(account.private_key_id) })

  if not assertion then
    return nil, "private_key of the service account: " .. err
  end
  return api.call_for_token("Google's token endpoint", api.form_post(account.token_uri, {
    { "grant_type", GRANT }, { "assertion", assertion },
  }))
end


local function fetch_by_metadata(host)
  local token, err, ends_at = api.call_for_token("Google's metadata server", {
    url = format("http://%s/computeMetadata/v1/instance/service-accounts/default/token", host),
    headers = { ["Metadata-Flavor"] = "Google" },
  })
  if not token then
    return nil, err .. "; no service account's key is configured"
  end
  return token, nil, ends_at
end


-- A token for an account, as find_account gives it: { text =, ends_at = } | nil, err
local function token_of(account, fresh)
  if account then
    return kept:get(crypto.digest("key", account.client_email, account.private_key,
      account.private_key_id, account.token_uri), function()
        return fetch_by_key(account)
      end, fresh)
  end
  local host = api.env("GCE_METADATA_HOST") or METADATA_HOST
  return kept:get(crypto.digest("metadata", host), function()
    return fetch_by_metadata(host)
  end, fresh)
end


-- Who asks for something of Google: { project_id = of the key, or nil, token = function(fresh) ->
-- token | nil, err } | nil, err. configured: the JSON of a service account's key, or nil, which
-- leaves it to the environment. token may wait.
function _M.identity(configured)
  local account, err = find_account(configured)
  if account == nil then
    return nil, err
  end
  return {
    project_id = account and api.text(account.project_id) or nil,
    token = function(fresh)
      return token_of(account, fresh)
    end,
  }
end


-- The password of a Redis with cloud_authentication, as weir.cloud.credential asks for it:
-- token | nil, err, ttl_s. It may wait.
function _M.redis_password(cloud, _, fresh)
  local identity, err = _M.identity(cloud.gcp_service_account_json)
  if not identity then
    return nil, err
  end
  return api.as_secret(identity.token(fresh))
end


return _M
