-- The vault env: secrets in the environment that weir was started with. The
-- environment of a process does not change, so a value is good until a restart.

local gsub, upper = string.gsub, string.upper
local getenv = os.getenv

local _M = { VERSION = "1.0.0" }

local SUFFIXES = { "", "_PREVIOUS" } -- of a version: 1 is the one that counts

-- The name of the variable: {vault://env/redis-password} is REDIS_PASSWORD.
local function variable_of(conf, resource, version)
  local suffix = SUFFIXES[version or 1]
  if not suffix then
    return nil, "the environment has no version " .. version .. " of anything, only 1 and 2"
  end
  local name = upper((gsub((conf.prefix or "") .. resource, "-", "_")))
  if name:find("[%z=]") then -- no name of a variable
    return nil, "the environment can have no variable of that name"
  end
  return name .. suffix
end

-- COMPAT(kong): an empty value is a value; version 2 is the variable <NAME>_PREVIOUS.
function _M.get(conf, resource, version)
  local name, err = variable_of(conf, resource, version)
  if not name then
    return nil, err
  end
  local value = getenv(name)
  if not value then
    return nil, "the environment has no " .. name
  end
  if conf.base64_decode then
    value = require("weir.crypto").unbase64(value)
    if not value then
      return nil, name .. " in the environment is not base64"
    end
  end
  return value
end

return _M
