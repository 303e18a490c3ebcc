-- The service that names costs: a real nginx (spec/fixtures/costs.conf).
local env = require "lib.env"
local upstream = require "lib.upstream"

local _M = {}

local service = {}
service.__index = service

function _M.nginx(e)
  local self = setmetatable({ env = e, port = e:port() }, service)
  self.address = "127.0.0.1:" .. self.port
  self.url = "http://" .. self.address
  local conf = e:write("costs.conf", upstream.fill("costs.conf", {
    DIR = e.dir, PORT = self.port, USER = env.is_root and "user www-data;" or "",
  }))
  self.proc = e:spawn({ "/usr/sbin/nginx", "-p", e.dir, "-e", e:path("log/costs.err"),
                        "-c", conf }, { files = 8192 })
  assert(env.wait_listening(self.address, self.proc),
         "the service does not listen: " .. e:read("log/costs.err") .. e:read("log/nginx.out"))
  return self
end

-- The requests that it has seen: its access log's lines, each { uri, status, connection }.
function service:requests()
  local list = {}
  for line in self.env:read("log/costs.access"):gmatch("[^\n]+") do
    list[#list + 1] = { line:match("^(%S+) (%S+) (%S+)$") }
  end
  return list
end

local function escape(text)
  return (text:gsub("[^%w_.~-]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

-- The request target of an answer that costs this: a text, or a list for repeated headers.
function _M.target(path, cost, more)
  local args = {}
  for _, one in ipairs(type(cost) == "table" and cost or { cost }) do
    args[#args + 1] = "cost=" .. escape(one)
  end
  args[#args + 1] = more
  return path .. "?" .. table.concat(args, "&")
end

return _M
