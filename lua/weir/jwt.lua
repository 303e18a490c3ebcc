-- JSON web tokens (RFC 7519) that weir signs itself, to show them to others. Only
-- RS256, the algorithm that clouds ask for. Tokens of others are not read here.

local crypto = require("weir.crypto")
local json = require("weir.json")

local _M = {}


local function part(fields)
  local text, err = json.encode(fields)

  if not text then
    return nil, err
  end
  return crypto.base64url(text)
end


-- A token that says claims, signed with the key in PEM; nil and why not. headers: more members of
-- the header, such as kid.
function _M.sign(claims, pem, headers)
  if type(claims) ~= "table" or type(pem) ~= "string" then
    error("sign expects a table of claims and a key in PEM", 2)
  end
  local head = { alg = "RS256", typ = "JWT" }

  for name, value in pairs(headers or {}) do
    head[name] = value
  end
  local first, err = part(head)
  local second

  if first then
    second, err = part(claims)
  end
  if not second then
    return nil, err
  end
  local input = first .. "." .. second
  local signature

  signature, err = crypto.sign_rs256(pem, input)
  if not signature then
    return nil, err
  end
  return input .. "." .. crypto.base64url(signature)
end


return _M
