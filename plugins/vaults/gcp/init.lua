-- The vault gcp: secrets in Google Cloud's Secret Manager, by its REST API v1. Who
-- asks is decided by weir.cloud.gcp. A checksum that comes with a secret is checked.

local api = require "weir.cloud.api"
local crc32c = require "weir.cloud.crc32c"
local crypto = require "weir.crypto"
local gcp = require "weir.cloud.gcp"

local format = string.format

local _M = { VERSION = "1.0.0" }

-- The URL of a secret's version | nil, err
local function url_of(conf, identity, resource, version)
  local project = api.text(conf.project_id) or identity.project_id
  if not project then
    return nil, "project_id is missing: neither the vault nor the service account's key names one"
  end
  if not project:find("^[%w.:-]+$") then
    return nil, "project_id consists of letters, digits, -, . and :"
  end
  if not resource:find("^[%w_-]+$") then
    return nil, "names of secrets in Secret Manager consist of letters, digits, - and _"
  end
  if version and version < 1 then
    return nil, "versions in Secret Manager begin with 1"
  end
  return format("%s/v1/projects/%s/secrets/%s/versions/%s:access",
    (conf.endpoint:gsub("/+$", "")), project, resource,
    version and format("%d", version) or "latest")
end

-- The bytes in the answer of Secret Manager | nil, err
local function bytes_of(body)
  local payload = type(body.payload) == "table" and body.payload
  if not payload then
    return nil, "Secret Manager answers without a payload"
  end
  local bytes = crypto.unbase64(api.text(payload.data) or "")
  if not bytes then
    return nil, "Secret Manager answers with a payload that is not base64"
  end
  local sum = tonumber(payload.dataCrc32c)
  if sum and sum ~= crc32c(bytes) then
    return nil, "Secret Manager's payload does not have the checksum that it says"
  end
  return bytes
end

function _M.get(conf, resource, version)
  local identity, err = gcp.identity(conf.service_account_json)
  if not identity then
    return nil, err
  end
  local url, body, bytes, refused
  url, err = url_of(conf, identity, resource, version)
  if not url then
    return nil, err
  end
  body, err, refused = api.call_with_token("Secret Manager", { url = url }, identity.token)
  if not body then
    return nil, err, refused
  end
  bytes, err = bytes_of(body)
  if not bytes then
    return nil, err
  end
  return api.secret(conf, bytes)
end

return _M
