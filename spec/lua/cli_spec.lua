-- The Lua commands: what they print, and their exit status.

local weir = require("native")
package.path = package.path .. ";lua/compat/?.lua"

local folder = require("folder")
local run = require("command_line")

weir.ffi.cdef("int setenv(const char *name, const char *value, int overwrite);")

describe("weir plugins", function()
  local place, top

  setup(function()
    place = folder.new()
    top = place.path
    place:write("p/good/handler.lua", 'return { PRIORITY = 10, VERSION = "1.0.0", '
      .. "log = function() end, access = function() end }")
    place:write("p/good/schema.lua", 'return { name = "good", fields = {} }')
    place:write("q/broken/handler.lua", "return {\n PRIORITY = true }")
    place:write("q/broken/schema.lua", 'return { name = "broken", fields = {} }')
    weir.ffi.C.setenv("WEIR_PLUGINS", "all", 1)
  end)

  teardown(function()
    place:remove()
  end)

  local function use(dirs)
    weir.ffi.C.setenv("WEIR_PLUGIN_DIR", dirs, 1)
  end

  it("list shows what is enabled", function()
    use(top .. "/p")
    local status, out, err = run("plugins", "list")
    assert.same({ 0, "" }, { status, err })
    local lines = {}
    for line in out:gmatch("[^\n]+") do
      lines[#lines + 1] = line:gsub("%s+", " ")
    end
    assert.same({ "NAME VERSION PRIORITY DIRECTORY PHASES",
      "good 1.0.0 10 " .. top .. "/p/good access,log" }, lines)
  end)

  it("list names what is broken, and shows the rest", function()
    use(top .. "/p," .. top .. "/q")
    local status, out, err = run("plugins", "list")
    assert.equal(1, status)
    assert.matches("good", out)
    assert.matches("q/broken/handler.lua:2: PRIORITY must be an integer", err, 1, true)
  end)

  it("check is silent about what is good", function()
    use(top .. "/p")
    assert.same({ 0, "1 plugin checked: good\n", "" }, { run("plugins", "check") })
  end)

  it("check loads those that are named", function()
    use(top .. "/p," .. top .. "/q")
    assert.equal(1, (run("plugins", "check")))
    assert.equal(0, (run("plugins", "check", "good")))
    assert.equal(1, (run("plugins", "check", "broken")))
    local status, _, err = run("plugins", "check", "good", "zork")
    assert.same({ 1, "zork plugin is enabled but not installed in " .. top .. "/p, " .. top
      .. "/q\n" }, { status, err })
  end)

  it("anything else is misuse", function()
    for _, args in ipairs({ { "plugins" }, { "plugins", "zork" }, { "plugins", "list", "x" },
      { "zork" }, {} }) do
      local status, out, err = run(unpack(args))
      assert.same({ 2, "" }, { status, out })
      assert.is_true(#err > 0)
    end
    assert.same({ 0, "" }, { (run("plugins", "--help")), (select(3, run("plugins", "--help"))) })
  end)
end)
