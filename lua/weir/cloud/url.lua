-- URLs that clouds are asked at: which of them credentials may go to, forms, and escapes.
-- Needs nothing of the host, so that schemas can use it anywhere.

-- all but RFC 3986's unreserved characters as %XX
local escape = require("weir.pdk.query").escape

local concat, find, match, sub = table.concat, string.find, string.match, string.sub

local _M = { escape = escape }


-- application/x-www-form-urlencoded, of { { name, value }, ... }; where the value is nil, the
-- field is left out.
function _M.form(fields)
  local parts = {}
  for i = 1, #fields do
    local name, value = fields[i][1], fields[i][2]
    if value ~= nil then
      parts[#parts + 1] = name .. "=" .. escape(value)
    end
  end
  return concat(parts, "&")
end


-- Whether credentials may go to url: by TLS, or to this machine. true | nil, err
function _M.check(url)
  local scheme, host = match(url, "^(https?)://(%[[%x:.]+%])")
  if not scheme then
    scheme, host = match(url, "^(https?)://([%w%-._]+)")
  end
  local rest = scheme and sub(url, #scheme + #host + 4) .. "/"
  if not scheme or find(url, "[%c%s]") or not find(rest, "^:?%d*/") then
    return nil, "must be a URL, https://..."
  end
  if scheme == "http" and host ~= "localhost" and host ~= "[::1]"
    and not find(host, "^127%.[%d.]+$") then
    return nil, "must begin with https://: only this machine is spoken to without TLS"
  end
  return true
end


return _M
