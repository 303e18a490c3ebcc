-- For specs of what asks servers over HTTP and runs outside of the weir program:
-- stands in for weir.http and for the clock and the timers of the host. `reply`
-- queues answers, `asked` keeps what was asked, `advance` lets time go by, `step`
-- sets the clock.

local native = require("native")
local json = require("weir.json")

local _M = { asked = {} }

local queue = {}
local now_s, steady_s = 1700000000, 1000

local host = {
  weir_now = function() return now_s end,
  weir_mono_us = function() return steady_s * 1e6 end,
}
native.C = setmetatable(host, { __index = native.C })

package.loaded["weir.timer"] = {
  sleep = function()
    coroutine.yield()
  end,
}

package.loaded["weir.http"] = {
  request = function(options)
    -- a copy: whoever asks may use its table again
    local asked = { headers = {} }
    for name, value in pairs(options) do
      asked[name] = value
    end
    _M.asked[#_M.asked + 1] = asked
    if _M.waits then
      coroutine.yield()
    end
    local answer = table.remove(queue, 1)
    if not answer then
      return nil, "cannot connect to nobody: Connection refused"
    end
    return answer
  end,
}

-- The next answer: a status, and a body, which is a text or a table for JSON.
function _M.reply(status, body)
  queue[#queue + 1] = {
    status = status, headers = {}, body = type(body) == "table" and json.encode(body) or body or "",
  }
end

function _M.now()
  return now_s
end

function _M.advance(seconds)
  now_s, steady_s = now_s + seconds, steady_s + seconds
end

function _M.step(seconds)
  now_s = now_s + seconds
end

-- What the clock that never steps says.
function _M.steady()
  return steady_s
end

-- Forgets all, so that each example stands alone.
function _M.reset()
  queue, _M.waits = {}, nil
  for i = #_M.asked, 1, -1 do
    _M.asked[i] = nil
  end
end

-- The fields of a form: name -> value.
function _M.fields_of(form)
  local fields = {}
  for name, value in form:gmatch("([^&=]+)=([^&]*)") do
    fields[name] = value:gsub("%%(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
    end)
  end
  return fields
end

native.ffi.cdef("int setenv(const char *name, const char *value, int overwrite);"
  .. "int unsetenv(const char *name);")

-- Sets a variable of the environment; nil takes it away.
function _M.setenv(name, value)
  if value then
    native.ffi.C.setenv(name, value, 1)
  else
    native.ffi.C.unsetenv(name)
  end
end

-- A private RSA key in PEM, and its public half.
function _M.new_key()
  local path = os.tmpname()
  os.execute("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out " .. path
    .. " 2>/dev/null && openssl pkey -in " .. path .. " -pubout -out " .. path .. ".pub")
  local function take(name)
    local file = assert(io.open(name))
    local text = file:read("*a")
    file:close()
    os.remove(name)
    return text
  end
  return take(path), take(path .. ".pub")
end

-- Whether a token's signature is that of the key: the openssl program says so.
function _M.is_signed_by(token, public)
  local crypto = require("weir.crypto")
  local input, signature = token:match("^(.*)%.([^.]*)$")
  local path = os.tmpname()
  local parts = { [".in"] = input, [".pub"] = public,
    [".sig"] = crypto.unbase64((signature:gsub("-", "+"):gsub("_", "/"))) }
  for suffix, bytes in pairs(parts) do
    local file = assert(io.open(path .. suffix, "w"))
    file:write(bytes)
    file:close()
  end
  local status = os.execute(("openssl dgst -sha256 -verify %s.pub -signature %s.sig %s.in"
    .. " >/dev/null 2>&1"):format(path, path, path))
  os.execute(("rm -f %s %s.in %s.pub %s.sig"):format(path, path, path, path))
  return status == 0
end

return _M
