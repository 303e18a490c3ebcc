-- Where a process finds credentials of AWS by itself, in the order in which AWS's
-- own SDKs look: the environment, a web identity's token, the container's agent,
-- the instance's metadata. A source is a function of inputs (region,
-- sts_endpoint_url) that gives credentials | nil, err | nil: not meant to be used.

local api = require "weir.cloud.api"
local dates = require "weir.cloud.dates"
local escape = require("weir.cloud.url").escape
local http = require "weir.http"
local json = require "weir.json"
local service = require "weir.cloud.aws.service"
local small_file = require "weir.small_file"
local sts = require "weir.cloud.aws.sts"

local getenv, match = api.env, string.match

local CONTAINER_HOST = "http://169.254.170.2"
local METADATA = { IPv4 = "http://169.254.169.254", IPv6 = "http://[fd00:ec2::254]" }
local METADATA_PATH = "/latest/meta-data/iam/security-credentials/"
local METADATA_TOKEN_S = 300
local METADATA_CONNECT_MS, METADATA_MS = 1000, 2000

-- Whom a container's token may be shown without TLS: this machine, and the agents of ECS and EKS.
local PLAIN_HOSTS = {
  localhost = true, ["[::1]"] = true, ["169.254.170.2"] = true, ["169.254.170.23"] = true,
  ["[fd00:ec2::23]"] = true,
}

local _M = {}


local function from_environment()
  local id, secret = getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
  if not id and not secret then
    return nil
  end
  if not id or not secret then
    return nil, "the environment has AWS_" .. (id and "" or "SECRET_") .. "ACCESS_KEY"
      .. (id and "_ID" or "") .. " but not the other one"
  end
  return { access_key_id = id, secret_access_key = secret,
           session_token = getenv("AWS_SESSION_TOKEN") }
end


local function from_web_identity(inputs)
  local path, arn = getenv("AWS_WEB_IDENTITY_TOKEN_FILE"), getenv("AWS_ROLE_ARN")
  if not path then
    return nil
  end
  if not arn then
    return nil, "AWS_ROLE_ARN is not set"
  end
  local token, err = small_file("AWS_WEB_IDENTITY_TOKEN_FILE", path)
  if not token then
    return nil, err
  end
  local region
  region, err = service.region(inputs.region)
  if not region then
    return nil, err
  end
  return sts.assume_role_with_web_identity(token, {
    arn = arn, session_name = getenv("AWS_ROLE_SESSION_NAME") or "weir", region = region,
    sts_endpoint_url = inputs.sts_endpoint_url,
  })
end


-- What the agents of containers and instances answer.
local function credentials_of(response)
  if response.status ~= 200 then
    return nil, "status " .. response.status
  end
  local found = json.decode(response.body)
  if type(found) ~= "table" or type(found.AccessKeyId) ~= "string"
     or type(found.SecretAccessKey) ~= "string" then
    return nil, "its answer holds no credentials"
  end
  local expiration = type(found.Expiration) == "string" and found.Expiration
  local ends_at = expiration and dates.from_rfc3339(expiration) or nil
  if expiration and not ends_at then
    return nil, "it does not say when the credentials end that it gives"
  end
  ends_at = ends_at and dates.steady(ends_at)
  if ends_at and ends_at <= dates.steady_now() then
    return nil, "the credentials that it gives have ended"
  end
  return {
    access_key_id = found.AccessKeyId, secret_access_key = found.SecretAccessKey,
    session_token = type(found.Token) == "string" and found.Token or nil, ends_at = ends_at,
  }
end


local function is_trusted(url)
  local scheme, host = match(url, "^(https?)://([^/?#]+)")
  if scheme == "https" then
    return true
  end
  host = host and (match(host, "^(%[[%x:]+%]):?%d*$") or match(host, "^([%w%.%-]+):?%d*$"))
  return host ~= nil and (PLAIN_HOSTS[host] or match(host, "^127%.%d+%.%d+%.%d+$") ~= nil)
end


-- true, the token or nil | nil, err
local function container_token()
  local path = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
  local token = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
  if path then
    local err
    token, err = small_file("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path)
    if not token then
      return nil, err
    end
  end
  if token and match(token, "[\r\n]") then
    return nil, "the authorization token holds a line break"
  end
  return true, token
end


local function from_container()
  local relative = getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
  local url = relative and CONTAINER_HOST .. relative
    or getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
  if not url then
    return nil
  end
  if not is_trusted(url) then
    return nil, "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or name this machine"
  end
  local ok, token = container_token()
  if not ok then
    return nil, token
  end
  local response, err = http.request({ url = url, headers = {
    accept = "application/json", authorization = token,
  } })
  if not response then
    return nil, err
  end
  return credentials_of(response)
end


local function ask_metadata(method, path, headers)
  local mode = match(getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") or "", "^[Ii][Pp][Vv]6$")
  local base = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT") or METADATA[mode and "IPv6" or "IPv4"]
  local response, err = http.request({
    method = method, url = base:gsub("/+$", "") .. path, headers = headers,
    connect_timeout_ms = METADATA_CONNECT_MS, timeout_ms = METADATA_MS,
  })
  if not response then
    return nil, err
  end
  if response.status ~= 200 then
    return nil, response.status == 404 and "the instance has no role"
      or "status " .. response.status
  end
  return response
end


-- Version 2 only: a token is asked for first.
local function from_metadata()
  if (getenv("AWS_EC2_METADATA_DISABLED") or ""):lower() == "true" then
    return nil, "AWS_EC2_METADATA_DISABLED says no"
  end
  local token, err = ask_metadata("PUT", "/latest/api/token",
    { ["x-aws-ec2-metadata-token-ttl-seconds"] = tostring(METADATA_TOKEN_S) })
  if not token then
    return nil, err
  end
  local headers = { ["x-aws-ec2-metadata-token"] = token.body }
  local role
  role, err = ask_metadata("GET", METADATA_PATH, headers)
  if not role then
    return nil, err
  end
  local name = match(role.body, "^%s*([^\r\n]+)")
  if not name then
    return nil, "the instance has no role"
  end
  local found
  found, err = ask_metadata("GET", METADATA_PATH .. escape(name), headers)
  if not found then
    return nil, err
  end
  return credentials_of(found)
end


local CHAIN = {
  { "the environment", from_environment },
  { "web identity", from_web_identity },
  { "container credentials", from_container },
  { "instance metadata", from_metadata },
}


-- The credentials of the first source that is set up (the last one always is) | nil, err.
-- A source that is set up and fails is not passed over for the next: that would be somebody else.
function _M.find(inputs)
  for i, source in ipairs(CHAIN) do
    local credentials, err = source[2](inputs)
    if credentials then
      return credentials
    end
    if i == #CHAIN then
      return nil, "no credentials: none in the config, nor by AWS_ACCESS_KEY_ID, "
        .. "AWS_WEB_IDENTITY_TOKEN_FILE or AWS_CONTAINER_CREDENTIALS_FULL_URI in the environment; "
        .. source[1] .. ": " .. err
    end
    if err then
      return nil, source[1] .. ": " .. err
    end
  end
end


return _M
