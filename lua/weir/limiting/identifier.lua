-- What requests are counted by: the value that a request has of a kind (ip,
-- service, route, header, path, consumer, credential), and the text that stands
-- for it in a counter's key. Consumers and credentials are known only once an
-- authentication plugin has said who the client is; until then, and wherever a
-- request has no such value, the client's address stands in.

local get_header = require("weir.pdk.headers").get
local real_ip = require "weir.real_ip"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C = weir.C
local sv = weir.sv
local ffi_string = weir.ffi.string

local find = string.find
local format = string.format
local gmatch = string.gmatch
local gsub = string.gsub
local tonumber = tonumber

local PATH = tonumber(C.WEIR_REQ_PATH)
local REQUEST = tonumber(C.WEIR_HEADERS_REQUEST)


local _M = {}


-- The kinds whose values are the client's address, as long as nobody authenticates.
local ADDRESS = { ip = true, consumer = true, credential = true }


-- Keys go to stores, where they take room and have bounds: of a longer value its digest is taken.
local VALUE_MAX = 255

local digest = weir.ffi.new("unsigned char[20]")


local function hex(c)
  return format("%02x", c:byte())
end


local function bounded(value)
  if #value <= VALUE_MAX then
    return value
  end
  C.weir_sha1(value, #value, digest)
  return "sha1:" .. gsub(ffi_string(digest, 20), ".", hex)
end


-- The value of a kind that is no address; nil if the request has none.
local function value_of(ctx, by, header_name, path)
  if by == "service" then
    local service = ctx.service
    return service and service.id
  elseif by == "header" then
    local value = get_header(ctx.req, REQUEST, header_name)
    return value and bounded(value)
  elseif by == "path" then
    C.weir_req_get(ctx.req, PATH, sv)
    local own = ffi_string(sv[0].p, sv[0].n)
    return own == path and bounded(own) or nil
  elseif by == "route" then
    local route = ctx.route
    return route and route.id
  end
  return nil
end


-- What names a kind in a key: what is no address bears it, so that a client who sends
-- another's address as the value of a header does not use up what that other has left.
function _M.mark(by)
  return by .. "="
end


-- The identifier of the request that runs now. mark is that of the kind, made once;
-- header_name and path are those of the kinds header and path.
function _M.of(by, mark, header_name, path)
  local ctx = wait.ctx
  local value = value_of(ctx, by, header_name, path)
  return value and mark .. value or ctx.client_ip or real_ip.address(ctx)
end


-- One part of several: its length tells where it ends, whatever a client puts into it.
local function part(by, header_name, path)
  local ctx = wait.ctx
  local value = value_of(ctx, by, header_name, path)
  if value then
    return by .. "=" .. #value .. ":" .. value .. ";"
  end
  value = ctx.client_ip or real_ip.address(ctx)
  return "ip=" .. #value .. ":" .. value .. ";"
end


-- The identifier that several kinds make together: parts from number i on, behind text.
function _M.of_all(kinds, header_name, path, i, text)
  local by = kinds[i]
  if not by then
    return text
  end
  return _M.of_all(kinds, header_name, path, i + 1, text .. part(by, header_name, path))
end


-- The same from a value that an operator names; an address is its own identifier.
function _M.given(by, value)
  return ADDRESS[by] and value or _M.mark(by) .. bounded(value)
end


-- The same for several kinds: values is an array, or a text with commas between them.
-- nil and why not, when there are not as many values as kinds.
function _M.given_all(kinds, values)
  local list = values
  if type(values) == "string" then
    list = {}
    for value in gmatch(values, "[^,]+") do
      list[#list + 1] = value
    end
  end
  if #list ~= #kinds then
    return nil, #kinds .. " values are needed, in this order: " .. table.concat(kinds, ", ")
  end
  local text = ""
  for i, by in ipairs(kinds) do
    local value = bounded(list[i])
    text = text .. (ADDRESS[by] and "ip" or by) .. "=" .. #value .. ":" .. value .. ";"
  end
  return text
end


-- An identifier as it may stand in a line of the log.
function _M.shown(identifier)
  if #identifier > 200 then
    identifier = identifier:sub(1, 200) .. "..."
  end
  if find(identifier, "[%c\127-\255]") then
    identifier = identifier:gsub("[%c\127-\255]", "?")
  end
  return identifier
end


return _M
