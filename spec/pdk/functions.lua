-- Every function of the PDK and the phases in which it can be called: what the
-- phases spec asserts, and what tools/check-pdk compares with the comments.
-- "request" stands for all phases that have a client request, "all" for all.

local REQUEST = "request"
local READ_RESPONSE = "response header_filter body_filter log"
local WRITE_RESPONSE = "rewrite access response header_filter"
local READ_BODY = "rewrite access response"
local BEFORE = "rewrite access"
local BEFORE_OR_BALANCER = "rewrite access balancer"
local MATCHED = "access balancer response header_filter body_filter log"
local ALL = "all"

return {
  ["kong.request.get_scheme"] = REQUEST,
  ["kong.request.get_host"] = REQUEST,
  ["kong.request.get_port"] = REQUEST,
  ["kong.request.get_forwarded_scheme"] = REQUEST,
  ["kong.request.get_forwarded_host"] = REQUEST,
  ["kong.request.get_forwarded_port"] = REQUEST,
  ["kong.request.get_forwarded_path"] = REQUEST,
  ["kong.request.get_forwarded_prefix"] = REQUEST,
  ["kong.request.get_http_version"] = REQUEST,
  ["kong.request.get_method"] = REQUEST,
  ["kong.request.get_path"] = REQUEST,
  ["kong.request.get_raw_path"] = REQUEST,
  ["kong.request.get_path_with_query"] = REQUEST,
  ["kong.request.get_raw_query"] = REQUEST,
  ["kong.request.get_query_arg"] = REQUEST,
  ["kong.request.get_query"] = REQUEST,
  ["kong.request.get_header"] = REQUEST,
  ["kong.request.get_headers"] = REQUEST,
  ["kong.request.get_raw_body"] = READ_BODY,
  ["kong.request.get_body"] = READ_BODY,
  ["kong.request.get_start_time"] = REQUEST,
  ["kong.request.get_uri_captures"] = REQUEST,

  ["kong.response.get_status"] = READ_RESPONSE,
  ["kong.response.get_header"] = READ_RESPONSE,
  ["kong.response.get_headers"] = READ_RESPONSE,
  ["kong.response.get_source"] = READ_RESPONSE,
  ["kong.response.set_status"] = WRITE_RESPONSE,
  ["kong.response.set_header"] = WRITE_RESPONSE,
  ["kong.response.add_header"] = WRITE_RESPONSE,
  ["kong.response.clear_header"] = WRITE_RESPONSE,
  ["kong.response.set_headers"] = WRITE_RESPONSE,
  ["kong.response.get_raw_body"] = "body_filter",
  ["kong.response.set_raw_body"] = "body_filter",
  ["kong.response.exit"] = WRITE_RESPONSE,
  ["kong.response.error"] = WRITE_RESPONSE,

  ["kong.service.set_target"] = BEFORE_OR_BALANCER,
  ["kong.service.set_retries"] = BEFORE_OR_BALANCER,
  ["kong.service.set_timeouts"] = BEFORE_OR_BALANCER,

  ["kong.service.request.set_scheme"] = BEFORE,
  ["kong.service.request.set_path"] = BEFORE,
  ["kong.service.request.set_raw_query"] = BEFORE,
  ["kong.service.request.set_method"] = BEFORE,
  ["kong.service.request.set_query"] = BEFORE,
  ["kong.service.request.clear_query_arg"] = BEFORE,
  ["kong.service.request.set_header"] = BEFORE_OR_BALANCER,
  ["kong.service.request.add_header"] = BEFORE_OR_BALANCER,
  ["kong.service.request.clear_header"] = BEFORE_OR_BALANCER,
  ["kong.service.request.set_headers"] = BEFORE_OR_BALANCER,
  ["kong.service.request.set_raw_body"] = BEFORE_OR_BALANCER,
  ["kong.service.request.set_body"] = BEFORE_OR_BALANCER,
  ["kong.service.request.enable_buffering"] = BEFORE,

  ["kong.service.response.get_status"] = READ_RESPONSE,
  ["kong.service.response.get_headers"] = READ_RESPONSE,
  ["kong.service.response.get_header"] = READ_RESPONSE,
  ["kong.service.response.get_raw_body"] = READ_RESPONSE,
  ["kong.service.response.get_body"] = READ_RESPONSE,

  ["kong.client.get_ip"] = REQUEST,
  ["kong.client.get_forwarded_ip"] = REQUEST,
  ["kong.client.get_port"] = REQUEST,
  ["kong.client.get_forwarded_port"] = REQUEST,
  ["kong.client.get_protocol"] = "access response header_filter body_filter log",

  ["kong.router.get_route"] = MATCHED,
  ["kong.router.get_service"] = MATCHED,

  ["kong.ctx.shared"] = REQUEST,
  ["kong.ctx.plugin"] = REQUEST,

  ["kong.log.emerg"] = ALL,
  ["kong.log.alert"] = ALL,
  ["kong.log.crit"] = ALL,
  ["kong.log.err"] = ALL,
  ["kong.log.warn"] = ALL,
  ["kong.log.notice"] = ALL,
  ["kong.log.info"] = ALL,
  ["kong.log.debug"] = ALL,
  ["kong.log.deprecation"] = ALL,
  ["kong.log.inspect"] = ALL,
  ["kong.log.serialize"] = "log",
  ["kong.log.set_serialize_value"] = REQUEST,

  ["kong.table.new"] = ALL,
  ["kong.table.clear"] = ALL,
  ["kong.table.merge"] = ALL,

  ["kong.vault.is_reference"] = ALL,
  ["kong.vault.parse_reference"] = ALL,
  ["kong.vault.get"] = ALL,
  ["kong.vault.update"] = ALL,
  ["kong.vault.try"] = ALL,
}
