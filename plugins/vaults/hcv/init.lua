-- The vault hcv: secrets in HashiCorp Vault's engine KV, version 1 or 2. Tokens are
-- kept by tokens.lua, the server is asked by api.lua. A secret is a JSON object,
-- so a reference names a member of it.

local api = require "kong.vaults.hcv.api"
local crypto = require "weir.crypto"
local json = require "weir.json"
local tokens = require "kong.vaults.hcv.tokens"

local format = string.format

local NO_SECRET = "there is no such secret"

local _M = { VERSION = "1.0.0" }


-- The path below /v1/ | nil, err
local function path_of(conf, resource, version)
  local mount, name, err
  mount, err = api.path("mount", conf.mount)
  if not mount then
    return nil, err
  end
  name, err = api.path("the secret's name", resource)
  if not name then
    return nil, err
  end
  if conf.kv == "v2" then
    return format("%s/data/%s%s", mount, name, version and format("?version=%d", version) or "")
  end
  if version then
    return nil, format("KV version 1 keeps no versions: #%d needs an engine and a config with"
      .. " kv: v2", version)
  end
  return mount .. "/" .. name
end


-- A token that is refused is replaced once, as it may have been withdrawn. As api.call, or nil,
-- err, true: what the config shows was refused.
local function ask(conf, path)
  local token, err, body, status, said, refused
  token, err, refused = tokens.get(conf)
  if not token then
    return nil, err, refused
  end
  body, err, status, said = api.call(conf, { path = path, token = token })
  if status == 403 then
    local why
    token, why, refused = tokens.replace(conf, token)
    if not token then
      return nil, why or err, refused
    end
    body, err, status, said = api.call(conf, { path = path, token = token })
  end
  return body, err, status, said
end


-- Why there is nothing, where a 404 tells: a version that was deleted has metadata.
local function missing(conf, version, err, said)
  local data = said and type(said.data) == "table" and said.data
  local metadata = data and type(data.metadata) == "table" and data.metadata
  if metadata then
    return format("%s was %s",
      version and version > 0 and format("version %d", version) or "the newest version",
      metadata.destroyed == true and "destroyed" or "deleted")
  end
  if err:find(": ", 1, true) then -- it said why
    return err .. (err:find("versioned K/V", 1, true) and "; set kv: v2" or "")
  end
  return format("%s%s (mount %s, kv %s)", NO_SECRET, version and " or version" or "", conf.mount,
    conf.kv)
end


-- What is base64 of the secret's members is decoded; what is not is left out.
local function decoded(data)
  local out = {}
  for name, value in pairs(data) do
    if type(value) == "string" then
      value = crypto.unbase64(value)
    end
    out[name] = value
  end
  return out
end


local function value_of(conf, data)
  if conf.base64_decode then
    data = decoded(data)
  end
  local text, err = json.encode(data)
  if not text then
    return nil, "the secret cannot be written as JSON: " .. err
  end
  return text
end


-- The lease of a secret in KV 1 is its ttl, for whoever has configured none that is shorter.
function _M.get(conf, resource, version)
  local path, body, err, status, said
  path, err = path_of(conf, resource, version)
  if not path then
    return nil, err
  end
  body, err, status, said = ask(conf, path)
  if not body then
    return nil, status == 404 and missing(conf, version, err, said) or err, status == true or nil
  end
  local data = body.data
  local ttl_s
  if conf.kv == "v2" then
    data = type(data) == "table" and data.data
  else
    ttl_s = tonumber(body.lease_duration)
  end
  if type(data) ~= "table" then
    return nil, format("HashiCorp Vault answers without a secret: is the mount of kind kv %s?",
      conf.kv)
  end
  local text
  text, err = value_of(conf, data)
  return text, err, text and ttl_s and ttl_s > 0 and ttl_s or nil
end


return _M
