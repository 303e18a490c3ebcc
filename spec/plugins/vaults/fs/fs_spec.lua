-- The vault fs: which file a reference names, which it may not name, and what its
-- config may say. That changes are seen is shown with a running weir.

local weir = require("native")

local fs = dofile("plugins/vaults/fs/init.lua")
local loader = require("weir.vault.loader")

package.loaded["weir.timer"] = { sleep = function() end } -- there is no loop here

weir.ffi.cdef("int setenv(const char *name, const char *value, int overwrite);"
  .. "int unsetenv(const char *name);")

describe("the vault fs", function()
  local top

  local function run(command)
    assert(os.execute("cd " .. top .. " && " .. command) == 0)
  end

  local function write(name, text)
    local file = assert(io.open(top .. "/" .. name, "wb"))
    file:write(text)
    file:close()
  end

  local function get(name, more)
    local conf = { prefix = top }
    for key, value in pairs(more or {}) do
      conf[key] = value
    end
    return fs.get(conf, name)
  end

  -- Asserts that a name is refused, with a text behind the file's path.
  local function refuses(name, text, conf)
    local value, err = get(name, conf)
    assert.is_nil(value)
    assert.equal(text, (err:gsub("^" .. top:gsub("%p", "%%%0") .. "/", "")))
  end

  before_each(function()
    local pipe = io.popen("mktemp -d")
    top = pipe:read("*l")
    pipe:close()
  end)

  after_each(function()
    os.execute("rm -r " .. top)
  end)

  it("reads the file that a resource names", function()
    write("redis-password", "secret")
    run("mkdir -p a/b")
    write("a/b/c.txt", "deep")
    assert.equal("secret", get("redis-password"))
    assert.equal("secret", get("./redis-password"))
    assert.equal("deep", get("a/b/c.txt"))
    assert.equal("secret", get("redis-password", { prefix = top .. "//" }))
  end)

  it("takes one newline off the end, and nothing else", function()
    for text, value in pairs({
      ["a\n"] = "a", ["a\r\n"] = "a", ["a\n\n"] = "a\n", [""] = "", ["\n"] = "",
      [" a # \"'\\ \n\tb "] = " a # \"'\\ \n\tb ", ["a\0b\255"] = "a\0b\255",
    }) do
      write("f", text)
      assert.equal(value, get("f"))
    end
  end)

  it("gives large files whole, and refuses larger ones", function()
    local mib = ("0123456789abcdef"):rep(65536)
    write("f", mib)
    assert.equal(mib, get("f"))
    write("f", mib .. "x")
    refuses("f", "f: it is larger than 1048576 bytes")
  end)

  it("decodes base64", function()
    write("f", "cGFz\nc1wA\n")
    write("g", "pass!")
    assert.equal("pass\\\0", get("f", { base64_decode = true }))
    refuses("g", "g: it is not base64", { base64_decode = true })
  end)

  it("follows links below its directory", function()
    run("mkdir ..1 && ln -s ..1 ..data && ln -s ..data/f f && ln -s " .. top .. "/f abs")
    write("..1/f", "by links")
    assert.equal("by links", get("f"))
    assert.equal("by links", get("abs"))
    run("ln -s . self")
    assert.equal("by links", get("self/self/f"))
  end)

  it("follows a link that its directory is", function()
    run("mkdir real && ln -s real link")
    write("real/f", "x")
    assert.equal("x", fs.get({ prefix = top .. "/link" }, "f"))
  end)

  it("stays below its directory", function()
    run("mkdir in in-side && ln -s ../out in/out && ln -s ../in-side/f in/side && ln -s / in/root"
      .. " && ln -s .. in/up")
    write("out", "outside")
    write("in-side/f", "outside")
    local inside = { prefix = top .. "/in" }
    local out = ": its symbolic links lead out of the directory"
    refuses("out", "in/out" .. out, inside)
    refuses("side", "in/side" .. out, inside)
    refuses("up/out", "in/up/out" .. out, inside)
    refuses("root/etc/passwd", "in/root/etc/passwd" .. out, inside)
    refuses("../out", "the name of a file must not contain ..", inside)
    refuses("a/../../out", "the name of a file must not contain ..", inside)
    refuses("..", "the name of a file must not contain ..", inside)
    refuses("/etc/passwd", "the name of a file must not begin with a slash", inside)
    refuses("out\0x", "the name of a file holds no NUL", inside)
  end)

  it("reads nothing but files, and waits for none", function()
    run("mkdir d && mkfifo pipe && ln -s loop loop")
    refuses("d", "d: it is not a regular file")
    refuses("pipe", "pipe: it is not a regular file")
    refuses("loop", "loop: Too many levels of symbolic links")
    assert.same({ nil, "/dev/null: it is not a regular file" },
      { fs.get({ prefix = "/dev" }, "null") })
  end)

  it("says what is missing", function()
    refuses("f", "f: No such file or directory")
    write("f", "x")
    refuses("f/g", "f/g: Not a directory")
    refuses("f", "no/f: No such file or directory", { prefix = top .. "/no" })
    assert.same({ nil, "files have no versions" }, { fs.get({ prefix = top }, "f", 2) })
    assert.equal("x", fs.get({ prefix = top }, "f", 1))
  end)

  it("leaves no descriptor open", function()
    local function count()
      local pipe = io.popen("ls /proc/$PPID/fd | wc -l")
      local n = tonumber(pipe:read("*a"))
      pipe:close()
      return n
    end
    write("f", "x")
    run("mkdir d")
    local before = count()
    for _ = 1, 20 do
      get("f")
      get("d")
      get("no")
    end
    assert.equal(before, count())
  end)

  describe("its config", function()
    local function accept(config)
      local schema = loader.load({ "plugins" }, { "fs" }).fs.schema
      return schema:accept({ name = "fs", prefix = "mine", config = config })
    end

    teardown(function()
      weir.ffi.C.unsetenv("CREDENTIALS_DIRECTORY")
    end)

    it("needs a directory", function()
      weir.ffi.C.unsetenv("CREDENTIALS_DIRECTORY")
      local _, errors = accept({})
      assert.same({ prefix = "required field missing" }, errors.config)
      for _, wrong in ipairs({ "a/b", "", "./a", "/a\0b" }) do
        _, errors = accept({ prefix = wrong })
        assert.is_truthy(errors.config.prefix)
      end
      local entity = assert(accept({ prefix = "/run/secrets" }))
      assert.same({ "/run/secrets", false }, { entity.config.prefix, entity.config.base64_decode })
    end)

    it("has that of systemd's credentials by default", function()
      weir.ffi.C.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/weir.service", 1)
      assert.equal("/run/credentials/weir.service", assert(accept({})).config.prefix)
      assert.equal("/run/secrets", assert(accept({ prefix = "/run/secrets" })).config.prefix)
    end)
  end)
end)
