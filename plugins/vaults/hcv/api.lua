-- HashiCorp Vault's HTTP API: one question and its answer. A standby's redirection
-- is followed once, by the same protocol. What went wrong is told by the status
-- and by such messages as are known here: never by the text of an answer.

local escape = require("weir.cloud.url").escape
local http = require "weir.http"
local json = require "weir.json"

local find, format, lower = string.find, string.format, string.lower

local SERVER = "HashiCorp Vault"
local ERRORS_MAX, ERROR_MAX_BYTES = 8, 4096

local _M = {}

-- Parts of the server's messages. Those that are longer stand before those that they hold.
local MESSAGES = {
  "permission denied", "invalid token", "bad token", "missing client token",
  "Vault is sealed", "Vault is not initialized",
  "local node not active but active cluster node not found",
  "no handler for route", "unsupported path", "unsupported operation", "internal error",
  "Invalid path for a versioned K/V secrets engine",
  "wrapping token is not valid or does not exist",
  "invalid role or secret ID", "invalid role ID", "invalid secret id", "missing role_id",
  "missing secret_id", "unauthorized through CIDR restrictions",
  "invalid role name", "missing role", "service account name not authorized",
  "namespace not authorized", "invalid audience (aud) claim", "claim \"aud\" is invalid",
  "token is expired",
  "client certificate must be supplied", "invalid certificate or no client certificate supplied",
  "tls connection required", "failed to match all constraints for this login certificate",
  "no chain matching all constraints could be found for this login certificate",
  "lease is not renewable", "token not found", "lease not found",
  "rate limit quota exceeded", "lease count quota exceeded", "required index state not present",
  "user is locked out",
}


-- A path of the API's, of a configured one | nil, err. what: what it is, for err.
function _M.path(what, text)
  local parts = {}
  for part in text:gmatch("[^/]+") do
    if part == "." or part == ".." then
      return nil, what .. " must not have . or .. as a part"
    end
    parts[#parts + 1] = escape(part)
  end
  if #parts == 0 then
    return nil, what .. " is empty"
  end
  return table.concat(parts, "/")
end


-- Where the server of a config is: "https://host:port"
function _M.origin(conf)
  local host = conf.host
  if find(host, ":", 1, true) and not find(host, "[", 1, true) then
    host = "[" .. host .. "]"
  end
  return format("%s://%s:%d", conf.protocol, host, conf.port)
end


local function options_of(conf, origin, request)
  local is_https, shows_cert = conf.protocol == "https", conf.auth_method == "cert"
  return {
    method = request.method, url = origin .. "/v1/" .. request.path,
    headers = {
      ["X-Vault-Request"] = "true", ["X-Vault-Token"] = request.token,
      ["X-Vault-Namespace"] = conf.namespace,
      ["Content-Type"] = request.body and "application/json" or nil,
    },
    body = request.body and json.encode(request.body),
    ssl_verify = conf.ssl_verify, ca_file = is_https and conf.ca_file or nil,
    cert_file = shows_cert and conf.cert_auth_cert or nil,
    key_file = shows_cert and conf.cert_auth_cert_key or nil,
  }
end


-- The origin that a standby sends us to | nil, err. The path stays the one that was asked.
local function active_node(conf, location)
  local origin = (location or ""):match("^(https?://[%w%-._:%[%]]+)/v1/")
  if not origin then
    return nil, SERVER .. " answers 307 without saying where to"
  end
  if origin:match("^%a+") ~= conf.protocol then
    return nil, SERVER .. " answers 307 to another protocol than " .. conf.protocol
  end
  return origin
end


-- ": permission denied, invalid token", as far as the answer tells and is known.
local function reason(body)
  local said = {}
  for _, name in ipairs({ "errors", "warnings" }) do
    local list = type(body) == "table" and body[name]
    for i = 1, type(list) == "table" and math.min(#list, ERRORS_MAX) or 0 do
      said[#said + 1] = type(list[i]) == "string" and list[i]:sub(1, ERROR_MAX_BYTES) or nil
    end
  end
  local text, found = lower(table.concat(said, "\n")), {}
  for _, message in ipairs(MESSAGES) do
    if find(text, lower(message), 1, true) then
      found[#found + 1] = message
    end
  end
  return #found > 0 and ": " .. table.concat(found, ", ") or ""
end


-- Asks the server of a config: the answer's JSON object | nil, err, status, its JSON if it is an
-- object. request: { path = below /v1/, method = "GET", token =, body = a table, for JSON }.
function _M.call(conf, request)
  local response, err = http.request(options_of(conf, _M.origin(conf), request))
  if response and response.status == 307 then
    local origin
    origin, err = active_node(conf, response.headers.location)
    if not origin then
      return nil, err, 307
    end
    response, err = http.request(options_of(conf, origin, request))
  end
  if not response then
    return nil, SERVER .. ": " .. err
  end
  local body = json.decode(response.body)
  body = type(body) == "table" and body or nil
  if response.status ~= 200 then
    return nil, format("%s answers %d%s", SERVER, response.status, reason(body)),
      response.status, body
  end
  if not body then
    return nil, SERVER .. " answers something that is no JSON"
  end
  return body
end


return _M
