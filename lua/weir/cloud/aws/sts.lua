-- AWS's Security Token Service: a role's temporary keys, for whoever has other
-- keys, or a token of an identity provider that the role trusts.

local dates = require "weir.cloud.dates"
local escape = require("weir.cloud.url").escape
local service = require "weir.cloud.aws.service"

local VERSION = "2011-06-15"

local HINTS = {
  AccessDenied = "the role does not exist, or its trust policy does not allow it",
  ExpiredTokenException = "the web identity's token has ended",
  InvalidIdentityToken = "the role's identity provider does not accept the web identity's token",
  IDPCommunicationError = "AWS cannot reach the identity provider",
  RegionDisabledException = "STS is not active in this region",
  ValidationError = "the role's ARN or the name of the session is malformed",
}

local _M = {}


local function form_of(fields)
  local parts = {}
  for name, value in pairs(fields) do
    parts[#parts + 1] = escape(name) .. "=" .. escape(value)
  end
  return table.concat(parts, "&")
end


-- The text of an element that has no others in it.
local function element(xml, name)
  local text = xml:match("<" .. name .. ">%s*([^<]-)%s*</" .. name .. ">")
  return text and text ~= "" and text or nil
end


local function credentials_of(xml)
  local expiration = element(xml, "Expiration")
  local credentials = {
    access_key_id = element(xml, "AccessKeyId"),
    secret_access_key = element(xml, "SecretAccessKey"),
    session_token = element(xml, "SessionToken"),
    ends_at = expiration and dates.from_rfc3339(expiration),
  }
  if not credentials.access_key_id or not credentials.secret_access_key
     or not credentials.session_token or not credentials.ends_at then
    return nil, "its answer holds no credentials"
  end
  credentials.ends_at = dates.steady(credentials.ends_at)
  if credentials.ends_at <= dates.steady_now() then
    return nil, "the credentials that it gives have ended"
  end
  return credentials
end


local function ask(fields, credentials, role)
  local url, err = service.endpoint("sts", role.region, role.sts_endpoint_url, "STS")
  if not url then
    return nil, err
  end
  fields.Version = VERSION
  fields.RoleArn = role.arn
  fields.RoleSessionName = role.session_name
  local xml, code
  xml, err, code = service.post({
    url = url .. "/", body = form_of(fields),
    headers = { ["content-type"] = "application/x-www-form-urlencoded; charset=utf-8" },
  }, credentials, { service = "sts", region = role.region, hints = HINTS })
  if not xml then
    return nil, err, code
  end
  return credentials_of(xml)
end


-- The credentials of a role, with ends_at | nil, err, code. role: arn, session_name, region,
-- sts_endpoint_url or nil.
function _M.assume_role(credentials, role)
  return ask({ Action = "AssumeRole" }, credentials, role)
end


-- The same for the bearer of a token.
function _M.assume_role_with_web_identity(token, role)
  return ask({ Action = "AssumeRoleWithWebIdentity", WebIdentityToken = token }, nil, role)
end


return _M
