-- A small HTTP/1.1 client for the end-to-end specs. It sends what it is told,
-- follows nothing, retries nothing, and gives status, headers in their order
-- and the body; kept connections are objects.
local net = require "lib.net"

local _M = {}

local client = {}
client.__index = client

function _M.connect(address, opts)
  local conn, err = net.connect(address, opts)
  if not conn then
    return nil, err
  end
  return setmetatable({ conn = conn, rest = "" }, client)
end

function client:close()
  self.conn:close()
end

local function fill(self, timeout)
  local bytes, err = self.conn:recv(timeout)
  if not bytes then
    return nil, err
  end
  self.rest = self.rest .. bytes
  return true
end

local function take(self, n)
  local bytes = self.rest:sub(1, n)
  self.rest = self.rest:sub(n + 1)
  return bytes
end

local function read_line(self, timeout)
  while true do
    local at = self.rest:find("\n", 1, true)
    if at then
      return (take(self, at):gsub("\r?\n$", ""))
    end
    local ok, err = fill(self, timeout)
    if not ok then
      return nil, err
    end
  end
end

-- on_body(bytes) for each piece when given; else the pieces are collected.
local function read_exactly(self, n, sink, timeout)
  while n > 0 do
    if self.rest == "" then
      local ok, err = fill(self, timeout)
      if not ok then
        return nil, err
      end
    end
    local piece = take(self, n)
    n = n - #piece
    sink(piece)
  end
  return true
end

local function read_chunked(self, sink, timeout)
  while true do
    local line, err = read_line(self, timeout)
    if not line then
      return nil, err
    end
    local n = tonumber(line:match("^%x+"), 16)
    if not n then
      return nil, "not a chunk: " .. line
    end
    if n == 0 then
      repeat
        line, err = read_line(self, timeout)
      until not line or line == ""
      return line and true, err
    end
    local ok
    ok, err = read_exactly(self, n, sink, timeout)
    if ok then
      ok, err = read_line(self, timeout)
    end
    if not ok then
      return nil, err
    end
  end
end

local function read_to_end(self, sink, timeout)
  while true do
    sink(take(self, #self.rest))
    local ok, err = fill(self, timeout)
    if not ok then
      return err == "closed" or nil, err
    end
  end
end

local function read_body(self, response, method, sink, timeout)
  local status = response.status
  if method == "HEAD" or status == 204 or status == 304 then
    return true
  end
  local headers = response.headers
  if (headers["transfer-encoding"] or ""):lower() == "chunked" then
    return read_chunked(self, sink, timeout)
  elseif headers["content-length"] then
    return read_exactly(self, tonumber(headers["content-length"]), sink, timeout)
  end
  return read_to_end(self, sink, timeout)
end

local function read_head(self, timeout)
  local line, err = read_line(self, timeout)
  if not line then
    return nil, err
  end
  local version, status, reason = line:match("^HTTP/(1%.[01]) (%d%d%d) ?(.*)$")
  if not status then
    return nil, "not a status line: " .. line
  end
  local response = { status = tonumber(status), reason = reason, version = version,
                     headers = {}, all = {} }
  while true do
    line, err = read_line(self, timeout)
    if not line then
      return nil, err
    elseif line == "" then
      return response
    end
    local name, value = line:match("^([^:]+):%s*(.-)%s*$")
    if not name then
      return nil, "not a header: " .. line
    end
    local low = name:lower()
    response.all[#response.all + 1] = { name, value }
    response.headers[low] = response.headers[low] and response.headers[low] .. ", " .. value
                            or value
  end
end

-- Reads one response. opts: method, timeout (between two pieces), on_head(response) and
-- on_body(bytes).
function client:response(opts)
  opts = opts or {}
  local response, err
  repeat
    response, err = read_head(self, opts.timeout)
    if not response then
      return nil, err
    end
  until response.status ~= 100
  if opts.on_head then
    opts.on_head(response)
  end
  local pieces, n = {}, 0
  local function sink(bytes)
    n = n + #bytes
    if opts.on_body then
      opts.on_body(bytes)
    else
      pieces[#pieces + 1] = bytes
    end
  end
  local ok, why = read_body(self, response, opts.method, sink, opts.timeout)
  response.body, response.body_bytes = table.concat(pieces), n
  if not ok then
    response.broken = why
  end
  return response
end

-- The bytes of a request's head. headers: a list of {name, value}; Host is added when missing.
function _M.head(opts)
  local out = { (opts.method or "GET") .. " " .. (opts.path or "/") .. " HTTP/1.1\r\n" }
  local host
  for _, header in ipairs(opts.headers or {}) do
    host = host or header[1]:lower() == "host"
    out[#out + 1] = header[1] .. ": " .. header[2] .. "\r\n"
  end
  if not host then
    out[#out + 1] = "Host: localhost\r\n"
  end
  if opts.body then
    out[#out + 1] = "Content-Length: " .. #opts.body .. "\r\n"
  end
  if not opts.keep then
    out[#out + 1] = "Connection: close\r\n"
  end
  out[#out + 1] = "\r\n"
  return table.concat(out)
end

function client:request(opts)
  local ok, err = self.conn:send(_M.head(opts) .. (opts.body or ""))
  if not ok then
    return nil, err
  end
  return self:response(opts)
end

-- One request on a connection of its own. opts also has source: the client's own address.
function _M.request(address, opts)
  opts = opts or {}
  local c, err = _M.connect(address, opts)
  if not c then
    return nil, err
  end
  local response
  response, err = c:request(opts)
  c:close()
  return response, err
end

return _M
