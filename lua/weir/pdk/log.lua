-- kong.log: lines in weir's error log, and the table that describes a finished
-- request. A line carries the name of the plugin that wrote it. A level that is
-- not logged costs one call into C.

local inspect = require "weir.pdk.inspect"
local phases = require "weir.phases"
local serialize = require "weir.pdk.serialize"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C = weir.C
local band = require("bit").band

local concat = table.concat
local error = error
local format = string.format
local getinfo = debug.getinfo
local pairs = pairs
local select = select
local setmetatable = setmetatable
local tostring = tostring
local type = type
local wrong_phase = phases.wrong

local ANY = phases.request
local LOG = phases.log

local NOTICE = 5
local WARN = 4
local DEBUG = 7


local _M = {}


local function write(level, text)
  local ctx = wait.ctx
  local plugin = ctx and ctx.plugin
  if plugin then
    text = "[" .. plugin .. "] " .. text
  end
  C.weir_log(level, text, #text)
end


local function join(n, ...)
  if n == 1 then
    return tostring((...))
  end
  local parts = { ... }
  for i = 1, n do
    parts[i] = tostring(parts[i])
  end
  return concat(parts, "", 1, n)
end


--- Writes a line of level emerg: the program cannot be used.
-- @function kong.log.emerg
-- @phases all
-- @param ... any what to write; the arguments are joined without a blank
-- @treturn nil
-- @usage
-- kong.log.emerg("out of everything")
function _M.emerg(...)
  if C.weir_log_enabled(0) ~= 0 then
    write(0, join(select("#", ...), ...))
  end
end


--- Writes a line of level alert: somebody must act at once.
-- @function kong.log.alert
-- @phases all
-- @param ... any what to write
-- @treturn nil
-- @usage
-- kong.log.alert("the certificate ends today")
function _M.alert(...)
  if C.weir_log_enabled(1) ~= 0 then
    write(1, join(select("#", ...), ...))
  end
end


--- Writes a line of level crit: a part of the program does not work.
-- @function kong.log.crit
-- @phases all
-- @param ... any what to write
-- @treturn nil
-- @usage
-- kong.log.crit("no store can be reached")
function _M.crit(...)
  if C.weir_log_enabled(2) ~= 0 then
    write(2, join(select("#", ...), ...))
  end
end


--- Writes a line of level error.
-- @function kong.log.err
-- @phases all
-- @param ... any what to write
-- @treturn nil
-- @usage
-- kong.log.err("could not read the key: ", err)
function _M.err(...)
  if C.weir_log_enabled(3) ~= 0 then
    write(3, join(select("#", ...), ...))
  end
end


--- Writes a line of level warn.
-- @function kong.log.warn
-- @phases all
-- @param ... any what to write
-- @treturn nil
-- @usage
-- kong.log.warn("the answer took ", ms, " ms")
function _M.warn(...)
  if C.weir_log_enabled(4) ~= 0 then
    write(4, join(select("#", ...), ...))
  end
end


--- Writes a line of level notice; `kong.log(...)` is the same.
-- @function kong.log.notice
-- @phases all
-- @param ... any what to write
-- @treturn nil
-- @usage
-- kong.log.notice("loaded ", n, " keys")
-- kong.log("loaded ", n, " keys")
function _M.notice(...)
  if C.weir_log_enabled(5) ~= 0 then
    write(5, join(select("#", ...), ...))
  end
end


--- Writes a line of level info.
-- @function kong.log.info
-- @phases all
-- @param ... any what to write
-- @treturn nil
-- @usage
-- kong.log.info("new client ", ip)
function _M.info(...)
  if C.weir_log_enabled(6) ~= 0 then
    write(6, join(select("#", ...), ...))
  end
end


--- Writes a line of level debug.
-- @function kong.log.debug
-- @phases all
-- @param ... any what to write
-- @treturn nil
-- @usage
-- kong.log.debug("identifier is ", identifier)
function _M.debug(...)
  if C.weir_log_enabled(7) ~= 0 then
    write(7, join(select("#", ...), ...))
  end
end


-- " (deprecated after 2.5.0, scheduled for removal in 3.0.0)"
local function schedule(options)
  local after, removal = options.after, options.removal
  if after and removal then
    return format(" (deprecated after %s, scheduled for removal in %s)", after, removal)
  elseif after then
    return format(" (deprecated after %s)", after)
  elseif removal then
    return format(" (scheduled for removal in %s)", removal)
  end
  return ""
end


--- Writes a warning that something is deprecated.
-- @function kong.log.deprecation
-- @phases all
-- @param ... any what to write; a table as the last argument may name the versions
-- `after` which it is deprecated and of its `removal`
-- @treturn nil
-- @usage
-- kong.log.deprecation("redis_host is now redis.host", { after = "3.6", removal = "4.0" })
function _M.deprecation(...)
  local n = select("#", ...)
  local options = n > 0 and select(n, ...)
  if type(options) == "table" then
    write(WARN, join(n - 1, ...) .. schedule(options))
  else
    write(WARN, join(n, ...))
  end
end


local inspect_off = {}
local inspect_meta = {}


local function inspect_key()
  local ctx = wait.ctx
  return ctx and ctx.plugin or ""
end


--- Writes its arguments for a person to read, tables with their fields, at level debug,
-- with the file and line of the call. `kong.log.inspect.off()` silences it for the
-- plugin that calls it, `kong.log.inspect.on()` undoes that.
-- @function kong.log.inspect
-- @phases all
-- @param ... any what to show
-- @treturn nil
-- @usage
-- kong.log.inspect(conf)
function inspect_meta.__call(_, ...)
  if C.weir_log_enabled(DEBUG) == 0 or inspect_off[inspect_key()] then
    return
  end
  local parts = { ... }
  for i = 1, select("#", ...) do
    parts[i] = inspect(parts[i])
  end
  local at = getinfo(2, "Sl")
  write(DEBUG, format("%s:%d: %s", at.short_src, at.currentline, concat(parts, ", ")))
end


_M.inspect = setmetatable({
  on = function()
    inspect_off[inspect_key()] = nil
  end,
  off = function()
    inspect_off[inspect_key()] = true
  end,
}, inspect_meta)


local MODES = { set = true, add = true, replace = true }
local SCALARS = { number = true, string = true, boolean = true }


-- Whether JSON can be made of a value. around: the tables that it stands in.
local function is_plain(value, around)
  if type(value) ~= "table" then
    return SCALARS[type(value)] == true
  elseif around[value] then
    return false
  end
  around[value] = true
  for key, item in pairs(value) do
    if not SCALARS[type(key)] or not is_plain(item, around) then
      return false
    end
  end
  around[value] = nil
  return true
end


--- Adds a value of the plugin's own to what kong.log.serialize returns later.
-- @function kong.log.set_serialize_value
-- @phases request
-- @param key string the field; dots descend into inner tables
-- @param value number|string|boolean|table|nil the value; nil takes the field away
-- @param options table|nil `mode`: `set` (always, the default), `add` (only if it is not
-- there), `replace` (only if it is)
-- @treturn nil
-- @usage
-- kong.log.set_serialize_value("my.tag", "x")
function _M.set_serialize_value(key, value, options)
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, ANY) == 0 then
    wrong_phase(ctx, ANY)
  end
  if type(key) ~= "string" then
    error("key must be a string", 2)
  end
  if value ~= nil and not is_plain(value, {}) then
    error("value must be nil, a number, string, boolean or a non-self-referencial table " ..
          "containing numbers, string and booleans", 2)
  end
  local mode = options and options.mode or "set"
  if not MODES[mode] then
    error("mode must be 'set', 'add' or 'replace'", 2)
  end
  local changes = ctx.serialize_values
  if not changes then
    changes = {}
    ctx.serialize_values = changes
  end
  changes[#changes + 1] = { key = key, value = value, mode = mode }
end


--- Describes the finished request in one table, for plugins that write logs: request,
-- response, latencies (ms), route, service, client_ip and so on. Values of the headers
-- `authorization` and `proxy-authorization` are not shown. Sizes are those of the bodies.
-- @function kong.log.serialize
-- @phases log
-- @treturn table the description
-- @usage
-- local line = kong.log.serialize()
-- kong.log(line.request.method, " took ", line.latencies.request)
function _M.serialize()
  local ctx = wait.ctx
  if not ctx or band(ctx.phase, LOG) == 0 then
    wrong_phase(ctx, LOG)
  end
  return (serialize(ctx))
end


return setmetatable(_M, {
  __call = function(_, ...)
    if C.weir_log_enabled(NOTICE) ~= 0 then
      write(NOTICE, join(select("#", ...), ...))
    end
  end,
})
