-- Runs a Lua command in this process: its exit status, and what went to standard
-- output and standard error.

local function collect(into)
  return { write = function(self, ...)
    for i = 1, select("#", ...) do
      into[#into + 1] = tostring((select(i, ...)))
    end
    return self
  end }
end

return function(...)
  local out, err = {}, {}
  local stdout, stderr = io.stdout, io.stderr
  io.stdout, io.stderr = collect(out), collect(err) -- luacheck: ignore 122
  local ok, status = pcall(require("weir.cli.main"), { ... })
  io.stdout, io.stderr = stdout, stderr -- luacheck: ignore 122
  assert(ok, status)
  return status, table.concat(out), table.concat(err)
end
