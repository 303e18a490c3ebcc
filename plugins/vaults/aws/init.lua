-- The vault aws: secrets in AWS Secrets Manager, by GetSecretValue. Credentials
-- come from the config, or are found as AWS's SDKs do (weir.cloud.aws).

local api = require "weir.cloud.api"
local credentials = require "weir.cloud.aws.credentials"
local crypto = require "weir.crypto"
local json = require "weir.json"
local service = require "weir.cloud.aws.service"

local _M = { VERSION = "1.0.0" }

local TARGET = "secretsmanager.GetSecretValue"
local STAGES = { "AWSCURRENT", "AWSPREVIOUS" } -- of a version

local NOT_ALLOWED = "these credentials may not secretsmanager:GetSecretValue it, or not kms:Decrypt"
  .. " with its key"

local HINTS = {
  AccessDenied = NOT_ALLOWED, AccessDeniedException = NOT_ALLOWED,
  DecryptionFailure = "the secret's key does not decrypt it",
  InvalidParameterException = "the name is malformed",
  InvalidRequestException = "the secret is marked for deletion, or has no value yet",
  ResourceNotFoundException = "there is no such secret, or no such version of it, in this region",
  ValidationException = "the name is malformed",
}


-- An ARN names its region itself.
local function region_of(conf, resource)
  return service.region(conf.region or resource:match("^arn:[%w%-]+:secretsmanager:([%l%d%-]+):"))
end


-- The answer's body | nil, err, code, which is true where AWS does not know the role's keys.
local function ask(conf, request, region, fresh)
  local keys, err, refused = credentials.get({
    access_key_id = conf.access_key_id, secret_access_key = conf.secret_access_key,
    region = region, assume_role_arn = conf.assume_role_arn,
    role_session_name = conf.role_session_name, sts_endpoint_url = conf.sts_endpoint_url,
  }, fresh)
  if not keys then
    return nil, err, refused
  end
  return service.post({
    url = request.url, body = request.body,
    headers = { ["content-type"] = "application/x-amz-json-1.1", ["x-amz-target"] = TARGET },
  }, keys, { service = "secretsmanager", region = region, hints = HINTS })
end


local function value_of(conf, body)
  local found = json.decode(body)
  if type(found) ~= "table" then
    return nil, "the answer is no JSON"
  end
  local value = found.SecretString
  if type(value) ~= "string" and type(found.SecretBinary) == "string" then
    value = crypto.unbase64(found.SecretBinary)
  end
  if type(value) ~= "string" then
    return nil, "the answer holds no secret"
  end
  return api.secret(conf, value)
end


-- Version 1, and without one, is AWSCURRENT, 2 is AWSPREVIOUS.
function _M.get(conf, resource, version)
  local stage = STAGES[version or 1]
  if not stage then
    return nil, "there are versions 1 (AWSCURRENT) and 2 (AWSPREVIOUS) only"
  end
  local region, err = region_of(conf, resource)
  if not region then
    return nil, err
  end
  local url
  url, err = service.endpoint("secretsmanager", region, conf.endpoint_url, "SECRETS_MANAGER")
  if not url then
    return nil, err
  end
  local request = {
    url = url .. "/", body = json.encode({ SecretId = resource, VersionStage = stage }),
  }
  local body, code
  body, err, code = ask(conf, request, region)
  if service.is_stale(code) and (conf.assume_role_arn or not conf.access_key_id) then
    body, err, code = ask(conf, request, region, true)
  end
  if not body then
    return nil, "Secrets Manager in " .. region .. ": " .. err,
      code == true or service.is_stale(code) or nil
  end
  return value_of(conf, body)
end


return _M
