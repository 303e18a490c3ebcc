-- The words of every schema error. Clients of Kong's Admin API and its
-- declarative files compare them byte for byte, so they stand in one place.

local json = require("weir.json")

local _M = {
  required = "required field missing",
  unknown = "unknown field",
  eq = "value must be %s",
  ne = "value must not be %s",
  gt = "value must be greater than %s",
  between = "value should be between %s and %s",
  len_eq = "length must be %s",
  len_min = "length must be at least %s",
  len_max = "length must be at most %s",
  pattern = "invalid value: %s",
  starts_with = "should start with: %s",
  contains = "expected to contain: %s",
  one_of = "expected one of: %s",
  not_one_of = "must not be one of: %s",
  is_regex = "not a valid regex: %s",
  timestamp = "expected a valid timestamp",
  uuid = "expected a valid UUID",
  custom = "failed validating: %s",
  exclusive_subsets = "these sets are mutually exclusive: %s",
  conditional = "failed conditional validation given value of field '%s'",
  at_least_one_of = "at least one of these fields must be non-empty: %s",
  only_one_of = "exactly one of these fields must be non-empty: %s",
  distinct = "values of these fields must be distinct: %s",
  mutually_required = "all or none of these fields must be set: %s",
  mutually_exclusive = "only one or none of these fields must be set: %s",
  shorthand_mismatch = "both deprecated and new field are used but their values mismatch: "
    .. "%s = %s vs %s = %s",
  types = {
    string = "expected a string",
    number = "expected a number",
    integer = "expected an integer",
    boolean = "expected a boolean",
    array = "expected an array",
    set = "expected a set",
    map = "expected a map",
    record = "expected a record",
    foreign = "expected a record",
    ["function"] = "expected a function",
  },
}

-- A value as it appears inside a message.
function _M.show(value)
  if value == json.null then
    return "null"
  end
  if type(value) == "number" then
    return json.number(value) or tostring(value)
  end
  return tostring(value)
end

-- What a message says instead of a secret.
_M.hidden = "***"

-- A message about a secret, without the secret.
function _M.without(message, secret)
  if type(secret) ~= "string" or secret == "" or type(message) ~= "string" then
    return message
  end
  local text = message:gsub(secret:gsub("%p", "%%%0"), _M.hidden)
  return text
end

-- A list of values as it appears inside a message: a, b.
function _M.list(values)
  local out = {}
  for i, value in ipairs(values) do
    out[i] = _M.show(value)
  end
  return table.concat(out, ", ")
end

-- A list of field names as it appears inside a message: 'a', 'b'.
function _M.names(values)
  return "'" .. table.concat(values, "', '") .. "'"
end

return _M
