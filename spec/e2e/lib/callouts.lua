-- What specs of call-outs have in common: TLS servers (an nginx, spec/fixtures/callouts.conf)
-- with certificates of an authority of their own, and the plugin that calls out.
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local json = require "cjson"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local _M = {}

local CERTIFICATES = [[
    set -e
    mkdir -p "$0" && cd "$0"
    key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
    signed() {
        key "$1.key"
        openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
        printf '%s\n' "$2" >"$1.ext"
        openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 36500 \
            -extfile "$1.ext" -out "$1.crt"
    }
    for ca in ca other; do
        key $ca.key
        openssl req -x509 -new -key $ca.key -days 36500 -subj /CN=$ca -out $ca.crt
    done
    signed server 'subjectAltName=DNS:vault.example,DNS:localhost'
    signed client 'extendedKeyUsage=clientAuth'
    cat client.crt client.key >both.pem
    chmod a+r *.key both.pem
]]

-- .url is the server's that speaks TLS, .old_url that of one that speaks an old one;
-- .dir has the PEM files.
function _M.tls(e)
  local dir = e:path("tls")
  local text, code = proc.run({ "/bin/sh", "-c", CERTIFICATES, dir })
  assert(code == 0, text)
  local port, old = e:port(), e:port()
  local conf = e:write("callouts.conf", upstream.fill("callouts.conf", {
    DIR = e.dir, PORT = port, OLD_PORT = old, USER = env.is_root and "user www-data;" or "",
    SECLEVEL = "@SECLEVEL",
  }))
  local p = e:spawn({ "/usr/sbin/nginx", "-p", e.dir, "-e", e:path("log/callouts.err"),
                      "-c", conf }, { files = 4096 })
  assert(env.wait_listening("127.0.0.1:" .. port, p), e:read("log/callouts.err"))
  return { dir = dir, port = port, address = "127.0.0.1:" .. port,
           socket = e:path("run/callouts.sock"), url = "https://127.0.0.1:" .. port,
           old_url = "https://127.0.0.1:" .. old }
end

-- The request's header X-Options is JSON: what weir.http is asked for; X-In says where.
local CALLER = [[
local http = require "weir.http"
local json = require "weir.json"
local timer = require "weir.timer"

local caller = { PRIORITY = 500, VERSION = "1.0.0" }

-- An options table of which JSON knows nothing.
local STRANGE = {
  ["a function"] = function() return { url = print } end,
  ["nothing"] = function() return nil end,
  ["bytes"] = function() return { url = "http://127.0.0.1:1/\0" } end,
  ["a header that is a function"] = function()
    return { url = "http://127.0.0.1:1/", headers = { a = print } }
  end,
  ["a number for a name"] = function()
    return { url = "http://127.0.0.1:1/", headers = { "a" } }
  end,
  ["not a number"] = function() return { url = "http://127.0.0.1:1/", timeout_ms = 0 / 0 } end,
}

local function call(options)
  local ok, response, err = pcall(http.request, options)
  if not ok then
    return { raised = response }
  end
  return { response = response, err = err }
end

local function in_timer(options)
  local result
  timer.at(0, function()
    result = call(options)
  end)
  for _ = 1, 500 do
    timer.sleep(0.01)
    if result then
      return result
    end
  end
end

local at_start

function caller:init_worker()
  local file = io.open(kong.configuration.prefix .. "/at-start")
  if file then
    at_start = call({ url = file:read("*l") })
    file:close()
  end
end

function caller:access()
  local where = kong.request.get_header("X-In")
  local strange = STRANGE[where]
  if where == "start" then
    return kong.response.exit(200, at_start)
  elseif strange then
    return kong.response.exit(200, call(strange()))
  elseif where == "sort" then
    local list = { 3, 1, 2 }
    local _, err = pcall(table.sort, list, function()
      return http.request({ url = kong.request.get_header("X-Url") })
    end)
    local _, again = pcall(table.sort, list, function()
      return timer.sleep(0.01)
    end)
    timer.sleep(0.001)
    return kong.response.exit(200, { tostring(err), tostring(again) })
  end
  local options = assert(json.decode(kong.request.get_header("X-Options")))
  return kong.response.exit(200, where == "timer" and in_timer(options) or call(options))
end

return caller
]]

local YML = [[
_format_version: "3.0"
services:
  - { name: any, url: "http://127.0.0.1:1", routes: [ { name: any, paths: [ / ] } ] }
plugins: [ { name: caller } ]
]]

-- A weir whose plugin calls out as the requests say.
function _M.weir(e, conf)
  local keys = { workers = 1, plugins = "caller", log_level = "debug",
                 plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) }
  for key, value in pairs(conf or {}) do
    keys[key] = value
  end
  weir.write_plugin(e, "caller", CALLER)
  return weir.new(e, { yml = YML, conf = keys })
end

-- The request that lets the plugin call out.
function _M.request(options, where)
  return { params = { HTTP_X_OPTIONS = json.encode(options), HTTP_X_IN = where or false } }
end

function _M.result(answer)
  assert(answer and answer.status == 200, answer and answer.raw or "no answer")
  return json.decode(answer.body)
end

-- What came of it: { response =, err =, raised = }.
function _M.ask(w, options, where)
  return _M.result(fcgi.once(w.unix, _M.request(options, where)))
end

return _M
