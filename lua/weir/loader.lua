-- Finds and loads plugins: directories of plugin_dir that hold handler.lua and
-- schema.lua, and plugins installed as Lua modules kong.plugins.<name>. What
-- is loaded is checked here, once, so that no request meets a half-written
-- plugin. Errors name the file and the line.

local plugin_entities = require("weir.entities.plugins")
local source = require("weir.source")
local weir = require("weir.ffi")

local C, sv, str = weir.C, weir.sv, weir.str
local exists, line_of = source.exists, source.line_of

local _M = {}

-- The phases that a handler may implement, in the order that they are listed.
_M.phases = {
  "init_worker", "configure", "rewrite", "access", "response", "header_filter", "body_filter",
  "log",
}

local loader = {}
loader.__index = loader

function loader:fail(file, line, message)
  local where = file and file .. (line and ":" .. line or "") .. ": " or ""
  self.errors[#self.errors + 1] = where .. message
end

-- ---- finding

local function names_in(dir)
  local rc = C.weir_dir_names(dir, sv)
  if rc == weir.NONE then
    return {}
  end
  if rc < 0 then
    return nil, "cannot read this directory"
  end
  local out = {}
  for name in str(sv[0]):gmatch("[^%z]+") do
    out[#out + 1] = name
  end
  table.sort(out)
  return out
end

-- Fills self.found: name -> directory.
function loader:scan(dirs)
  for i, dir in ipairs(dirs) do
    local names, err = names_in(dir)
    if not names then
      self:fail(dir, nil, err)
    end
    for _, name in ipairs(names or {}) do
      local path = dir .. "/" .. name
      local text, why = source.read(path .. "/handler.lua")
      if text then
        if self.found[name] then
          self:fail(path, nil, "plugin '" .. name .. "' exists in " .. self.found[name] .. " too")
        else
          self.found[name] = path
          self.shipped[name] = i == 1
        end
      elseif why then
        -- what is kept from the user of the workers must not look as if it were not there
        self:fail(path .. "/handler.lua", nil, "cannot read this file: " .. why)
      end
    end
  end
end

-- A plugin that is installed as a Lua module; its directory.
local function installed(name)
  local file = source.search("kong.plugins." .. name .. ".handler")
  return file and file:match("^(.*)/handler%.lua$")
end

local function add(wanted, seen, name)
  if not seen[name] then
    seen[name] = true
    wanted[#wanted + 1] = name
  end
end

-- The names to load, sorted: what the `plugins` key says.
function loader:select(enabled, dirs)
  local wanted, seen = {}, {}
  for _, word in ipairs(enabled) do
    if word == "all" or word == "bundled" then
      for name in pairs(self.found) do
        if word == "all" or self.shipped[name] then
          add(wanted, seen, name)
        end
      end
    elseif word ~= "off" then
      self.found[word] = self.found[word] or installed(word)
      if self.found[word] then
        add(wanted, seen, word)
      else
        self:fail(nil, nil, word .. " plugin is enabled but not installed in "
          .. table.concat(dirs, ", "))
      end
    end
  end
  table.sort(wanted)
  return wanted
end

-- ---- running a file

local this_file = debug.getinfo(1, "S").source

-- Where in Lua an error arose, and its text without that place.
local function locate(message)
  -- require lists each place where it looked: too much for a line of a report
  message = tostring(message):gsub(":?\n\tno field .*$", "")
  for level = 2, 30 do
    local info = debug.getinfo(level, "Slf")
    if not info or info.func == loader.run then
      break
    end
    if info.source:sub(1, 1) == "@" and info.source ~= this_file then
      local prefix = info.short_src .. ":" .. info.currentline .. ": "
      if message:sub(1, #prefix) == prefix then
        message = message:sub(#prefix + 1)
      end
      return { file = info.source:sub(2), line = info.currentline, message = message }
    end
  end
  return { message = message }
end

-- What the file returns; nil after a failure was noted.
function loader:run(file)
  local chunk, err = source.load(file)
  if not chunk then
    local line, message = tostring(err):match(":(%d+): (.*)$")
    self:fail(file, line, message or tostring(err))
    return nil
  end
  local ok, value = xpcall(chunk, locate)
  if ok then
    return value
  end
  if value.file and value.file ~= file then
    value.message = value.file .. ":" .. value.line .. ": " .. value.message
    value.line = nil
  end
  self:fail(file, value.line, value.message)
  return nil
end

-- Modules of plugins, kong.plugins.<name>.<module>, lie in the plugin's directory.
local function search_in(found)
  return function(module)
    local name, rest = module:match("^kong%.plugins%.([^.]+)%.(.+)$")
    local dir = name and found[name]
    if not dir then
      return "\n\tno plugin directory for '" .. module .. "'"
    end
    local path = dir .. "/" .. rest:gsub("%.", "/")
    for _, file in ipairs({ path .. ".lua", path .. "/init.lua" }) do
      if exists(file) then
        local chunk, err = source.load(file)
        if not chunk then
          local line, message = tostring(err):match(":(%d+): (.*)$")
          error(file .. ":" .. (line or "1") .. ": " .. (message or tostring(err)), 0)
        end
        return chunk
      end
    end
    return "\n\tno file '" .. path .. ".lua'"
  end
end

-- ---- checking

function loader:check_header(handler, file)
  local priority, version = handler.PRIORITY, handler.VERSION
  local good = true
  if type(priority) ~= "number" or priority % 1 ~= 0 then
    self:fail(file, line_of(file, "PRIORITY"), "PRIORITY must be an integer")
    good = false
  end
  if type(version) ~= "string" or not version:find("^%d+%.%d+%.%d+$") then
    self:fail(file, line_of(file, "VERSION"), "VERSION must be of the form \"x.y.z\"")
    good = false
  end
  return good
end

function loader:check_phases(handler, file)
  local good = true
  for _, phase in ipairs(_M.phases) do
    local fn = handler[phase]
    if fn ~= nil and type(fn) ~= "function" then
      self:fail(file, line_of(file, "%f[%w_]" .. phase .. "%f[^%w_]"), phase
        .. " must be a function")
      good = false
    end
  end
  if handler.response and (handler.header_filter or handler.body_filter) then
    self:fail(file, line_of(file, "%f[%w_]response%f[^%w_]"),
      "response cannot be combined with header_filter or body_filter")
    good = false
  end
  return good
end

function loader:load_handler(file)
  local handler = self:run(file)
  if handler == nil then
    return nil
  end
  if type(handler) ~= "table" then
    self:fail(file, nil, "must return a table, the handler")
    return nil
  end
  local header, phases = self:check_header(handler, file), self:check_phases(handler, file)
  return header and phases and handler or nil
end

-- The line of a field of a schema: that of the last name of its path.
local function schema_line(file, path)
  local name = path and path:match("([%w_]+)$")
  return name and line_of(file, "%f[%w_]" .. name .. "%f[^%w_]%s*[%]'\"]*%s*=")
end

function loader:load_schema(name, file)
  if not exists(file) then
    self:fail(file, nil, "this file is missing")
    return nil
  end
  local definition = self:run(file)
  if definition == nil then
    return nil
  end
  if type(definition) == "table" and definition.name ~= name then
    self:fail(file, line_of(file, "%f[%w_]name%f[^%w_]%s*="),
      "name must be '" .. name .. "', as the directory is called")
    return nil
  end
  local subschema, err, path = plugin_entities.subschema(definition)
  if not subschema then
    self:fail(file, schema_line(file, path), err)
    return nil
  end
  return subschema, definition
end

function loader:load(name)
  local dir = self.found[name]
  local before = #self.errors
  local subschema, definition = self:load_schema(name, dir .. "/schema.lua")
  local handler = self:load_handler(dir .. "/handler.lua")
  if #self.errors > before or not handler or not subschema then
    if #self.errors == before then
      self:fail(dir .. "/handler.lua", nil, "must return a table, the handler")
    end
    return
  end
  package.loaded["kong.plugins." .. name .. ".handler"] = handler
  package.loaded["kong.plugins." .. name .. ".schema"] = definition
  self.plugins[name] = {
    name = name, dir = dir, handler = handler, schema = subschema,
    priority = handler.PRIORITY, version = handler.VERSION,
  }
end

-- ---- the whole

local previous_searcher

local function install_searcher(found)
  local loaders = package.loaders
  for i = #loaders, 1, -1 do
    if loaders[i] == previous_searcher then
      table.remove(loaders, i)
    end
  end
  previous_searcher = search_in(found)
  table.insert(loaders, 2, previous_searcher)
end

-- Loads the plugins that `enabled` (words of the `plugins` key) selects from
-- dirs: name -> {name, dir, handler, schema, priority, version}. The second
-- value is an array of error texts; what they concern is left out.
function _M.load(dirs, enabled)
  local self = setmetatable({ found = {}, shipped = {}, plugins = {}, errors = {} }, loader)
  self:scan(dirs)
  local wanted = self:select(enabled, dirs)
  install_searcher(self.found)
  for _, name in ipairs(wanted) do
    self:load(name)
  end
  return self.plugins, self.errors
end

local function conf_list(key)
  local out, i = {}, 0
  while C.weir_conf_list(key, #key, i, sv) ~= weir.NONE do
    i = i + 1
    out[i] = str(sv[0])
  end
  return out
end

-- As load, with what weir.conf says; names, if given, stand for its `plugins` key.
function _M.load_configured(names)
  return _M.load(conf_list("plugin_dir"), names or conf_list("plugins"))
end

-- plugin name -> schema, as the entities want it.
function _M.subschemas(plugins)
  local out = {}
  for name, plugin in pairs(plugins) do
    out[name] = plugin.schema
  end
  return out
end

return _M
