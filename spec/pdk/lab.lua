-- A weir whose routes run Lua code of the spec's own (the plugin pdk-run), driven
-- by a FastCGI client. A spec declares its routes first, then starts the lab.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local json = require "weir.json"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local _M = {}

local lab = {}
lab.__index = lab

local PHASES = { "rewrite", "access", "header_filter", "body_filter", "log" }


-- opts.conf: keys of weir.conf; opts.global: code by phase for all routes.
function _M.new(opts)
  return setmetatable({ routes = {}, opts = opts or {} }, lab)
end


local function plugin_yml(out, indent, code)
  out[#out + 1] = indent .. "- name: pdk-run"
  out[#out + 1] = indent .. "  config:"
  for _, phase in ipairs(PHASES) do
    if code[phase] then
      out[#out + 1] = indent .. "    " .. phase .. ": |"
      for line in (code[phase] .. "\n"):gmatch("(.-)\n") do
        out[#out + 1] = indent .. "      " .. line
      end
    end
  end
end


-- The path of a new route that runs this code. code.to: the upstream's path, by
-- default /headers, which answers with the head that it got; code.more: lines of
-- the route's own in weir.yml.
function lab:route(code)
  if type(code) == "string" then
    code = { access = code }
  end
  self.routes[#self.routes + 1] = code
  return "/r" .. #self.routes
end


local function yml(self, url)
  local out = { '_format_version: "3.0"' }
  if self.opts.global then
    out[#out + 1] = "plugins:"
    plugin_yml(out, "  ", self.opts.global)
  end
  out[#out + 1] = "services:"
  for i, code in ipairs(self.routes) do
    out[#out + 1] = "  - name: s" .. i
    out[#out + 1] = "    url: " .. url .. (code.to or "/headers")
    out[#out + 1] = "    routes:"
    out[#out + 1] = "      - name: r" .. i
    out[#out + 1] = code.paths or "        paths: [ /r" .. i .. " ]"
    for _, line in ipairs(code.more or {}) do
      out[#out + 1] = "        " .. line
    end
    out[#out + 1] = "        plugins:"
    plugin_yml(out, "          ", code)
  end
  return table.concat(out, "\n") .. "\n"
end


function lab:start()
  self.env = env.new()
  self.service = upstream.nginx(self.env)
  local conf = {
    workers = 1, log_level = "debug",
    plugins = "rate-limiting,pdk-run",
    plugin_dir = env.srcdir .. "/plugins," .. env.srcdir .. "/spec/fixtures/plugins",
  }
  for key, value in pairs(self.opts.conf or {}) do
    conf[key] = value
  end
  self.weir = weir.new(self.env, { conf = conf, yml = yml(self, self.service.url) })
  self.weir:start()
end


function lab:stop()
  if self.weir then
    self.weir:stop()
  end
  self.env:destroy()
end


function lab:check()
  self.env:check()
end


-- One request. params: CGI variables that differ; opts: as for fcgi.request.
function lab:ask(path, params, opts)
  local all = {}
  for name, value in pairs(params or {}) do
    all[name] = value
  end
  all.REQUEST_URI = all.REQUEST_URI or path
  all.QUERY_STRING = all.QUERY_STRING or all.REQUEST_URI:match("%?(.*)$") or ""
  opts = opts or {}
  if opts.body then
    all.CONTENT_LENGTH = all.CONTENT_LENGTH or #opts.body
  end
  return assert(fcgi.once(self.weir.unix, { params = all, extra = opts.extra, body = opts.body,
                                            role = opts.role, split = opts.split }))
end


-- The JSON that the code answered with by kong.response.exit(200, table).
function lab:json(path, params, opts)
  local got = self:ask(path, params, opts)
  if got.status ~= 200 then
    error("status " .. tostring(got.status) .. ": " .. got.raw, 2)
  end
  return assert(json.decode(got.body)), got
end


return _M
