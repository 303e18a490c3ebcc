-- The Lua commands: what they print, and their exit status.

local weir = require("native")
package.path = package.path .. ";lua/compat/?.lua"

local main = require("weir.cli.main")

weir.ffi.cdef("int setenv(const char *name, const char *value, int overwrite);")

describe("weir plugins", function()
  local top

  local function write(path, text)
    assert(os.execute("mkdir -p " .. (top .. "/" .. path):match("^(.*)/")) == 0)
    local file = assert(io.open(top .. "/" .. path, "w"))
    file:write(text)
    file:close()
  end

  -- exit status, and what went to standard output and standard error
  local function run(...)
    local out, err = {}, {}
    local function collect(into)
      return { write = function(self, ...)
        for i = 1, select("#", ...) do
          into[#into + 1] = tostring((select(i, ...)))
        end
        return self
      end }
    end
    local stdout, stderr = io.stdout, io.stderr
    io.stdout, io.stderr = collect(out), collect(err) -- luacheck: ignore 122
    local ok, status = pcall(main, { ... })
    io.stdout, io.stderr = stdout, stderr -- luacheck: ignore 122
    assert(ok, status)
    return status, table.concat(out), table.concat(err)
  end

  setup(function()
    local pipe = io.popen("mktemp -d")
    top = pipe:read("*l")
    pipe:close()
    write("p/good/handler.lua", 'return { PRIORITY = 10, VERSION = "1.0.0", '
      .. "log = function() end, access = function() end }")
    write("p/good/schema.lua", 'return { name = "good", fields = {} }')
    write("q/broken/handler.lua", "return {\n PRIORITY = true }")
    write("q/broken/schema.lua", 'return { name = "broken", fields = {} }')
    weir.ffi.C.setenv("WEIR_PLUGINS", "all", 1)
  end)

  teardown(function()
    os.execute("rm -r " .. top)
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
