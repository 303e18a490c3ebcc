-- A FastCGI client written from the protocol's text alone, for the end-to-end
-- specs: it can send any record in any order, split and pad as it likes, and
-- shows each record that comes back. It shares nothing with weir.
local net = require "lib.net"

local _M = {}

_M.BEGIN, _M.ABORT, _M.END, _M.PARAMS, _M.STDIN, _M.STDOUT = 1, 2, 3, 4, 5, 6
_M.STDERR, _M.DATA, _M.GET_VALUES, _M.GET_VALUES_RESULT, _M.UNKNOWN_TYPE = 7, 8, 9, 10, 11
_M.RESPONDER, _M.AUTHORIZER, _M.FILTER = 1, 2, 3
_M.COMPLETE, _M.CANT_MPX, _M.OVERLOADED, _M.UNKNOWN_ROLE = 0, 1, 2, 3

local char, concat, floor = string.char, table.concat, math.floor

local function u16(n)
  return char(floor(n / 256), n % 256)
end

local function length(n)
  if n < 128 then
    return char(n)
  end
  return char(128 + floor(n / 16777216), floor(n / 65536) % 256, floor(n / 256) % 256, n % 256)
end

-- One record: at most 65,535 bytes of content, padding bytes behind it.
function _M.record(kind, id, content, padding)
  content, padding = content or "", padding or 0
  assert(#content <= 65535 and padding <= 255)
  return char(1, kind) .. u16(id) .. u16(#content) .. char(padding, 0) .. content ..
         ("\255"):rep(padding)
end

function _M.begin(id, role, keep)
  return _M.record(_M.BEGIN, id, u16(role) .. char(keep and 1 or 0) .. ("\0"):rep(5))
end

-- Name-value pairs of a list of {name, value}.
function _M.pairs(list)
  local out = {}
  for i, pair in ipairs(list) do
    local name, value = pair[1], tostring(pair[2])
    out[i] = length(#name) .. length(#value) .. name .. value
  end
  return concat(out)
end

-- The content in records of at most size bytes, and the empty record behind it.
function _M.stream(kind, id, content, size, padding)
  local out = {}
  for at = 1, #content, size or 65535 do
    out[#out + 1] = _M.record(kind, id, content:sub(at, at + (size or 65535) - 1), padding)
  end
  out[#out + 1] = _M.record(kind, id, "", padding)
  return concat(out)
end

-- The parameters that a web server sends for a request; extra: a list of pairs that follow.
-- A false value in changes leaves that parameter out.
function _M.params(changes, extra)
  local base = {
    { "REQUEST_METHOD", "GET" }, { "REQUEST_URI", "/echo" }, { "QUERY_STRING", "" },
    { "SCRIPT_NAME", "" }, { "PATH_INFO", "/echo" }, { "SERVER_PROTOCOL", "HTTP/1.1" },
    { "REQUEST_SCHEME", "http" }, { "GATEWAY_INTERFACE", "CGI/1.1" },
    { "SERVER_NAME", "localhost" }, { "SERVER_ADDR", "127.0.0.1" }, { "SERVER_PORT", "80" },
    { "REMOTE_ADDR", "127.0.0.1" }, { "REMOTE_PORT", "40000" }, { "HTTP_HOST", "localhost" },
  }
  local list, known = {}, {}
  for _, pair in ipairs(base) do
    local value = changes and changes[pair[1]]
    known[pair[1]] = true
    if value == nil then
      list[#list + 1] = pair
    elseif value then
      list[#list + 1] = { pair[1], value }
    end
  end
  for name, value in pairs(changes or {}) do
    if not known[name] and value then
      list[#list + 1] = { name, value }
    end
  end
  for _, pair in ipairs(extra or {}) do
    list[#list + 1] = pair
  end
  return list
end

-- The bytes of a whole request. opts: id, role, keep, params (table of changes) and extra (pairs),
-- list (the pairs themselves), body (false sends no STDIN at all), split and padding of records.
function _M.request(opts)
  opts = opts or {}
  local id = opts.id or 1
  local list = opts.list or _M.params(opts.params, opts.extra)
  local out = {
    _M.begin(id, opts.role or _M.RESPONDER, opts.keep),
    _M.stream(_M.PARAMS, id, _M.pairs(list), opts.split, opts.padding),
  }
  if opts.body ~= false then
    out[#out + 1] = _M.stream(_M.STDIN, id, opts.body or "", opts.split, opts.padding)
  end
  return concat(out)
end

local client = {}
client.__index = client

function _M.connect(address, opts)
  local conn, err = net.connect(address, opts)
  if not conn then
    return nil, err
  end
  return setmetatable({ conn = conn, rest = "", answers = {} }, client)
end

function client:send(bytes)
  return self.conn:send(bytes)
end

function client:close()
  self.conn:close()
end

function client:reset()
  self.conn:reset()
end

-- The next record {kind=, id=, content=, padding=}, or nil and why.
function client:record(timeout)
  local till = net.now() + (timeout or self.conn.timeout)
  while true do
    local rest = self.rest
    if #rest >= 8 then
      local version, kind, id1, id0, n1, n0, padding = rest:byte(1, 7)
      assert(version == 1, "a record of another version")
      local n = n1 * 256 + n0
      if #rest >= 8 + n + padding then
        self.rest = rest:sub(9 + n + padding)
        return { kind = kind, id = id1 * 256 + id0, content = rest:sub(9, 8 + n),
                 padding = padding }
      end
    end
    local bytes, err = self.conn:recv(math.max(0, till - net.now()))
    if not bytes then
      return nil, err
    end
    self.rest = rest .. bytes
  end
end

-- The raw head and body as a response; header names keep their order and case.
function _M.parse_response(raw)
  local head, body = raw:match("^(.-)\r?\n\r?\n(.*)$")
  local response = { raw = raw, body = body, headers = {}, all = {} }
  if not head then
    return response
  end
  for line in (head .. "\n"):gmatch("(.-)\r?\n") do
    local name, value = line:match("^([^:]+):%s*(.-)%s*$")
    local low = (name or line):lower()
    response.all[#response.all + 1] = { name or line, value }
    response.headers[low] = response.headers[low] or value
  end
  local status = response.headers.status
  response.status = status and tonumber(status:match("^%d+"))
  return response
end

local function answer_of(self, id)
  local answer = self.answers[id]
  if not answer then
    answer = { out = {}, err = {}, sizes = {} }
    self.answers[id] = answer
  end
  return answer
end

local function take(self, record)
  local answer = answer_of(self, record.id)
  if record.kind == _M.STDOUT then
    answer.out[#answer.out + 1] = record.content
    answer.sizes[#answer.sizes + 1] = #record.content
    answer.stdout_closed = record.content == ""
  elseif record.kind == _M.STDERR then
    answer.err[#answer.err + 1] = record.content
  elseif record.kind == _M.END then
    local a3, a2, a1, a0, protocol = record.content:byte(1, 5)
    answer.app_status = ((a3 * 256 + a2) * 256 + a1) * 256 + a0
    answer.protocol_status = protocol
    answer.ended = true
  else
    error("a record of type " .. record.kind .. " in an answer")
  end
  return answer
end

-- Reads until the request is over: its response with stderr, app_status, protocol_status and
-- the sizes of the STDOUT records; or nil, why, and what arrived. Records of other ids are kept.
function client:answer(id, timeout)
  id = id or 1
  local till = net.now() + (timeout or self.conn.timeout)
  while not answer_of(self, id).ended do
    local record, err = self:record(math.max(0, till - net.now()))
    if not record then
      return nil, err, concat(answer_of(self, id).out)
    end
    take(self, record)
  end
  local answer = self.answers[id]
  self.answers[id] = nil
  local response = _M.parse_response(concat(answer.out))
  response.stderr, response.sizes = concat(answer.err), answer.sizes
  response.app_status, response.protocol_status = answer.app_status, answer.protocol_status
  response.stdout_closed = answer.stdout_closed
  return response
end

-- A request and its answer on a connection of its own.
function _M.once(address, opts)
  local c, err = _M.connect(address, opts)
  if not c then
    return nil, err
  end
  local ok, why, rest = c:send(_M.request(opts))
  if ok then
    ok, why, rest = c:answer(opts and opts.id, opts and opts.timeout)
  end
  c:close()
  return ok, why, rest
end

-- Name-value pairs back into a table.
function _M.unpairs(content)
  local out, at = {}, 1
  local function take_length()
    local b = content:byte(at)
    if b < 128 then
      at = at + 1
      return b
    end
    local b2, b1, b0 = content:byte(at + 1, at + 3)
    at = at + 4
    return (((b - 128) * 256 + b2) * 256 + b1) * 256 + b0
  end
  while at <= #content do
    local name_n = take_length()
    local value_n = take_length()
    out[content:sub(at, at + name_n - 1)] = content:sub(at + name_n, at + name_n + value_n - 1)
    at = at + name_n + value_n
  end
  return out
end

return _M
