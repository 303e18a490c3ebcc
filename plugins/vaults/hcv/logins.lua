-- Logins to HashiCorp Vault: what each method shows, and what it is given for it.
-- Files are read at each login, as they are replaced while weir runs.

local api = require "kong.vaults.hcv.api"
local crypto = require "weir.crypto"
local small_file = require "weir.small_file"

local _M = {}


local function trim(text)
  return text and text:match("^%s*(.-)%s*$")
end


-- What a wrapping token stands for. It is good once, so what it gave stays in memory.
local function unwrap(conf, token, memory)
  local digest = crypto.sha256(token)
  if memory.unwrapped and memory.unwrapped.of == digest then
    return memory.unwrapped.secret_id
  end
  local body, err = api.call(conf, {
    method = "POST", path = "sys/wrapping/unwrap", token = token,
  })
  local data = body and type(body.data) == "table" and body.data
  if data and type(data.secret_id) == "string" and data.secret_id ~= "" then
    memory.unwrapped = { of = digest, secret_id = data.secret_id }
    return data.secret_id
  end
  if memory.unwrapped then
    return memory.unwrapped.secret_id -- another process was quicker: the former may still be good
  end
  return nil, "unwrapping the secret id: " .. (err or "what was wrapped is no secret id")
end


local function approle(conf, memory)
  local secret_id, err = trim(conf.approle_secret_id)
  if not secret_id then
    secret_id, err = small_file("approle_secret_id_file", conf.approle_secret_id_file)
  end
  if secret_id and conf.approle_response_wrapping then
    secret_id, err = unwrap(conf, secret_id, memory)
  end
  if not secret_id then
    return nil, err
  end
  return { role_id = trim(conf.approle_role_id), secret_id = secret_id }
end


local function kubernetes(conf)
  local jwt, err = small_file("kube_api_token_file", conf.kube_api_token_file)
  if not jwt then
    return nil, err
  end
  return { role = conf.kube_role, jwt = jwt }
end


local function cert(conf)
  return { name = conf.cert_auth_role_name }
end


-- inputs: what tells one login from another, besides the server.
local METHODS = {
  token = { inputs = { "token" } },
  approle = { show = approle, path = "approle_auth_path", inputs = {
    "approle_auth_path", "approle_role_id", "approle_secret_id", "approle_secret_id_file",
    "approle_response_wrapping",
  } },
  kubernetes = { show = kubernetes, path = "kube_auth_path", inputs = {
    "kube_auth_path", "kube_role", "kube_api_token_file",
  } },
  cert = { show = cert, path = "cert_auth_path", inputs = {
    "cert_auth_path", "cert_auth_role_name", "cert_auth_cert", "cert_auth_cert_key",
  } },
}


-- A digest of what the token of a config depends on.
function _M.key(conf)
  local values = {}
  local names = METHODS[conf.auth_method].inputs
  for i, name in ipairs(names) do
    values[i] = conf[name]
  end
  return crypto.digest(api.origin(conf), conf.namespace, conf.ssl_verify, conf.ca_file,
    conf.auth_method, unpack(values, 1, #names))
end


-- What an answer says of a token: { text =, lease_s = (0: it does not end), renewable = }, or nil.
function _M.auth_of(body)
  local auth = body.auth
  if type(auth) == "table" and type(auth.client_token) == "string"
    and auth.client_token:find("^[!-~]+$") then
    return {
      text = auth.client_token, lease_s = tonumber(auth.lease_duration) or 0,
      renewable = auth.renewable == true,
    }
  end
end


-- Logs in: as auth_of | nil, err, status. memory: a table in which the next login finds what this
-- one has left there. It may wait.
function _M.log_in(conf, memory)
  local method = METHODS[conf.auth_method]
  local what = "login by " .. conf.auth_method .. ": "
  local path, body, err, status
  path, err = api.path(method.path, conf[method.path])
  if path then
    body, err = method.show(conf, memory)
  end
  if not body then
    return nil, what .. err
  end
  body, err, status = api.call(conf, {
    method = "POST", path = "auth/" .. path .. "/login", body = body,
  })
  if not body then
    return nil, what .. err, status
  end
  local auth = _M.auth_of(body)
  if not auth then
    return nil, what .. "HashiCorp Vault answers without a token"
  end
  return auth
end


return _M
