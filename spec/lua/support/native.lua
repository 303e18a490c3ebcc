-- For specs that run outside of the weir program: builds the C functions that
-- need no event loop (regular expressions, digests, directories) into a shared
-- object and stands it in for `weir.ffi`. Load it first: require("native").
-- WEIR_SPEC_NATIVE may name a shared object that is built already.

local ffi = require("ffi")

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1; echo status=$?"))
  local text = pipe:read("*a")
  pipe:close()
  assert(text:find("status=0%s*$"), "failed: " .. command .. "\n" .. text)
  return text
end

local here = debug.getinfo(1, "S").source:sub(2):match("^(.*)/spec/lua/support/") or "."

local function build()
  local out = os.tmpname()
  run("cc -std=gnu11 -O1 -shared -fPIC -I" .. here .. "/src $(pkg-config --cflags luajit)"
    .. " -o " .. out .. " " .. here .. "/src/lua/ffi_re.c " .. here .. "/src/lua/ffi_crypto.c "
    .. here .. "/src/lua/ffi_sign.c "
    .. here .. "/src/lua/ffi_dir.c " .. here .. "/src/lua/ffi_file.c "
    .. here .. "/src/conf/snapshot.c " .. here .. "/src/conf/file.c "
    .. here .. "/spec/lua/support/host.c "
    .. here .. "/src/base/mem.c " .. here .. "/src/base/err.c " .. here .. "/src/base/str.c "
    .. here .. "/src/base/log.c " .. here .. "/src/base/clock.c "
    .. "$(pkg-config --libs libpcre2-8 libcrypto)")
  return out
end

if not package.loaded["weir.ffi"] then
  local file = assert(io.open(here .. "/src/lua/weir_ffi.h"))
  ffi.cdef((file:read("*a"):gsub("\n#[^\n]*", "")))
  file:close()
  local prebuilt = os.getenv("WEIR_SPEC_NATIVE")
  local object = prebuilt or build()
  local C = ffi.load(object:find("/") and object or "./" .. object)
  if not prebuilt then
    os.remove(object)
  end
  package.loaded["weir.ffi"] = {
    C = C, ffi = ffi, sv = ffi.new("weir_str[2]"), NONE = -100, WAIT = -101, version = "0.0.0",
    str = function(s)
      return ffi.string(s.p, s.n)
    end,
  }
end

return package.loaded["weir.ffi"]
