-- `weir plugins list` and `weir plugins check`: what is in the plugin
-- directories, and whether it would load.

local columns = require("weir.cli.columns")
local loader = require("weir.loader")

local _M = {}

_M.help = [[
Usage: weir plugins list
       weir plugins check [NAME...]

list   shows the plugins that are enabled: name, version, priority, directory, phases.
check  loads plugins (all that are enabled, or those named) and reports each mistake
       with its file and line. The exit status is 1 if there is one.
]]

local function phases_of(handler)
  local out = {}
  for _, phase in ipairs(loader.phases) do
    if handler[phase] then
      out[#out + 1] = phase
    end
  end
  return #out > 0 and table.concat(out, ",") or "-"
end

local function rows_of(plugins)
  local rows = {}
  for name, plugin in pairs(plugins) do
    rows[#rows + 1] = {
      name, plugin.version, tostring(plugin.priority), plugin.dir, phases_of(plugin.handler),
    }
  end
  table.sort(rows, function(a, b)
    return a[1] < b[1]
  end)
  table.insert(rows, 1, { "NAME", "VERSION", "PRIORITY", "DIRECTORY", "PHASES" })
  return rows
end

local function report(errors)
  for _, err in ipairs(errors) do
    io.stderr:write(err, "\n")
  end
  return #errors > 0 and 1 or 0
end

local function list()
  local plugins, errors = loader.load_configured()
  columns.write(rows_of(plugins), io.stdout)
  return report(errors)
end

local function check(names)
  local plugins, errors = loader.load_configured(#names > 0 and names or nil)
  local count = 0
  for _ in pairs(plugins) do
    count = count + 1
  end
  local status = report(errors)
  if status == 0 then
    io.stdout:write(count, count == 1 and " plugin" or " plugins", " checked: good\n")
  end
  return status
end

-- args: what follows `plugins`. The exit status.
function _M.run(args)
  local verb = args[1]
  if verb == "list" and not args[2] then
    return list()
  elseif verb == "check" then
    return check({ unpack(args, 2) })
  elseif verb == "--help" or verb == "-h" then
    io.stdout:write(_M.help)
    return 0
  end
  io.stderr:write(_M.help)
  return 2
end

return _M
