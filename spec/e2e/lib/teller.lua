-- A plugin that tells the secrets of its config, for the specs of vaults: /FIELD is
-- answered with that field's value, and / with word's; where it has none, the status
-- is 503 and the body the reason. /FIELD?digest tells length and SHA-256 instead,
-- for long values in modes in which a byte takes long.
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local net = require "lib.net"
local weir = require "lib.weir"

local _M = {}

local HANDLER = [[
local crypto = require "weir.crypto"
local teller = { PRIORITY = 1, VERSION = "1.0.0" }

function teller:access(conf)
  local field = kong.request.get_path():match("^/([%w_]+)") or "word"
  local ok, value = pcall(function() return conf[field] end)
  if ok and kong.request.get_query_arg("digest") then
    value = #value .. ":" .. crypto.hex(crypto.sha256(value))
  end
  return kong.response.exit(ok and 200 or 503, value)
end

return teller
]]

local YML = [[
_format_version: "3.0"
vaults:
%s
services:
  - name: service
    url: http://127.0.0.1:9
    routes: [ { name: all, paths: [ / ] } ]
    plugins: [ { name: teller, config: { %s } } ]
]]

-- Text of weir.yml. vault: the inside of an entity of vaults, or the lines of several; fields: name
-- -> value or reference, which the plugin has; word alone if that is a text.
function _M.yml(vault, fields)
  local lines = {}
  for name, value in pairs(type(fields) == "table" and fields or { word = fields }) do
    lines[#lines + 1] = ('%s: "%s"'):format(name, value)
  end
  return YML:format(vault:find("^ +- ") and vault or "  - { " .. vault .. " }",
                    table.concat(lines, ", "))
end

-- Writes the plugin, whose fields have these names (word and other); the value of plugin_dir with
-- which weir has it besides its own.
function _M.write(e, names)
  local fields = {}
  for i, name in ipairs(names or { "word", "other" }) do
    fields[i] = ('{ %s = { type = "string", referenceable = true, len_min = 0 } }'):format(name)
  end
  weir.write_plugin(e, "teller", HANDLER, table.concat(fields, ", "))
  return env.srcdir .. "/plugins," .. weir.plugin_dir(e)
end

-- Starts a weir of one worker with the plugin. opts: yml; names, as write has them; conf, more keys
-- of weir.conf; what else weir:start takes.
function _M.start(e, opts)
  local conf = { plugin_dir = _M.write(e, opts.names), workers = 1 }
  for key, value in pairs(opts.conf or {}) do
    conf[key] = value
  end
  return weir.new(e, { yml = opts.yml, conf = conf }):start(opts)
end

-- The response to / or another path.
function _M.ask(w, path)
  return assert(fcgi.once(w.unix, { params = { REQUEST_URI = path or "/" } }))
end

-- Asks until the body is this one, for 8 seconds or others.
function _M.until_body(w, body, seconds, path)
  local last
  return assert(net.wait_until(seconds or 8, function()
    last = _M.ask(w, path).body
    return last == body
  end), "it stays " .. tostring(last))
end

-- What /FIELD?digest tells of a value.
function _M.digest(e, value)
  local pipe = io.popen("sha256sum " .. e:write("www/value", value))
  local digest = pipe:read("*a"):match("^%x+")
  pipe:close()
  return #value .. ":" .. digest
end

return _M
