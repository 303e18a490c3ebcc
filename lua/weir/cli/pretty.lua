-- JSON for people: indented, keys in order. Owns nothing but the layout.

local json = require("weir.json")
local sorted_keys = require("weir.sorted_keys")

local rep = string.rep

local _M = {}

local write

local function is_list(value)
  return getmetatable(value) == json.array_mt or value[1] ~= nil
end

local function write_members(out, value, indent)
  local list = is_list(value)
  local keys = not list and sorted_keys(value)
  local inner = rep("  ", indent + 1)
  for i = 1, list and #value or #keys do
    out[#out + 1] = (i > 1 and ",\n" or "\n") .. inner
    if not list then
      out[#out + 1] = json.encode(tostring(keys[i])) .. ": "
    end
    write(out, value[list and i or keys[i]], indent + 1)
  end
  out[#out + 1] = "\n" .. rep("  ", indent)
end

function write(out, value, indent)
  if type(value) ~= "table" or next(value) == nil then
    out[#out + 1] = json.encode(value)
    return
  end
  local list = is_list(value)
  out[#out + 1] = list and "[" or "{"
  write_members(out, value, indent)
  out[#out + 1] = list and "]" or "}"
end

-- The text of a value, without a newline at its end.
function _M.encode(value)
  local out = {}
  write(out, value, 0)
  return table.concat(out)
end

return _M
