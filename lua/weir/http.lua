-- Calling out over HTTP: what plugins and vaults ask of servers elsewhere. One
-- function, which lets the request, timer or command that calls it wait while
-- others go on. Owns nothing: an exchange lies in C (src/peer/callout.h) from
-- its making to its end, both in here.

local weir = require "weir.ffi"
local wait = require "weir.wait"

local C = weir.C
local sv, str = weir.sv, weir.str
local WAIT, NONE = weir.WAIT, weir.NONE

local error, ipairs, pairs, pcall, tostring, type = error, ipairs, pairs, pcall, tostring, type
local lower = string.lower

local SYNTAX, BOUND = -2, -3

local _M = {}


-- name of an option -> its type and how C is told. TEXT: by a number, as it is.
local TEXTS = {
  url = C.WEIR_CALLOUT_URL,
  method = C.WEIR_CALLOUT_METHOD,
  ca_file = C.WEIR_CALLOUT_CA_FILE,
  cert_file = C.WEIR_CALLOUT_CERT_FILE,
  key_file = C.WEIR_CALLOUT_KEY_FILE,
  server_name = C.WEIR_CALLOUT_SERVER_NAME,
  unix_socket = C.WEIR_CALLOUT_UNIX_SOCKET,
}

local NUMBERS = {
  timeout_ms = C.WEIR_CALLOUT_TIMEOUT_MS,
  connect_timeout_ms = C.WEIR_CALLOUT_CONNECT_TIMEOUT_MS,
  max_bytes = C.WEIR_CALLOUT_MAX_BYTES,
}

local OTHERS = { headers = "table", body = "string", ssl_verify = "boolean" }


-- What is wrong with the options as such, whatever their values are; nil if nothing is.
local function misuse(options)
  if type(options) ~= "table" or type(options.url) ~= "string" then
    return "weir.http.request needs a table with a url"
  end
  for name, value in pairs(options) do
    local expected = TEXTS[name] and "string" or NUMBERS[name] and "number" or OTHERS[name]

    if name == "proxy" then
      if type(value) ~= "string" and type(value) ~= "boolean" then
        return "proxy must be a URL, true or false"
      end
    elseif not expected then
      return "weir.http.request knows no option '" .. tostring(name) .. "'"
    elseif type(value) ~= expected then
      return name .. " must be a " .. expected
    end
  end
  for name, value in pairs(options.headers or {}) do
    if type(name) ~= "string" or (type(value) ~= "string" and type(value) ~= "number"
                                  and type(value) ~= "table") then
      return "headers must be a map from names to strings, or arrays of strings"
    end
  end
end


-- A value that cannot be sent is said to be so, and not shown.
local function refusal(what, code)
  if code == BOUND then
    return what .. " is out of bounds"
  elseif code == SYNTAX then
    return what .. " is invalid"
  end
end


local function add_header(c, name, value)
  value = tostring(value)
  return refusal("header " .. name, C.weir_callout_header(c, name, #name, value, #value))
end


local function add_headers(c, headers)
  for name, value in pairs(headers) do
    local err

    if type(value) == "table" then
      for _, one in ipairs(value) do
        err = err or add_header(c, name, one)
      end
    else
      err = add_header(c, name, value)
    end
    if err then
      return err
    end
  end
end


local function set_text(c, name, number, value)
  return refusal(name, C.weir_callout_text(c, number, value, #value))
end


-- The authorities of weir.conf, where the options name none.
local function add_site(c, options)
  if options.ca_file or options.ssl_verify == false then
    return
  end
  local key = "lua_ssl_trusted_certificate"

  if C.weir_conf_get(key, #key, sv) ~= 0 then
    return
  end
  local path = str(sv[0])

  if path ~= "system" and path ~= "" then
    return set_text(c, key, TEXTS.ca_file, path)
  end
end


-- nil, or why the exchange cannot be as the options want it.
local function fill(c, options)
  local err

  for name, number in pairs(TEXTS) do
    if options[name] then
      err = err or set_text(c, name, number, options[name])
    end
  end
  for name, number in pairs(NUMBERS) do
    if options[name] then
      err = err or refusal(name, C.weir_callout_number(c, number, options[name]))
    end
  end
  if options.ssl_verify == false then
    C.weir_callout_number(c, C.WEIR_CALLOUT_SSL_VERIFY, 0)
  end
  if options.proxy then
    err = err or set_text(c, "proxy", C.WEIR_CALLOUT_PROXY,
                          options.proxy == true and "" or options.proxy)
  end
  if options.body then
    err = err or refusal("body", C.weir_callout_body(c, options.body, #options.body))
  end
  return err or add_site(c, options) or add_headers(c, options.headers or {})
end


-- Fields of the same name become one, in the order in which they came.
local function headers_of(c)
  local headers = {}
  local i = 0

  while C.weir_callout_header_at(c, i, sv, sv + 1) ~= NONE do
    local name, value = lower(str(sv[0])), str(sv[1])
    local had = headers[name]

    headers[name] = had and had .. ", " .. value or value
    i = i + 1
  end
  return headers
end


local function exchange(c, options)
  local err = fill(c, options)

  if err then
    return nil, err
  end
  if C.weir_callout_start(c) == WAIT then
    wait()
  end
  local status = C.weir_callout_result(c, sv)

  if status < 0 then
    return nil, str(sv[0])
  end
  return { status = status, body = str(sv[0]), headers = headers_of(c) }
end


-- Asks a server, and waits for the whole of its response:
-- { status = 200, headers = { [lower-case name] = string }, body = string } | nil, why not.
-- options: url, method ("GET"), headers (name -> string or array), body, timeout_ms (5000,
-- of everything), connect_timeout_ms (2000), max_bytes of the response (1 MiB), ssl_verify
-- (true), ca_file, cert_file, key_file (paths of PEM files), server_name (for TLS, in the
-- place of the URL's host), unix_socket (a path), proxy (a URL; true: the environment's).
function _M.request(options)
  local wrong = misuse(options)

  if wrong then
    error(wrong, 2)
  end
  local c = C.weir_callout_new()

  if c == nil then
    error("weir.http.request may only be called where weir can wait: in a phase of a request,"
          .. " a timer or a worker's start", 2)
  end
  local ok, response, err = pcall(exchange, c, options)

  C.weir_callout_free(c)
  if not ok then -- Lua cannot wait: table.sort or the like called this
    error(response, 2)
  end
  return response, err
end


return _M
