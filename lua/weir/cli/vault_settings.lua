-- Which of weir.conf's keys vault_<type>_<field> hold secrets: those whose field
-- the type's schema calls encrypted, and all that no vault knows.

local vault_loader = require("weir.vault.loader")

local _M = {}

local function field_of(vaults, setting)
  local found, length
  for name, vault in pairs(vaults) do
    local prefix = name .. "_"
    if setting:sub(1, #prefix) == prefix and (not found or #prefix > length) then
      local node = vault.schema.root.by_name.config
      found, length = node.by_name[setting:sub(#prefix + 1)], #prefix
    end
  end
  return found
end

local loaded

-- setting: "<type>_<field>".
function _M.is_secret(setting)
  loaded = loaded or vault_loader.load_configured()
  local field = field_of(loaded, setting)
  return not field or field.encrypted == true
end

return _M
