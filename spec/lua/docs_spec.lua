-- What the documents say of weir.yml is so: their examples are accepted as they
-- stand, and doc/declarative.md knows each field of services and routes with its default.

require("native")

local declarative = require("weir.store.declarative")
local loader = require("weir.loader")
local reference = require("weir.vault.reference")
local vault_loader = require("weir.vault.loader")

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

describe("the documents", function()
  local subschemas = loader.subschemas((loader.load({ "plugins" }, { "all" })))
  local options = {
    vaults = loader.subschemas((vault_loader.load({ "plugins" }, { "all" }))),
    check_reference = function(text, prefixes)
      local ref = assert(reference.parse(text))
      return prefixes[ref.name] ~= nil, text
    end,
  }

  it("give examples of weir.yml that are good", function()
    local seen = 0
    for _, path in ipairs({ "doc/declarative.md", "doc/vaults.md",
                            "plugins/rate-limiting/README.md",
                            "plugins/rate-limiting-advanced/README.md" }) do
      for text in read(path):gmatch("\n```yaml\n(.-)\n```\n") do
        local config, errors = declarative.parse(text, subschemas, path, options)
        assert(config, errors and declarative.errors_to_string(errors, path))
        seen = seen + 1
      end
    end
    assert(declarative.parse(read("etc/weir.yml"), subschemas))
    assert.equal(6, seen)
  end)

  it("know the fields of services and routes", function()
    local text = read("doc/declarative.md")
    local everywhere = { id = true, tags = true, created_at = true, updated_at = true,
      response_buffering = true }
    for title, kind in pairs({ Services = "services", Routes = "routes" }) do
      local part = text:match("\n## " .. title .. "\n(.-)\n## ")
      for _, item in ipairs(require("weir.entities." .. kind).fields) do
        local name, attrs = next(item)
        local row = ("\n" .. part):match("\n(| [^|]*`" .. name .. "`[^\n]*)")
        assert(row or everywhere[name], kind .. "." .. name)
        if row and attrs.default ~= nil and type(attrs.default) ~= "table" then
          local default = "`" .. tostring(attrs.default) .. "`"
          assert.is_truthy(row:match("^|[^|]*|([^|]*)|"):find(default, 1, true), name)
        end
      end
    end
  end)
end)
