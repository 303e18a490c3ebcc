-- What plugins and vaults have in common: each is a directory with two Lua
-- files, one of them schema.lua, below a plugin_dir, or a Lua module with
-- Kong's name. They are found, run and checked here, once, so that no request
-- meets a half-written one. Errors name the file and the line.

local log = require("weir.log")
local source = require("weir.source")
local weir = require("weir.ffi")

local C, sv, str = weir.C, weir.sv, weir.str
local exists, line_of = source.exists, source.line_of

local _M = {}

local kind = {}
kind.__index = kind

function kind:fail(file, line, message)
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
function kind:scan(dirs)
  for i, top in ipairs(dirs) do
    local dir = top .. self.below
    local names, err = names_in(dir)
    if not names then
      self:fail(dir, nil, err)
    end
    for _, name in ipairs(names or {}) do
      local path = dir .. "/" .. name
      local file = path .. "/" .. self.main .. ".lua"
      local text, why = source.read(file)
      if text then
        if self.found[name] then
          self:fail(path, nil, ("%s '%s' exists in %s too"):format(self.word, name,
            self.found[name]))
        else
          self.found[name] = path
          self.shipped[name] = i == 1
        end
      elseif why then
        -- what is kept from the user of the workers must not look as if it were not there
        self:fail(file, nil, "cannot read this file: " .. why)
      elseif exists(path .. "/schema.lua") then
        self:fail(file, nil, "this file is missing")
      end
    end
  end
end

-- The directory of one that is installed as a Lua module.
function kind:installed(name)
  local file = source.search(self.modules .. "." .. name .. "." .. self.main)
  return file and file:match("^(.*)/" .. self.main .. "%.lua$")
end

local function add(wanted, seen, name)
  if not seen[name] then
    seen[name] = true
    wanted[#wanted + 1] = name
  end
end

-- The names to load, sorted: what the words of its key in weir.conf, or of the command line, say.
function kind:select(enabled, dirs, origin)
  local wanted, seen = {}, {}
  for _, word in ipairs(enabled) do
    if word == "all" or word == "bundled" then
      for name in pairs(self.found) do
        if word == "all" or self.shipped[name] then
          add(wanted, seen, name)
        end
      end
    elseif word ~= "off" then
      self.found[word] = self.found[word] or self:installed(word)
      if self.found[word] then
        add(wanted, seen, word)
      else
        self:fail(origin, nil, ("%s %s is enabled but not installed in %s"):format(word, self.word,
          table.concat(dirs, ", ")))
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
  local place
  for level = 2, 30 do
    local info = debug.getinfo(level, "Slf")
    if not info or info.func == kind.run then
      break
    end
    if info.source:sub(1, 1) == "@" and info.source ~= this_file then
      local prefix = info.short_src .. ":" .. info.currentline .. ": "
      if message:sub(1, #prefix) == prefix then -- the level that error() was given
        return { file = info.source:sub(2), line = info.currentline,
                 message = message:sub(#prefix + 1) }
      end
      place = place or { file = info.source:sub(2), line = info.currentline, message = message }
    end
  end
  return place or { message = message }
end

-- What the file returns; nil after a failure was noted.
function kind:run(file)
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

-- ---- modules of their own, <modules>.<name>.<module>, lie in their directory

local function search_in(modules, found)
  local pattern = "^" .. modules:gsub("%.", "%%.") .. "%.([^.]+)%.(.+)$"
  return function(module)
    local name, rest = module:match(pattern)
    local dir = name and found[name]
    if not dir then
      return "\n\tno directory in plugin_dir for '" .. module .. "'"
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

local previous_searchers = {}

local function install_searcher(modules, found)
  local loaders = package.loaders
  for i = #loaders, 1, -1 do
    if loaders[i] == previous_searchers[modules] then
      table.remove(loaders, i)
    end
  end
  previous_searchers[modules] = search_in(modules, found)
  table.insert(loaders, 2, previous_searchers[modules])
end

-- ---- checking

-- Whether the version is written as it must be.
function kind:check_version(main, file)
  local version = main.VERSION
  if type(version) ~= "string" or not version:find("^%d+%.%d+%.%d+$") then
    self:fail(file, line_of(file, "VERSION"), "VERSION must be of the form \"x.y.z\"")
    return false
  end
  return true
end

-- Whether main[name] is a function, if it is there.
function kind:check_function(main, name, file)
  local fn = main[name]
  if fn ~= nil and type(fn) ~= "function" then
    self:fail(file, line_of(file, "%f[%w_]" .. name .. "%f[^%w_]"), name .. " must be a function")
    return false
  end
  return true
end

-- The table that the main file returns, checked by self.check; nil after a failure was noted.
function kind:load_main(file)
  local main = self:run(file)
  if main == nil then
    return nil
  end
  if type(main) ~= "table" then
    self:fail(file, nil, "must return a table, the " .. self.main_word)
    return nil
  end
  return self:check(main, file) and main or nil
end

-- The line of a field of a schema: that of the last name of its path.
local function schema_line(file, path)
  local name = path and path:match("([%w_]+)$")
  return name and line_of(file, "%f[%w_]" .. name .. "%f[^%w_]%s*[%]'\"]*%s*=")
end

function kind:load_schema(name, file)
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
  local subschema, err, path = self.subschema(definition)
  if not subschema then
    self:fail(file, schema_line(file, path), err)
    return nil
  end
  return subschema, definition
end

-- Its two files: main, subschema, the definition it was made from; nil after a failure was noted.
function kind:load_one(dir, name)
  local before = #self.errors
  local file = dir .. "/" .. self.main .. ".lua"
  local subschema, definition = self:load_schema(name, dir .. "/schema.lua")
  local main = self:load_main(file)
  if #self.errors == before and not (main and subschema) then
    self:fail(file, nil, "must return a table, the " .. self.main_word)
  end
  if #self.errors > before then
    return nil
  end
  return main, subschema, definition
end

-- ---- the whole

-- A kind is { word = "plugin", below = "" (where in a plugin_dir), main = "handler" (its file),
-- main_word = what that returns, modules = "kong.plugins", subschema = function(definition) ->
-- schema | nil, error, path, check = function(self, main, file) -> whether it is good }.
function _M.new(description)
  description.__index = description
  return setmetatable(description, kind)
end

-- Calls each(name, dir, main, subschema, definition) for those that `enabled` (words of the key in
-- weir.conf) selects from dirs; origin, if given, is where they stand. An array of error texts;
-- what they concern is left out.
function _M.load(description, dirs, enabled, origin, each)
  local self = setmetatable({ found = {}, shipped = {}, errors = {} }, description)
  self:scan(dirs)
  local wanted = self:select(enabled, dirs, origin)
  install_searcher(self.modules, self.found)
  for _, name in ipairs(wanted) do
    local dir = self.found[name]
    local main, subschema, definition = self:load_one(dir, name)
    if main then
      each(name, dir, main, subschema, definition)
    end
  end
  return self.errors
end

-- The values of a list key of weir.conf.
function _M.conf_list(key)
  local out, i = {}, 0
  while C.weir_conf_list(key, #key, i, sv) ~= weir.NONE do
    i = i + 1
    out[i] = str(sv[0])
  end
  return out
end

-- Where it was written, with its name, for messages.
function _M.conf_origin(key)
  return C.weir_conf_origin(key, #key, sv) == 0 and str(sv[0]) .. ": " .. key or key
end

local has_looked = false

-- The directories of plugin_dir. Whoever checks a configuration warns of those that are named there
-- and do not exist: what they were to hold would be missed in other words.
function _M.conf_dirs()
  local dirs = _M.conf_list("plugin_dir")
  if has_looked or C.weir_worker_id() ~= 0 or _M.conf_origin("plugin_dir") == "plugin_dir" then
    return dirs
  end
  has_looked = true
  for _, dir in ipairs(dirs) do
    if C.weir_dir_names(dir, sv) == weir.NONE then
      log.warn(_M.conf_origin("plugin_dir"), ": ", dir, ": there is no such directory")
    end
  end
  return dirs
end

return _M
