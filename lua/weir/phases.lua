-- The phases in which a plugin's code can run, one bit each, so that the set of
-- phases in which a function is allowed is one number. Owns the names and the
-- message for a call in the wrong phase; knows nothing of requests.

local bit = require "bit"

local bor = bit.bor
local band = bit.band
local concat = table.concat
local error = error


local _M = {
  init_worker = 0x1,
  configure = 0x2,
  timer = 0x4,
  rewrite = 0x10,
  access = 0x20,
  response = 0x40,
  balancer = 0x80,
  header_filter = 0x200,
  body_filter = 0x400,
  log = 0x800,
}


-- In the order in which a request meets them; messages list them so.
local ORDER = {
  "init_worker", "configure", "timer", "rewrite", "access", "balancer",
  "response", "header_filter", "body_filter", "log",
}


_M.order = ORDER
_M.names = {}
for i = 1, #ORDER do
  _M.names[_M[ORDER[i]]] = ORDER[i]
end


-- All phases that have a client request.
_M.request = bor(_M.rewrite, _M.access, _M.balancer, _M.response, _M.header_filter,
                 _M.body_filter, _M.log)


-- The names of the phases in a set, e.g. "rewrite, access".
function _M.list(set)
  local out = {}
  for i = 1, #ORDER do
    if band(set, _M[ORDER[i]]) ~= 0 then
      out[#out + 1] = ORDER[i]
    end
  end
  return concat(out, ", ")
end


-- Raises the error for a function that was called in the wrong phase; to be
-- called by that function itself, so that the line of its caller is named.
-- ctx is nil while a plugin's files are being loaded.
function _M.wrong(ctx, allowed)
  local name = ctx and (_M.names[ctx.phase] or "an unknown") or "init"
  error("function cannot be called in " .. name .. " phase (only in: " .. _M.list(allowed) .. ")",
        3)
end


return _M
