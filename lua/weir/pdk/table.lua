-- kong.table: a few helpers for tables that LuaJIT has under other names.

local table_clear = require "table.clear"
local table_new = require "table.new"

local error = error
local pairs = pairs
local type = type


local _M = {}


--- A new table with room for so many array items and fields, so that it need not grow.
-- @function kong.table.new
-- @phases all
-- @param narr number|nil array items, by default 0
-- @param nrec number|nil fields, by default 0
-- @treturn table the table
-- @usage
-- local headers = kong.table.new(0, 5)
function _M.new(narr, nrec)
  return table_new(narr or 0, nrec or 0)
end


--- Empties a table and keeps its memory.
-- @function kong.table.clear
-- @phases all
-- @param tab table the table
-- @treturn nil
-- @usage
-- kong.table.clear(scratch)
function _M.clear(tab)
  table_clear(tab)
end


--- A new table with the fields of both; those of the second win. Inner tables are shared.
-- @function kong.table.merge
-- @phases all
-- @param t1 table|nil the first
-- @param t2 table|nil the second
-- @treturn table the new table
-- @usage
-- local options = kong.table.merge(defaults, conf.options)
function _M.merge(t1, t2)
  if t1 ~= nil and type(t1) ~= "table" then
    error("t1 must be a table or nil", 2)
  end
  if t2 ~= nil and type(t2) ~= "table" then
    error("t2 must be a table or nil", 2)
  end
  local out = {}
  for key, value in pairs(t1 or out) do
    out[key] = value
  end
  for key, value in pairs(t2 or {}) do
    out[key] = value
  end
  return out
end


return _M
