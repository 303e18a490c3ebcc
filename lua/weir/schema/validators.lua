-- The validators that a field may name as attributes. They run in the order
-- of `order`; the first that fails decides the message, and a field's own
-- `err` replaces it. Each is function(value, argument, field) -> true | nil, message.

local messages = require("weir.schema.messages")
local types = require("weir.schema.types")

local find, format = string.find, string.format
local show, is_null = messages.show, types.is_null

local _M = {}

_M.order = {
  "eq", "ne", "not_one_of", "one_of", "gt", "timestamp", "uuid", "is_regex", "between", "len_eq",
  "len_min", "len_max", "starts_with", "not_match", "match_none", "match", "match_all", "match_any",
  "contains", "custom_validator", "mutually_exclusive_subsets",
}

local function includes(list, value)
  for i = 1, #list do
    if list[i] == value then
      return true
    end
  end
  return false
end

local function length(value)
  if type(value) ~= "table" or #value > 0 then
    return #value
  end
  local n = 0
  for _ in pairs(value) do
    n = n + 1
  end
  return n
end

local function check(ok, message, ...)
  if ok then
    return true
  end
  return nil, format(message, ...)
end

function _M.eq(value, wanted)
  return check(value == wanted, messages.eq, show(wanted))
end

function _M.ne(value, unwanted)
  return check(value ~= unwanted, messages.ne, show(unwanted))
end

function _M.one_of(value, list)
  return check(includes(list, value), messages.one_of, messages.list(list))
end

function _M.not_one_of(value, list)
  return check(not includes(list, value), messages.not_one_of, messages.list(list))
end

function _M.gt(value, bound)
  return check(value > bound, messages.gt, show(bound))
end

function _M.between(value, range)
  local low, high = range[1], range[2]
  return check(value >= low and value <= high, messages.between, show(low), show(high))
end

function _M.timestamp(value)
  return check(value > 0, messages.timestamp)
end

local uuid_pattern = "^" .. ("%x"):rep(8) .. "%-" .. ("%x"):rep(4) .. "%-" .. ("%x"):rep(4)
  .. "%-" .. ("%x"):rep(4) .. "%-" .. ("%x"):rep(12) .. "$"

function _M.uuid(value)
  return check(find(value, uuid_pattern), messages.uuid)
end

function _M.is_regex(value)
  local re, err = require("weir.re").compile(value)
  return check(re ~= nil, messages.is_regex, value .. (err and " (" .. err .. ")" or ""))
end

function _M.len_eq(value, n)
  return check(length(value) == n, messages.len_eq, show(n))
end

function _M.len_min(value, n)
  return check(length(value) >= n, messages.len_min, show(n))
end

function _M.len_max(value, n)
  return check(length(value) <= n, messages.len_max, show(n))
end

function _M.starts_with(value, prefix)
  return check(value:sub(1, #prefix) == prefix, messages.starts_with, prefix)
end

function _M.match(value, pattern)
  return check(find(value, pattern) ~= nil, messages.pattern, value)
end

function _M.not_match(value, pattern)
  return check(not find(value, pattern), messages.pattern, value)
end

function _M.match_all(value, list)
  for _, item in ipairs(list) do
    if not find(value, item.pattern) then
      return nil, item.err or format(messages.pattern, value)
    end
  end
  return true
end

function _M.match_none(value, list)
  for _, item in ipairs(list) do
    if find(value, item.pattern) then
      return nil, item.err or format(messages.pattern, value)
    end
  end
  return true
end

function _M.match_any(value, choice)
  for _, pattern in ipairs(choice.patterns) do
    if find(value, pattern) then
      return true
    end
  end
  return nil, choice.err or format(messages.pattern, value)
end

function _M.contains(value, wanted)
  return check(includes(value, wanted), messages.contains, show(wanted))
end

function _M.custom_validator(value, fn)
  local ok, err = fn(value)
  if ok then
    return true
  end
  return nil, err or format(messages.custom, show(value))
end

function _M.mutually_exclusive_subsets(value, subsets)
  local touched = {}
  for _, subset in ipairs(subsets) do
    for _, member in ipairs(subset) do
      if includes(value, member) then
        touched[#touched + 1] = "('" .. table.concat(subset, "', '") .. "')"
        break
      end
    end
  end
  return check(#touched <= 1, messages.exclusive_subsets, table.concat(touched, ", "))
end

-- Runs the field's validators over a value that is there and of the right type.
function _M.run(field, value)
  for i = 1, #_M.order do
    local name = _M.order[i]
    local argument = field[name]
    if argument ~= nil and argument ~= false and not (name == "ne" and is_null(argument)) then
      local ok, err = _M[name](value, argument, field)
      if not ok then
        return nil, field.err or err
      end
    end
  end
  return true
end

return _M
