-- The costs that a service names in a response header: "Limit=Value [, Limit=Value]".
-- Several of one limit add up. The text is a stranger's: what is no cost is left out and
-- told of, in a form that a log can bear, and the others count. Each step is linear.

local find = string.find
local format = string.format
local gsub = string.gsub
local match = string.match
local sub = string.sub
local tonumber = tonumber


local _M = {}


-- What one response may cost of one limit, up or down.
local MAX = 1000000000000

-- How much of a bad cost is shown.
local SHOWN_BYTES = 60

local NOT_WHOLE = "it is not a whole number"


local function escape_byte(c)
  return format("\\x%02x", c:byte())
end


-- A stranger's text for a line of the log.
local function show(text)
  local short = sub(text, 1, SHOWN_BYTES)
  return '"' .. gsub(short, '[%c"\\\127-\255]', escape_byte) .. '"' ..
         (#text > SHOWN_BYTES and "..." or "")
end


-- Without the blanks around it. (A single pattern for both ends would take time that grows with
-- the square of the blanks.)
local function trim(text)
  local first = find(text, "[^ \t]")
  return first and match(text, ".*[^ \t]", first) or ""
end


-- The number that a value stands for, or nil and why it stands for none.
local function number_of(value)
  local digits = match(value, "^%-?(%d+)$")
  if not digits then
    return nil, NOT_WHOLE
  end
  digits = match(digits, "^0*(.*)$")
  local n = #digits <= 16 and (tonumber(digits) or 0)
  if not n or n > MAX then
    return nil, "it is too large"
  end
  return sub(value, 1, 1) == "-" and -n or n
end


local function limit_to(max, n)
  return n > max and max or n < -max and -max or n
end


-- Adds what one entry costs to costs; nil and why if it says no cost.
local function add(entry, known, costs)
  local at = find(entry, "=", 1, true)
  if not at then
    return nil, "it has no value"
  end
  local name = trim(sub(entry, 1, at - 1))
  if not known[name] then
    return nil, "there is no such limit"
  end
  local n, why = number_of(trim(sub(entry, at + 1)))
  if not n then
    return nil, why
  end
  costs[name] = limit_to(MAX, (costs[name] or 0) + n)
  return true
end


-- Adds the costs of one value of the header to costs, a table of numbers by name. known has the
-- names that exist as keys. How many entries were left out, and what to say of the first.
function _M.read(text, known, costs)
  local bad, said = 0, nil
  for entry in text:gmatch("[^,]+") do
    entry = trim(entry)
    if entry ~= "" then
      local ok, why = add(entry, known, costs)
      if not ok then
        bad = bad + 1
        said = said or show(entry) .. " (" .. why .. ")"
      end
    end
  end
  return bad, said
end


return _M
