-- luacheck's view of weir: LuaJIT, and the few globals that the host makes.
std = "luajit"
max_line_length = 100
cache = false
self = false -- handlers are methods, as Kong has them; most need no self
exclude_files = { "build", "build-*" }

-- What the prelude gives to plugins.
read_globals = { "kong", "ngx" }

files["lua/compat"] = { globals = { "ngx", "kong" } }
files["lua/weir/prelude.lua"] = { globals = { "kong", "ngx" } }
files["lua/weir/ffi.lua"] = { globals = { "weir_host" } }
files["lua/weir/boot.lua"] = { globals = { "weir_host" } }
files["spec"] = {
  std = "+busted",
  globals = { "kong", "ngx", "weir_host" },
}
