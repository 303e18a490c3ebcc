-- Signature Version 4 of AWS ("AWS Signature Version 4 for API requests" of the
-- IAM User Guide): signs a request by its headers, or makes a URL that is signed
-- in its query. Knows nothing of clocks, credentials' sources and connections.

local crypto = require "weir.crypto"
local encode = require("weir.cloud.url").escape

local concat, find, format, gsub = table.concat, string.find, string.format, string.gsub
local lower, match, sort = string.lower, string.match, table.sort
local hex, hmac, sha256 = crypto.hex, crypto.hmac_sha256, crypto.sha256

local ALGORITHM = "AWS4-HMAC-SHA256"

local _M = {}


-- https://host:port/path in parts: the Host field, and the path ("/" if there is none).
local function parts_of(url)
  local scheme, host, path = match(url, "^(https?)://([^/?#]+)([^?#]*)$")
  if not scheme then
    return nil
  end
  if scheme == "https" then
    host = gsub(host, ":443$", "")
  else
    host = gsub(host, ":80$", "")
  end
  return host, path == "" and "/" or path
end


-- Without dot segments and empty ones.
local function normal_path(path)
  local segments = {}
  for segment in path:gmatch("[^/]+") do
    if segment == ".." then
      segments[#segments] = nil
    elseif segment ~= "." then
      segments[#segments + 1] = encode(segment)
    end
  end
  local text = "/" .. concat(segments, "/")
  return #segments > 0 and find(path, "/$") and text .. "/" or text
end


-- params: name -> value, or a list of values; as it goes into a URL, too.
local function canonical_query(params)
  local pairs_of = {}
  for name, value in pairs(params) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      pairs_of[#pairs_of + 1] = { encode(name), encode(tostring(one)) }
    end
  end
  sort(pairs_of, function(a, b)
    if a[1] ~= b[1] then
      return a[1] < b[1]
    end
    return a[2] < b[2]
  end)
  for i, pair in ipairs(pairs_of) do
    pairs_of[i] = pair[1] .. "=" .. pair[2]
  end
  return concat(pairs_of, "&")
end


local function trimmed(value)
  return (gsub(match(value, "^%s*(.-)%s*$"), "%s+", " "))
end


-- The canonical fields, each with its newline, and their names.
local function canonical_headers(headers)
  local values, names = {}, {}
  for name, value in pairs(headers) do
    name = lower(name)
    local all = {}
    for i, one in ipairs(type(value) == "table" and value or { value }) do
      all[i] = trimmed(tostring(one))
    end
    if not values[name] then
      names[#names + 1] = name
    end
    values[name] = concat(all, ",")
  end
  sort(names)
  local lines = {}
  for i, name in ipairs(names) do
    lines[i] = name .. ":" .. values[name] .. "\n"
  end
  return concat(lines), concat(names, ";")
end


local function signing_key(secret, date, region, service)
  return hmac(hmac(hmac(hmac("AWS4" .. secret, date), region), service), "aws4_request")
end


local function scope_of(time, options)
  return os.date("!%Y%m%d", time) .. "/" .. options.region .. "/" .. options.service
    .. "/aws4_request"
end


-- canonical: the request's lines but for the last, which is the payload's digest.
local function signature_of(canonical, secret, time, options)
  local to_sign = concat({ ALGORITHM, os.date("!%Y%m%dT%H%M%SZ", time), scope_of(time, options),
                           hex(sha256(canonical)) }, "\n")
  local key = signing_key(secret, os.date("!%Y%m%d", time), options.region, options.service)
  return hex(hmac(key, to_sign))
end


-- Adds to request.headers (all of which are signed) what signs the request: url without a query,
-- method, headers, body, params (name -> value or list of values, the query), as far as it has
-- them. credentials: access_key_id, secret_access_key, session_token or nil. options: time
-- (seconds since the epoch), region, service. true | nil, err.
function _M.sign(request, credentials, options)
  local host, path = parts_of(request.url)
  if not host then
    return nil, "it is no URL of http or https without a query"
  end
  local headers = request.headers
  headers["host"] = host
  headers["x-amz-date"] = os.date("!%Y%m%dT%H%M%SZ", options.time)
  headers["x-amz-security-token"] = credentials.session_token
  local fields, names = canonical_headers(headers)
  local canonical = concat({ request.method or "GET", normal_path(path),
                             canonical_query(request.params or {}), fields, names,
                             hex(sha256(request.body or "")) }, "\n")
  headers["authorization"] = format("%s Credential=%s/%s, SignedHeaders=%s, Signature=%s",
    ALGORITHM, credentials.access_key_id, scope_of(options.time, options), names,
    signature_of(canonical, credentials.secret_access_key, options.time, options))
  return true
end


-- The URL of a GET that may be used for options.expires_s seconds, signed in its query. request:
-- url without a query, params; options: as above. payload: the digest to sign instead of that of
-- no body. nil, err for what is no URL.
function _M.presign(request, credentials, options)
  local host, path = parts_of(request.url)
  if not host then
    return nil, "it is no URL of http or https without a query"
  end
  local params = {
    ["X-Amz-Algorithm"] = ALGORITHM,
    ["X-Amz-Credential"] = credentials.access_key_id .. "/" .. scope_of(options.time, options),
    ["X-Amz-Date"] = os.date("!%Y%m%dT%H%M%SZ", options.time),
    ["X-Amz-Expires"] = options.expires_s,
    ["X-Amz-SignedHeaders"] = "host",
    ["X-Amz-Security-Token"] = credentials.session_token,
  }
  for name, value in pairs(request.params or {}) do
    params[name] = value
  end
  local query = canonical_query(params)
  local canonical = concat({ "GET", normal_path(path), query, "host:" .. host .. "\n", "host",
                             options.payload or hex(sha256("")) }, "\n")
  return request.url .. "?" .. query .. "&X-Amz-Signature="
    .. signature_of(canonical, credentials.secret_access_key, options.time, options)
end


return _M
