-- The PDK: the table that plugins know as the global `kong`. It only puts the
-- modules together; each of them checks the phase of its caller by itself.

return {
  -- The version of Kong whose PDK this is: plugins compare it to know what they can use.
  version = "3.10.0",
  version_num = 3010000,

  configuration = require "weir.pdk.configuration",
  client = require "weir.pdk.client",
  ctx = require "weir.pdk.ctx",
  log = require "weir.pdk.log",
  request = require "weir.pdk.request",
  response = require "weir.pdk.response",
  router = require "weir.pdk.router",
  service = require "weir.pdk.service",
  table = require "weir.pdk.table",
  vault = require "weir.pdk.vault",
}
