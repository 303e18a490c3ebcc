-- What the references in weir.conf stand for: run in a process of its own, which
-- ends when it has answered. Only types of vaults are asked, configured by
-- vault_<type>_<field>: the entities of weir.yml are not known yet.

local conf = require "weir.conf"
local loader = require "weir.vault.loader"
local secret = require "weir.secret"
local vault = require "weir.vault"

local _M = {}


-- A vault that is named but was not loaded: why it was not helps more than that it is not there.
-- C names the reference itself.
local function explain(err, errors)
  err = err:gsub(" %[{vault://.*}%]$", "")
  return errors[1] and err .. " (" .. table.concat(errors, "; ") .. ")" or err
end


-- One answer: what it is, the length, the bytes.
local function frame(kind, text)
  return kind .. #text .. ":" .. text
end


local function answer(cell)
  local value, why = secret.value(cell)

  if value then
    return frame("v", value)
  end
  return frame("e", cell.looking and "its vault has not answered in time" or why)
end


-- texts: the references. The exit status, and a frame for each.
function _M.run(texts)
  local types, errors = loader.load_configured()
  local wrong = vault.use(types, nil, conf.vault_settings())
  local cells, out = {}, {}

  if wrong[1] then
    return 0, frame("x", explain(table.concat(wrong, "\n"), errors))
  end
  for i, text in ipairs(texts) do
    local cell, err = vault.cell(text)

    cells[i] = cell
    out[i] = not cell and frame("e", explain(err, errors))
  end
  secret.prepare() -- all at once, for a bounded time
  for i, cell in pairs(cells) do
    out[i] = answer(cell)
  end
  return 0, table.concat(out)
end


return _M
