-- Field types that schemas share. Each is a table of attributes; called with
-- a table it gives a copy with those attributes on top:
--   { port = typedefs.port { default = 6379 } }

local null = require("weir.json").null
local net = require("weir.schema.net")
local path = require("weir.path")

local function typedef(attrs)
  return setmetatable(attrs, {
    __call = function(self, changes)
      local out = {}
      for name, value in pairs(self) do
        out[name] = value
      end
      for name, value in pairs(changes or {}) do
        out[name] = value
      end
      return typedef(out)
    end,
  })
end

local _M = {}

local all_protocols = { "grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp" }
local http_protocols = { "grpc", "grpcs", "http", "https" }

-- required because a plugin that fits no protocol would never run
_M.protocols = typedef({
  type = "set", required = true, default = http_protocols, len_min = 1,
  elements = { type = "string", one_of = all_protocols },
})

_M.protocols_http = typedef({
  type = "set", required = true, default = http_protocols, len_min = 1,
  elements = { type = "string", one_of = http_protocols },
})

_M.no_consumer = typedef({ type = "foreign", reference = "consumers", eq = null })
_M.no_service = typedef({ type = "foreign", reference = "services", eq = null })
_M.no_route = typedef({ type = "foreign", reference = "routes", eq = null })

_M.uuid = typedef({ type = "string", uuid = true, auto = true })

_M.auto_timestamp_s = typedef({ type = "integer", timestamp = true, auto = true })
_M.auto_timestamp_ms = typedef({ type = "number", timestamp = true, auto = true })

-- entity names: RFC 3986's unreserved characters, and letters beyond ASCII
local function check_name(name)
  if name:find("[^%w%-._~\128-\255]") then
    return nil, "invalid value '" .. name
      .. "': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
  end
  return true
end

_M.name = typedef({ type = "string", unique = true, custom_validator = check_name })
_M.utf8_name = _M.name

local function check_tag(tag)
  if tag:find("[%c,/]") then
    return nil, "invalid tag '" .. tag
      .. "': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
  end
  return true
end

_M.tag = typedef({ type = "string", required = true, custom_validator = check_tag })
_M.tags = typedef({ type = "set", elements = _M.tag })

_M.port = typedef({ type = "integer", between = { 0, 65535 } })
_M.timeout = typedef({ type = "integer", between = { 0, 2147483646 } })
_M.ttl = typedef({ type = "number", between = { 0, 100000000 } })

_M.host = typedef({ type = "string", custom_validator = net.check_host })
_M.wildcard_host = typedef({ type = "string", custom_validator = net.check_wildcard_host })
_M.host_with_optional_port = typedef({
  type = "string", custom_validator = net.check_host_with_port,
})
_M.hosts = typedef({ type = "array", elements = _M.wildcard_host { required = true } })

_M.ip = typedef({ type = "string", custom_validator = net.check_ip })
_M.cidr = typedef({ type = "string", custom_validator = net.check_cidr })
_M.ip_or_cidr = typedef({ type = "string", custom_validator = net.check_ip_or_cidr })
_M.cidr_v4 = _M.cidr

_M.url = typedef({ type = "string", custom_validator = net.check_url })
_M.sni = typedef({ type = "string", custom_validator = net.check_sni })

_M.http_method = typedef({ type = "string", match = "^%u+$" })
_M.methods = typedef({ type = "set", elements = _M.http_method { required = true } })

_M.header_name = typedef({
  type = "string", custom_validator = function(name)
    if name:find("^[%w_-]+$") then
      return true
    end
    return nil, "bad header name '" .. name
      .. "', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
  end,
})

_M.headers = typedef({
  type = "map",
  keys = _M.header_name,
  values = { type = "array", elements = { type = "string" }, len_min = 1 },
})

_M.path = typedef({
  type = "string",
  match_any = { patterns = { "^/" }, err = "should start with: /" },
  match_none = { { pattern = "//", err = "must not have empty segments" } },
  custom_validator = path.check_characters,
})

-- a prefix, or "~" and a regular expression
_M.router_path = typedef({
  type = "string",
  match_any = {
    patterns = { "^/", "^~/" }, err = "should start with: / (fixed path) or ~/ (regex path)",
  },
  custom_validator = path.check_router_path,
})
_M.paths = typedef({ type = "array", elements = _M.router_path { required = true } })

_M.regex = typedef({ type = "string", is_regex = true })
_M.regex_or_plain_pattern = _M.router_path

-- Lua source that is compiled, never run, when the configuration is read
_M.lua_code = typedef({
  type = "map",
  keys = { type = "string" },
  values = { type = "string", custom_validator = function(text)
    local fn, err = loadstring("return " .. text)
    if not fn then
      fn, err = loadstring(text)
    end
    if fn then
      return true
    end
    return nil, "error parsing lua code: " .. tostring(err)
  end },
})

return _M
