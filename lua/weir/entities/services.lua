-- A service: where requests go.

local net = require("weir.schema.net")
local typedefs = require("weir.schema.typedefs")

local default_ports = { http = 80 }

-- What `url` stands for.
local function from_url(url)
  local parts, err = net.parse_url(url)
  if not parts then
    return nil, err
  end
  return {
    protocol = parts.scheme,
    host = parts.host,
    port = parts.port or default_ports[parts.scheme],
    path = parts.path,
  }
end

local timeout = typedefs.timeout { required = true, default = 60000, between = { 1, 2147483646 } }

return {
  name = "services",
  fields = {
    { id = typedefs.uuid },
    { created_at = typedefs.auto_timestamp_s },
    { updated_at = typedefs.auto_timestamp_s },
    { name = typedefs.utf8_name },
    { retries = { type = "integer", required = true, default = 5, between = { 0, 32767 } } },
    { protocol = { type = "string", required = true, default = "http", one_of = { "http" } } },
    { host = typedefs.host { required = true } },
    { port = typedefs.port { required = true, default = 80 } },
    { path = typedefs.path },
    { connect_timeout = timeout },
    { write_timeout = timeout },
    { read_timeout = timeout },
    { tags = typedefs.tags },
    { enabled = { type = "boolean", required = true, default = true } },
  },
  shorthand_fields = {
    { url = { type = "string", func = from_url } },
  },
}
