-- Calls of clouds' HTTP APIs that answer in JSON. What went wrong is told by the
-- status and by such codes of the API as are known here: never by the text of
-- an answer, which may hold anything.

local crypto = require "weir.crypto"
local dates = require "weir.cloud.dates"
local form = require("weir.cloud.url").form
local http = require "weir.http"
local json = require "weir.json"

local concat, find, format = table.concat, string.find, string.format
local tonumber, type = tonumber, type

local _M = {}

local known = {}
for code in ([[
  invalid_request invalid_client invalid_grant invalid_scope invalid_resource invalid_target
  unauthorized_client unsupported_grant_type access_denied temporarily_unavailable
  interaction_required identity_not_found
  INVALID_ARGUMENT FAILED_PRECONDITION NOT_FOUND PERMISSION_DENIED UNAUTHENTICATED
  RESOURCE_EXHAUSTED UNAVAILABLE INTERNAL
  BadParameter Forbidden Unauthorized SecretNotFound SecretDisabled VaultNotFound Throttled
]]):gmatch("%S+") do
  known[code] = true
end


local function add_code(codes, code)
  if known[code] and not find(concat(codes, " "), code, 1, true) then
    codes[#codes + 1] = code
  end
end


-- " (invalid_client, AADSTS7000215)", as far as the answer tells.
local function reason(body)
  local codes = {}
  local fault = type(body) == "table" and body.error

  add_code(codes, fault)
  if type(fault) == "table" then -- Google's and Key Vault's
    add_code(codes, fault.status)
    add_code(codes, fault.code)
    add_code(codes, type(fault.innererror) == "table" and fault.innererror.code)
  end
  local numbers = type(body) == "table" and body.error_codes -- Entra's
  local first = type(numbers) == "table" and numbers[1]
  if type(first) == "number" and first > 0 and first < 1e9 then
    codes[#codes + 1] = format("AADSTS%.0f", first)
  end
  return #codes > 0 and " (" .. concat(codes, ", ") .. ")" or ""
end


-- The answer's JSON object | nil, err, status. what: who is asked, for err. options: as
-- weir.http's.
function _M.call(what, options)
  local response, err = http.request(options)
  if not response then
    return nil, what .. ": " .. err
  end
  local body = json.decode(response.body)
  if response.status ~= 200 then
    return nil, format("%s answers %d%s", what, response.status, reason(body)), response.status
  end
  if type(body) ~= "table" then
    return nil, what .. " answers something that is no JSON"
  end
  return body
end


-- Until when a token is good, of its answer, by the clock that never steps.
local function end_of(body, now)
  local seconds = tonumber(body.expires_in)
  local moment = not seconds and tonumber(body.expires_on)
  return seconds and now + seconds or moment and dates.steady(moment) or nil
end


-- What a token endpoint answers to whom it does not believe.
local REFUSALS = { [400] = true, [401] = true, [403] = true }


-- As call, for a token, as leases want it: { text =, ends_at = }, nil, ends_at | nil, err, whether
-- it was refused.
function _M.call_for_token(what, options)
  local now = dates.steady_now()
  local body, err, status = _M.call(what, options)
  if not body then
    return nil, err, REFUSALS[status]
  end
  local text, ends_at = body.access_token, end_of(body, now)
  if type(text) ~= "string" or text == "" or find(text, "[%c%s]") then
    return nil, what .. " answers without a token"
  end
  if not ends_at then
    return nil, what .. " does not say how long its token is good for"
  end
  if ends_at <= now then
    return nil, what .. " answers with a token that has ended"
  end
  return { text = text, ends_at = ends_at }, nil, ends_at
end


-- What a keeper of secrets wants of a token, or of nil, err, refused: text, nil, ttl_s.
function _M.as_secret(token, err, refused)
  if not token then
    return nil, err, refused
  end
  return token.text, nil, token.ends_at - dates.steady_now()
end


-- As call, with a token: get_token(fresh) -> token | nil, err, refused. The JSON object | nil, err,
-- whether what the token is got with was refused. A token that is refused is replaced
-- once, as it may have been withdrawn, unless it is new.
function _M.call_with_token(what, options, get_token)
  local token, err, refused = get_token(false)
  if not token then
    return nil, err, refused
  end
  options.headers = { Authorization = "Bearer " .. token.text }
  local body, status
  body, err, status = _M.call(what, options)
  if status ~= 401 then
    return body, err
  end
  local newer, why
  newer, why, refused = get_token(true)
  if not newer or newer == token then
    return nil, why or err, refused
  end
  options.headers = { Authorization = "Bearer " .. newer.text }
  body, err = _M.call(what, options)
  return body, err
end


-- The options of a POST of such a form.
function _M.form_post(url, fields)
  return {
    method = "POST", url = url, body = form(fields),
    headers = { ["Content-Type"] = "application/x-www-form-urlencoded" },
  }
end


-- A configured text, or nil.
function _M.text(value)
  if type(value) == "string" and value ~= "" then
    return value
  end
end


-- A variable of the environment, if it is set and not empty.
function _M.env(name)
  return _M.text(os.getenv(name))
end


-- A secret as the vault's config wants it: decoded where it says base64_decode | nil, err
function _M.secret(conf, bytes)
  if not conf.base64_decode then
    return bytes
  end
  local decoded = crypto.unbase64(bytes)
  if not decoded then
    return nil, "the secret is not base64"
  end
  return decoded
end

return _M
