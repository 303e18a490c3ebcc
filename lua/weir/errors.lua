-- The bodies of generated errors: the default message of a status, the choice of
-- a content type by the Accept header, and the four forms. Pure text in, text
-- out; it sends nothing. The request id is in the body only where the caller
-- passes one (error_request_id = on), in the form of Kong 3.10; otherwise bodies
-- are the short ones, {"message":"..."} above all.

local byte = string.byte
local find = string.find
local format = string.format
local gmatch = string.gmatch
local gsub = string.gsub
local lower = string.lower
local match = string.match
local sub = string.sub
local tonumber = tonumber


local JSON = "application/json; charset=utf-8"
local PLAIN = "text/plain; charset=utf-8"
local HTML = "text/html; charset=utf-8"
local XML = "application/xml; charset=utf-8"


local _M = {
  JSON = JSON,
  PLAIN = PLAIN,
  HTML = HTML,
  XML = XML,

  -- What weir itself answers, beside the plain defaults below.
  no_route = "no Route matched with those values",
  no_service = "no Service found with those values",
  unexpected = "An unexpected error occurred",
}


local MESSAGES = {
  [400] = "Bad request",
  [401] = "Unauthorized",
  [402] = "Payment required",
  [403] = "Forbidden",
  [404] = "Not found",
  [405] = "Method not allowed",
  [406] = "Not acceptable",
  [407] = "Proxy authentication required",
  [408] = "Request timeout",
  [409] = "Conflict",
  [410] = "Gone",
  [411] = "Length required",
  [412] = "Precondition failed",
  [413] = "Payload too large",
  [414] = "URI too long",
  [415] = "Unsupported media type",
  [416] = "Range not satisfiable",
  [417] = "Expectation failed",
  [421] = "Misdirected request",
  [422] = "Unprocessable entity",
  [423] = "Locked",
  [424] = "Failed dependency",
  [425] = "Too early",
  [426] = "Upgrade required",
  [428] = "Precondition required",
  [429] = "Too many requests",
  [431] = "Request header fields too large",
  [451] = "Unavailable for legal reasons",
  [494] = "Request header or cookie too large",
  [500] = "An unexpected error occurred",
  [501] = "Not implemented",
  [502] = "An invalid response was received from the upstream server",
  [503] = "The upstream server is currently unavailable",
  [504] = "The upstream server is timing out",
  [505] = "HTTP version not supported",
  [507] = "Insufficient storage",
  [508] = "Loop detected",
  [510] = "Not extended",
  [511] = "Network authentication required",
}


-- Types that an Accept header or a Content-Type can name; anything else is JSON.
local TYPES = {
  ["application/json"] = JSON,
  ["application/xml"] = XML,
  ["text/xml"] = XML,
  ["text/html"] = HTML,
  ["text/plain"] = PLAIN,
  ["application/*"] = JSON,
  ["text/*"] = PLAIN,
  ["*/*"] = JSON,
}


local JSON_ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f",
                       ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }
local XML_ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }


local function json_escape_char(c)
  return JSON_ESCAPES[c] or format("\\u%04x", byte(c))
end


-- "/" stays as it is: clients compare bodies as bytes.
local function json_escape(s)
  if find(s, '["\\%c]') then
    return (gsub(s, '["\\%c]', json_escape_char))
  end
  return s
end


local function xml_escape(s)
  return (gsub(s, '[&<>"]', XML_ESCAPES))
end


local FORMS = {
  [JSON] = function(message, id)
    message = json_escape(message)
    if id then
      return '{\n  "message":"' .. message .. '",\n  "request_id":"' .. id .. '"\n}'
    end
    return '{"message":"' .. message .. '"}'
  end,

  [PLAIN] = function(message, id)
    return id and message .. "\nrequest_id: " .. id .. "\n" or message .. "\n"
  end,

  [HTML] = function(message, id)
    return '<!doctype html>\n<html>\n  <head>\n    <meta charset="utf-8">\n' ..
           "    <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    <p>" ..
           xml_escape(message) .. ".</p>\n" ..
           (id and "    <p>request_id: " .. id .. "</p>\n" or "") .. "  </body>\n</html>\n"
  end,

  [XML] = function(message, id)
    return '<?xml version="1.0" encoding="UTF-8"?>\n<error>\n  <message>' ..
           xml_escape(message) .. "</message>\n" ..
           (id and "  <requestid>" .. id .. "</requestid>\n" or "") .. "</error>\n"
  end,
}


-- The message for a status that came without one.
function _M.message(status)
  return MESSAGES[status] or format("The upstream server responded with %d", status)
end


-- The media type in a Content-Type, without parameters; nil when that is none of the four.
function _M.type_of(content_type)
  local essence = match(content_type, "^%s*([^;%s]+)")
  return essence and TYPES[lower(essence)]
end


-- "*/*;q=0.5" -> "*/*", 0.5
local function read_range(range)
  local name = match(range, "^%s*([^;%s]+)")
  if not name then
    return nil
  end
  local q = match(range, ";%s*[qQ]%s*=%s*([%d.]+)")
  return lower(name), q and (tonumber(q) or 0) or 1
end


local function best_of(accept)
  local best, best_q = JSON, 0
  for range in gmatch(accept, "[^,]+") do
    local name, q = read_range(range)
    if name and q > best_q then
      -- An unknown type of higher q means JSON, as Kong has it.
      best, best_q = TYPES[name] or JSON, q
    end
  end
  return best
end


-- The last headers and what they came to: clients send few different ones.
local CHOICES_MAX = 256
local ACCEPT_MAX = 1024
local choices, chosen = {}, 0


-- What the client wants to read: the known type of the highest q, the first of
-- several; JSON when the header is missing or names nothing that is known. What
-- stands behind the first 1024 bytes is not looked at.
function _M.choose(accept)
  if not accept then
    return JSON
  end
  local best = choices[accept]
  if best then
    return best
  end
  best = best_of(sub(accept, 1, ACCEPT_MAX))
  if #accept <= ACCEPT_MAX then
    if chosen >= CHOICES_MAX then
      choices, chosen = {}, 0
    end
    choices[accept] = best
    chosen = chosen + 1
  end
  return best
end


-- The last bodies without an id: a limit's rejection is the same one again and
-- again. Messages may hold what a client sent, so there is a bound.
local CACHE_MAX = 256
local cache, cached = {}, 0


-- The body for a message in one of the four content types. id may be nil.
function _M.body(message, content_type, id)
  local form = FORMS[content_type]
  if id then
    return form(message, id)
  end
  local bodies = cache[message]
  local body = bodies and bodies[content_type]
  if body then
    return body
  end
  body = form(message)
  if cached >= CACHE_MAX then
    cache, cached = {}, 0
    bodies = nil
  end
  if not bodies then
    bodies = {}
    cache[message] = bodies
  end
  bodies[content_type] = body
  cached = cached + 1
  return body
end


return _M
