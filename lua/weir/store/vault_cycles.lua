-- Vaults whose configs refer to secrets of other vaults: none of them may need
-- itself, or no secret of theirs could ever be looked up.

local cycles = {}
cycles.__index = cycles

local _M = {}

function _M.new()
  return setmetatable({ needs = {} }, cycles)
end

-- The way from one vault to another, as an array of prefixes; nil when there is none.
local function way(needs, from, to, seen)
  if from == to then
    return { to }
  end
  seen[from] = true -- many ways may lead to one vault
  for _, next_one in ipairs(needs[from] or {}) do
    local rest = not seen[next_one] and way(needs, next_one, to, seen)
    if rest then
      table.insert(rest, 1, from)
      return rest
    end
  end
end

-- Notes that a vault's config holds a reference: true, or nil and why it must not.
function cycles:add(prefix, reference)
  local needed = reference:match("^{vault://([^/?#}]+)")
  local back = needed and way(self.needs, needed, prefix, {})
  if back then
    return nil, ("the vault %s needs itself: %s -> %s [%s]"):format(prefix, prefix,
      table.concat(back, " -> "), reference)
  end
  self.needs[prefix] = self.needs[prefix] or {}
  table.insert(self.needs[prefix], needed)
  return true
end

return _M
