-- A route: which requests go to which service.

local typedefs = require("weir.schema.typedefs")

local header_values = {
  type = "array", required = true, len_min = 1, elements = { type = "string", required = true },
}

return {
  name = "routes",
  fields = {
    { id = typedefs.uuid },
    { created_at = typedefs.auto_timestamp_s },
    { updated_at = typedefs.auto_timestamp_s },
    { name = typedefs.utf8_name },
    { protocols = {
      type = "set", required = true, len_min = 1, default = { "http", "https" },
      elements = { type = "string", required = true, one_of = { "http", "https" } },
    } },
    { https_redirect_status_code = {
      type = "integer", required = true, default = 426, one_of = { 426, 301, 302, 307, 308 },
    } },
    { strip_path = { type = "boolean", required = true, default = true } },
    { preserve_host = { type = "boolean", required = true, default = false } },
    { request_buffering = { type = "boolean", required = true, default = true } },
    -- COMPAT(kong): accepted; the web server in front buffers responses (see doc/config.md)
    { response_buffering = { type = "boolean", required = true, default = true } },
    { tags = typedefs.tags },
    { service = { type = "foreign", reference = "services" } },
    { methods = typedefs.methods },
    { hosts = typedefs.hosts },
    { paths = typedefs.paths },
    { headers = {
      type = "map",
      keys = typedefs.header_name {
        match_none = { {
          pattern = "^[Hh][Oo][Ss][Tt]$",
          err = "cannot contain 'host' header, which must be specified in the 'hosts' attribute",
        } },
      },
      values = header_values,
    } },
    { regex_priority = { type = "integer", default = 0 } },
    { path_handling = {
      type = "string", required = true, default = "v0", one_of = { "v0", "v1" },
    } },
  },
  entity_checks = {
    { conditional_at_least_one_of = {
      if_field = "protocols",
      if_match = { contains = "https" },
      then_at_least_one_of = { "methods", "hosts", "headers", "paths", "snis" },
      then_err = "must set one of %s when 'protocols' is 'https'",
      else_match = { contains = "http" },
      else_then_at_least_one_of = { "methods", "hosts", "headers", "paths" },
      else_then_err = "must set one of %s when 'protocols' is 'http'",
    } },
  },
}
