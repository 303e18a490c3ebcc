-- The loader of vaults: where they are found, and how their mistakes are named.

require("native")
package.path = package.path .. ";lua/compat/?.lua"

local folder = require("folder")
local loader = require("weir.vault.loader")

describe("vault.loader", function()
  local place, top

  local function write(name, text)
    place:write(name, text)
  end

  local function good_schema(name, fields)
    return ('return { name = "%s", fields = require("weir.schema.vault").fields({ %s }) }')
      :format(name, fields or "")
  end

  local function good_init(rest)
    return 'local v = { VERSION = "1.2.3", get = function() return "x" end }\n' .. (rest or "")
      .. "\nreturn v"
  end

  local function vault(name, init, schema)
    write("p/vaults/" .. name .. "/init.lua", init or good_init())
    write("p/vaults/" .. name .. "/schema.lua", schema or good_schema(name))
  end

  local function names(types)
    local out = {}
    for name in pairs(types) do
      out[#out + 1] = name
    end
    table.sort(out)
    return out
  end

  -- what is wrong with the one vault "x", without the directory
  local function error_of(init, schema)
    vault("x", init, schema)
    local types, errors = loader.load({ top .. "/p" }, { "all" })
    assert.same({}, names(types))
    for i, err in ipairs(errors) do
      errors[i] = place:without("p/vaults", err)
    end
    return errors
  end

  before_each(function()
    place = folder.new()
    top = place.path
    place:run("mkdir p")
  end)

  after_each(function()
    place:remove()
    for module in pairs(package.loaded) do
      if module:find("^kong%.vaults%.") then
        package.loaded[module] = nil
      end
    end
  end)

  it("loads what is there, and no plugins", function()
    vault("a", good_init("function v.init() end\nfunction v.watch() end"))
    vault("b")
    write("p/vaults/README", "no vault")
    write("p/vaults/nothing/x.lua", "no vault")
    write("p/plugin/handler.lua", "no vault")
    local types, errors = loader.load({ top .. "/p", top .. "/missing" }, { "all" })
    assert.same({}, errors)
    assert.same({ "a", "b" }, names(types))
    assert.same({ "a", "1.2.3", top .. "/p/vaults/a" },
      { types.a.name, types.a.version, types.a.dir })
    assert.equal("x", types.a.strategy.get())
    assert.is_table(types.a.schema)
    local plugins = require("weir.loader").load({ top .. "/p" }, { "all" })
    assert.is_nil(plugins.vaults)
    assert.is_nil(plugins.a)
  end)

  it("obeys the vaults key", function()
    vault("a")
    write("q/vaults/b/init.lua", good_init())
    write("q/vaults/b/schema.lua", good_schema("b"))
    local function load(...)
      local types, errors = loader.load({ top .. "/p", top .. "/q" }, { ... })
      return names(types), errors
    end
    assert.same({ "a", "b" }, (load("all")))
    assert.same({ "a" }, (load("bundled")))
    assert.same({ "a", "b" }, (load("bundled", "b")))
    assert.same({}, (load("off")))
    local loaded, errors = load("bundled", "zork")
    assert.same({ "a" }, loaded)
    assert.same({ "zork vault is enabled but not installed in " .. top .. "/p, " .. top .. "/q" },
      errors)
  end)

  it("refuses the same name twice", function()
    vault("a")
    write("q/vaults/a/init.lua", good_init())
    local _, errors = loader.load({ top .. "/p", top .. "/q" }, { "all" })
    assert.same({ top .. "/q/vaults/a: vault 'a' exists in " .. top .. "/p/vaults/a too" }, errors)
  end)

  it("gives vaults their own modules, by Kong's names", function()
    vault("a-b", good_init("v.x = require('kong.vaults.a-b.lib.x')"))
    write("p/vaults/a-b/lib/x.lua", "return 7")
    local types, errors = loader.load({ top .. "/p" }, { "all" })
    assert.same({}, errors)
    assert.equal(7, types["a-b"].strategy.x)
    assert.equal(types["a-b"].strategy, require("kong.vaults.a-b"))
    assert.equal("a-b", require("kong.vaults.a-b.schema").name)
  end)

  it("finds vaults that are installed as modules", function()
    write("rocks/kong/vaults/inst/init.lua", good_init("v.z = require('kong.vaults.inst.z')"))
    write("rocks/kong/vaults/inst/schema.lua", good_schema("inst"))
    write("rocks/kong/vaults/inst/z.lua", "return 9")
    local before = package.path
    package.path = top .. "/rocks/?.lua;" .. before
    local types, errors = loader.load({ top .. "/p" }, { "inst" })
    package.path = before
    assert.same({}, errors)
    assert.equal(9, types.inst.strategy.z)
  end)

  it("names file and line of broken Lua", function()
    assert.same({ "x/init.lua:2: '<eof>' expected near 'h'" },
      error_of("local h = {}\nreturn h h"))
    assert.same({ "x/init.lua:2: module 'kong.vaults.x.no' not found" },
      error_of("\nlocal x = require('kong.vaults.x.no')\nreturn x"))
    assert.same({ "x/schema.lua:2: no" }, error_of(nil, "\nerror('no')"))
  end)

  it("checks the vault", function()
    assert.same({ "x/init.lua:1: VERSION must be of the form \"x.y.z\"",
      "x/init.lua:2: a vault needs a function get" },
      error_of("local v = { VERSION = 1 }\nreturn v"))
    assert.same({ "x/init.lua:1: get must be a function" }, error_of(good_init("v.get = 5")))
    assert.same({ "x/init.lua:2: init must be a function" }, error_of(good_init("v.init = {}")))
    assert.same({ "x/init.lua:2: watch must be a function" }, error_of(good_init("v.watch = 'x'")))
    assert.same({ "x/init.lua: must return a table, the vault" }, error_of("return 5"))
    assert.same({ "x/init.lua: must return a table, the vault" }, error_of("local a = 1"))
  end)

  it("checks the schema", function()
    assert.same({ "x/schema.lua:1: name must be 'x', as the directory is called" },
      error_of(nil, good_schema("y")))
    assert.same({ "x/schema.lua:2: config.second: unknown attribute 'defualt'" }, error_of(nil,
      good_schema("x", "\n{ second = { type = 'number', defualt = 1 } }")))
    place:run("rm p/vaults/x/schema.lua")
    local _, errors = loader.load({ top .. "/p" }, { "all" })
    assert.same({ top .. "/p/vaults/x/schema.lua: this file is missing" }, errors)
  end)

  it("loads what weir ships", function()
    local types, errors = loader.load({ "plugins" }, { "all" })
    assert.same({}, errors)
    assert.is_table(types.env)
  end)
end)
