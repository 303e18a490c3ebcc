-- What the configs of all vaults have in common: for how long a value is good.
-- A vault's schema.lua names its own fields and gets the rest from here:
--   { name = "env", fields = require("weir.schema.vault").fields({ ...own fields... }) }

local function seconds(description)
  return { type = "number", between = { 0, 100000000 }, description = description }
end

local common = {
  { ttl = seconds("Seconds until a value is looked up again; without it, when the vault says.") },
  { neg_ttl = seconds("Seconds until a look-up that failed is tried again.") },
  { resurrect_ttl = seconds("Seconds that a value is kept beyond its ttl while the vault fails; "
    .. "without it, for as long as it does.") },
  { min_ttl = seconds("A value is good for at least this long, whatever the vault says.") },
  { max_ttl = seconds("A value is good for at most this long, whatever the vault says.") },
}

local _M = {}

-- The `fields` of a vault's schema: config with the vault's own fields (of the form of any
-- schema), and those of all vaults that it does not name itself.
function _M.fields(own)
  if type(own) ~= "table" then
    error("fields expects a list of fields", 2)
  end
  local list, named = {}, {}
  for i, field in ipairs(own) do
    list[i] = field
    named[next(field)] = true
  end
  for _, field in ipairs(common) do
    if not named[next(field)] then
      list[#list + 1] = field
    end
  end
  return { { config = { type = "record", required = true, fields = list } } }
end

return _M
