-- Files with Lua in them, as they were when this generation was checked; the
-- files themselves for a command. For the load: nothing here is meant for
-- requests.

local weir = require("weir.ffi")

local C, str = weir.C, weir.str

local _M = {}

local out = weir.ffi.new("weir_str[1]")


-- The text of a file | nil, and why it cannot be read if it is there.
function _M.read(file)
  local rc = C.weir_source(file, #file, out)

  if rc == 0 then
    return str(out[0])
  end
  return nil, rc ~= weir.NONE and str(out[0]) or nil
end


function _M.exists(file)
  return C.weir_source(file, #file, out) == 0
end


-- What loadfile gives: the chunk | nil, error.
function _M.load(file)
  local text, err = _M.read(file)

  if not text then
    return nil, file .. ":1: " .. (err or "this file is missing")
  end
  return loadstring(text, "@" .. file)
end


-- The line on which the pattern stands first; nil if it does not.
function _M.line_of(file, pattern)
  local n = 0

  for line in (_M.read(file) or ""):gmatch("([^\n]*)\n?") do
    n = n + 1
    if line:find(pattern) then
      return n
    end
  end
end


-- Where require would find a module; nil if nowhere.
function _M.search(module)
  local name = module:gsub("%.", "/")

  for template in package.path:gmatch("[^;]+") do
    local file = template:gsub("%?", (name:gsub("%%", "%%%%")))

    if _M.exists(file) then
      return file
    end
  end
end


return _M
