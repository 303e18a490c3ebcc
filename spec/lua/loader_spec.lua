-- The loader: where plugins are found, and how their mistakes are named.

require("native")
package.path = package.path .. ";lua/compat/?.lua"

local folder = require("folder")
local loader = require("weir.loader")

describe("loader", function()
  local place, top

  local function write(name, text)
    place:write(name, text)
  end

  local function good_schema(name)
    return ('return { name = "%s", fields = { { config = { type = "record", fields = {} } } } }')
      :format(name)
  end

  local function good_handler(rest)
    return 'local h = { PRIORITY = 5, VERSION = "1.2.3" }\n' .. (rest or "") .. "\nreturn h"
  end

  local function plugin(name, handler, schema)
    write("p/" .. name .. "/handler.lua", handler or good_handler())
    write("p/" .. name .. "/schema.lua", schema or good_schema(name))
  end

  local function names(plugins)
    local out = {}
    for name in pairs(plugins) do
      out[#out + 1] = name
    end
    table.sort(out)
    return out
  end

  -- what is wrong with the one plugin "x", without the directory
  local function error_of(handler, schema)
    plugin("x", handler, schema)
    local plugins, errors = loader.load({ top .. "/p" }, { "all" })
    assert.same({}, names(plugins))
    for i, err in ipairs(errors) do
      errors[i] = place:without("p", err)
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
      if module:find("^kong%.plugins%.") then
        package.loaded[module] = nil
      end
    end
  end)

  it("loads what is there", function()
    plugin("a", good_handler("function h:access() end"))
    plugin("b")
    write("p/README", "no plugin")
    write("p/nothing/x.lua", "no plugin")
    local plugins, errors = loader.load({ top .. "/p", top .. "/missing" }, { "all" })
    assert.same({}, errors)
    assert.same({ "a", "b" }, names(plugins))
    assert.same({ "a", 5, "1.2.3", top .. "/p/a" },
      { plugins.a.name, plugins.a.priority, plugins.a.version, plugins.a.dir })
    assert.is_function(plugins.a.handler.access)
    assert.is_table(plugins.a.schema:accept({ name = "a" }))
  end)

  it("obeys the plugins key", function()
    plugin("a")
    write("q/b/handler.lua", good_handler())
    write("q/b/schema.lua", good_schema("b"))
    local function load(...)
      local plugins, errors = loader.load({ top .. "/p", top .. "/q" }, { ... })
      return names(plugins), errors
    end
    assert.same({ "a", "b" }, (load("all")))
    assert.same({ "a" }, (load("bundled")))
    assert.same({ "a", "b" }, (load("bundled", "b")))
    assert.same({ "b" }, (load("b", "b")))
    assert.same({}, (load("off")))
    assert.same({}, (load()))
    local loaded, errors = load("bundled", "zork")
    assert.same({ "a" }, loaded)
    assert.same({ "zork plugin is enabled but not installed in " .. top .. "/p, " .. top .. "/q" },
      errors)
  end)

  it("says what may not be read", function()
    plugin("a")
    os.execute("chmod 0 " .. top .. "/p/a/handler.lua")
    local handle = io.open(top .. "/p/a/handler.lua")
    local _, errors = loader.load({ top .. "/p" }, { "all" })
    os.execute("chmod 644 " .. top .. "/p/a/handler.lua")
    if handle then -- root may read everything
      handle:close()
      return
    end
    assert.same({ top .. "/p/a/handler.lua: cannot read this file: Permission denied" }, errors)
  end)

  it("refuses the same name twice", function()
    plugin("a")
    write("q/a/handler.lua", good_handler())
    local _, errors = loader.load({ top .. "/p", top .. "/q" }, { "all" })
    assert.same({ top .. "/q/a: plugin 'a' exists in " .. top .. "/p/a too" }, errors)
  end)

  it("gives plugins their own modules, by Kong's names", function()
    plugin("a-b", good_handler("h.x = require('kong.plugins.a-b.lib.x')\n"
      .. "h.y = require('kong.plugins.a-b.y')"))
    write("p/a-b/lib/x.lua", "return 7")
    write("p/a-b/y/init.lua", "return 8")
    local plugins, errors = loader.load({ top .. "/p" }, { "all" })
    assert.same({}, errors)
    assert.same({ 7, 8 }, { plugins["a-b"].handler.x, plugins["a-b"].handler.y })
    assert.equal(plugins["a-b"].handler, require("kong.plugins.a-b.handler"))
    assert.equal("a-b", require("kong.plugins.a-b.schema").name)
  end)

  it("finds plugins that are installed as modules", function()
    write("rocks/kong/plugins/inst/handler.lua",
      good_handler("h.z = require('kong.plugins.inst.z')"))
    write("rocks/kong/plugins/inst/schema.lua", good_schema("inst"))
    write("rocks/kong/plugins/inst/z.lua", "return 9")
    local before = package.path
    package.path = top .. "/rocks/?.lua;" .. before
    local plugins, errors = loader.load({ top .. "/p" }, { "inst" })
    package.path = before
    assert.same({}, errors)
    assert.equal(9, plugins.inst.handler.z)
  end)

  it("names file and line of broken Lua", function()
    assert.same({ "x/handler.lua:2: '<eof>' expected near 'h'" },
      error_of("local h = {}\nreturn h h"))
    assert.same({ "x/handler.lua:3: attempt to index local 'a' (a nil value)" },
      error_of("local h = {}\nlocal a\nlocal b = a.c\nreturn h"))
    assert.same({ "x/schema.lua:2: no" }, error_of(nil, "\nerror('no')"))
    assert.same({ "x/handler.lua:2: module 'kong.plugins.x.no' not found" },
      error_of("\nlocal x = require('kong.plugins.x.no')\nreturn x"))
    assert.same({ "x/handler.lua: module 'kong.plugins.x.no' not found" },
      error_of("return require('kong.plugins.x.no')"))
  end)

  it("names the broken file that a handler requires", function()
    write("p/x/lib.lua", "\n\nlocal = 5")
    local errors = error_of("local x = require('kong.plugins.x.lib')\nreturn x")
    assert.same({ "x/handler.lua:1: x/lib.lua:3: '<name>' expected near '='" }, errors)
  end)

  it("checks the handler", function()
    assert.same({ "x/handler.lua:1: PRIORITY must be an integer" },
      error_of("local h = { PRIORITY = 1.5, VERSION = '1.0.0' }\nreturn h"))
    assert.same({ "x/handler.lua: PRIORITY must be an integer",
      "x/handler.lua: VERSION must be of the form \"x.y.z\"" }, error_of("return {}"))
    assert.same({ "x/handler.lua:2: VERSION must be of the form \"x.y.z\"" },
      error_of("local h = { PRIORITY = 1,\nVERSION = '1.0' }\nreturn h"))
    assert.same({ "x/handler.lua:2: access must be a function" },
      error_of(good_handler("h.access = 5")))
    assert.same({ "x/handler.lua:2: response cannot be combined with header_filter "
      .. "or body_filter" },
      error_of(good_handler("function h:response() end\nfunction h:body_filter() end")))
    assert.same({ "x/handler.lua: must return a table, the handler" }, error_of("return 5"))
    assert.same({ "x/handler.lua: must return a table, the handler" }, error_of("local a = 1"))
  end)

  it("checks the schema", function()
    assert.same({ "x/schema.lua:1: name must be 'x', as the directory is called" },
      error_of(nil, good_schema("y")))
    assert.same({ "x/schema.lua:3: config.second: unknown attribute 'defualt'" }, error_of(nil,
      'return { name = "x", fields = { { config = { type = "record",\nfields = {\n'
      .. '{ second = { type = "number", defualt = 1 } } } } } } }'))
    assert.same({ "x/schema.lua: a schema is a table with 'name' and 'fields'" },
      error_of(nil, 'return { name = "x" }'))
    assert.same({ "x/schema.lua:1: second: a plugin has no such field "
      .. "(its own fields belong into config)" },
      error_of(nil, 'return { name = "x", fields = { { second = { type = "number" } } } }'))
    place:run("rm p/x/schema.lua")
    local _, errors = loader.load({ top .. "/p" }, { "all" })
    assert.same({ top .. "/p/x/schema.lua: this file is missing" }, errors)
  end)

  it("misses a handler beside a schema", function()
    write("p/x/schema.lua", good_schema("x"))
    local _, errors = loader.load({ top .. "/p" }, { "all" })
    assert.same({ top .. "/p/x/handler.lua: this file is missing" }, errors)
  end)

  it("names the caller's line where a function blames its caller", function()
    write("p/x/schema.lua", good_schema("x"))
    write("p/x/handler.lua", "\nlocal function of_pdk()\n"
      .. "  require('weir.phases').wrong(nil, 0)\nend\nof_pdk()\nreturn {}")
    local _, errors = loader.load({ top .. "/p" }, { "all" })
    assert.equal(1, #errors)
    assert.matches("^[^:]*/p/x/handler.lua:5: function cannot be called", errors[1])
  end)

  it("loads the others when one is broken", function()
    plugin("a")
    plugin("x", "return 5")
    local plugins, errors = loader.load({ top .. "/p" }, { "all" })
    assert.same({ "a" }, names(plugins))
    assert.equal(1, #errors)
  end)

  it("loads what weir ships", function()
    local plugins, errors = loader.load({ "plugins" }, { "all" })
    assert.same({}, errors)
    assert.is_table(plugins["rate-limiting"])
  end)
end)
