-- kong.configuration: a read-only view of weir.conf. Switches are booleans,
-- numbers are numbers, lists are arrays, everything else is text as it was
-- written (sizes and times keep their suffix); a key that is not set is nil.

local weir = require "weir.ffi"

local C = weir.C
local sv = weir.sv
local ffi_string = weir.ffi.string

local error = error
local find = string.find
local setmetatable = setmetatable
local tonumber = tonumber
local type = type

local WORDS = { on = true, off = false }

-- Keys that are no switches, though they can be off: plugins ask for database == "off".
local TEXTS = { database = true, access_log = true }


local function read_list(key)
  local list = {}
  while C.weir_conf_list(key, #key, #list, sv) == 0 do
    list[#list + 1] = ffi_string(sv[0].p, sv[0].n)
  end
  return #list > 0 and list or nil
end


local function read(key)
  if C.weir_conf_get(key, #key, sv) ~= 0 then
    return nil
  end
  local text = ffi_string(sv[0].p, sv[0].n)
  local list = read_list(key)
  if list then
    return list
  elseif text == "" then
    return nil
  elseif WORDS[text] ~= nil and not TEXTS[key] then
    return WORDS[text]
  elseif find(text, "^%d+$") then
    return tonumber(text)
  end
  return text
end


local known = {}


return setmetatable({}, {
  __index = function(_, key)
    if type(key) ~= "string" then
      return nil
    end
    local value = known[key]
    if value == nil then
      value = read(key)
      known[key] = value
    end
    return value
  end,
  __newindex = function()
    error("cannot write to configuration", 2)
  end,
})
