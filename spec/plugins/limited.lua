-- A weir with one service, and a route for each config of a limiting plugin: what
-- the specs of those plugins ask, over FastCGI.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local _M = {}

local limited = {}
limited.__index = limited

local function yml(plugin, configs, url)
  local out = { '_format_version: "3.0"', "services:", "  - name: service", "    url: " .. url,
                "    routes:" }
  for name, config in pairs(configs) do
    out[#out + 1] = "      - name: " .. name
    out[#out + 1] = "        paths: [ /" .. name .. " ]"
    out[#out + 1] = "        plugins:"
    for _, each in ipairs(type(config) == "table" and config or { config }) do
      out[#out + 1] = "          - name: " .. (each:match("^(%S+) {") or plugin)
      out[#out + 1] = "            config: " .. each:match("{.*")
    end
  end
  return table.concat(out, "\n") .. "\n"
end

-- configs: name of a route, whose path is /name -> its plugin's config (YAML in braces, the
-- name of another plugin may stand before it), or several; or a function of the environment that
-- gives these. conf: keys of weir.conf that differ.
function _M.start(plugin, configs, conf)
  local self = setmetatable({ env = env.new() }, limited)
  local service = upstream.nginx(self.env)
  configs = type(configs) == "function" and configs(self.env) or configs
  self.weir = weir.new(self.env, { yml = yml(plugin, configs, service.url), conf = conf })
  self.weir:start()
  return self
end

function limited:stop()
  self.weir:stop()
  self.env:destroy()
end

local function request(path, client, params)
  local all = { REQUEST_URI = path, REMOTE_ADDR = client }
  for name, value in pairs(params or {}) do
    all[name] = value
  end
  return { params = all }
end

-- One request of a client; params: CGI variables.
function limited:ask(path, client, params)
  return assert(fcgi.once(self.weir.unix, request(path, client, params)))
end

-- The statuses of n requests, and the last answer.
function limited:ask_many(n, path, client, params)
  local statuses, got = {}, nil
  for i = 1, n do
    got = self:ask(path, client, params)
    statuses[i] = got.status
  end
  return statuses, got
end

-- n requests at once, on connections of their own: a function that gives the next answer.
function limited:ask_at_once(n, path, client)
  local clients = {}
  for i = 1, n do
    clients[i] = assert(fcgi.connect(self.weir.unix))
    assert(clients[i]:send(fcgi.request(request(path, client))))
  end
  return function(i)
    local got = assert(clients[i]:answer(1, 20))
    clients[i]:close()
    return got
  end
end

return _M
