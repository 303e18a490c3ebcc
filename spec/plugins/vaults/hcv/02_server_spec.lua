-- The vault hcv in weir, against a server that follows HashiCorp Vault's documented
-- API: KV 1 and 2, each login, tokens that end, what goes wrong, what the log says.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local net = require "lib.net"
local servers = require "lib.servers"
local weir = require "lib.weir"

local TOKEN = "hvs.the-token-of-weir"
local ODD = "p@ss # w\"o'rd\\ \n"

local TELLER = [[
local teller = { PRIORITY = 1, VERSION = "1.0.0" }

function teller:access(conf)
  local ok, word = pcall(function() return conf.word end)
  return kong.response.exit(ok and 200 or 503, word)
end

return teller
]]

local FIELDS = [[ { word = { type = "string", referenceable = true } }, ]]

local YML = [[
_format_version: "3.0"
vaults:
  - { prefix: mine, name: hcv, config: CONFIG }
services:
  - name: service
    url: http://127.0.0.1:9
    routes: [ { name: all, paths: [ / ] } ]
    plugins: [ { name: teller, config: { word: "WORD" } } ]
]]

describe("the vault hcv", function()
  local e, w, hcv

  local function yml(config, word)
    return (YML:gsub("CONFIG", function() return config end)
      :gsub("WORD", function() return word end))
  end

  local function start(config, word)
    weir.write_plugin(e, "teller", TELLER, FIELDS)
    w = weir.new(e, { yml = yml(config, word), conf = {
      plugin_dir = weir.plugin_dir(e) .. "," .. env.srcdir .. "/plugins", workers = 1,
      log_level = "debug",
    } })
    w:start()
  end

  local function config(more)
    return ("{ port: %d, ttl: 1, neg_ttl: 0.3, %s }"):format(hcv.port, more)
  end

  local function by_token(more)
    return config("token: '" .. TOKEN .. "'" .. (more and ", " .. more or ""))
  end

  local function ask()
    return assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/" } }))
  end

  local function until_body(body, seconds)
    local last
    return assert(net.wait_until(seconds or 5, function()
      last = ask().body
      return last == body
    end), "it stays " .. tostring(last))
  end

  local function serve(state)
    state.tokens = state.tokens or { [TOKEN] = { ttl = 0 } }
    hcv = servers.start("hcv", { state = state }, e)
  end

  before_each(function()
    e = env.new()
  end)

  after_each(function()
    e:check()
    if w then
      w:stop()
    end
    e:destroy()
    w = nil
  end)

  it("reads secrets of KV 1", function()
    serve({ mounts = { secret = { version = 1, secrets = {
      redis = { password = ODD, port = 6379 }, ["teams/a b/token"] = { value = "deep" },
    } } } })
    start(by_token(), "{vault://mine/redis/password}")
    assert.equal(ODD, ask().body)
    w:write_yml(yml(by_token(), "{vault://mine/teams/a%20b/token/value}"))
    assert.is_true(w:reload())
    until_body("deep")
  end)

  it("reads secrets of KV 2, and their versions", function()
    serve({ mounts = { ["kv/two"] = { version = 2, secrets = { redis = {
      { data = { password = "old" } }, { data = { password = "new" } },
    } } } } })
    local more = "kv: v2, mount: kv/two"
    start(by_token(more), "{vault://mine/redis/password}")
    assert.equal("new", ask().body)
    w:write_yml(yml(by_token(more), "{vault://mine/redis/password#1}"))
    assert.is_true(w:reload())
    until_body("old")
  end)
end)
