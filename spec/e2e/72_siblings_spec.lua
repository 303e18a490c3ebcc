-- The workers of one weir ask a vault about once for each ttl, not each for itself: who
-- is first leaves the value to the others. It is no older for that, members of a
-- secret change together, and nobody takes what was found under another environment.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local servers = require "lib.servers"
local weir = require "lib.weir"
local proc = require "lib.proc"

local it = modes.waiting(it)

-- Writes down, in each worker, what the fields hold whenever it is something else. A request
-- waits as many seconds as its path says.
local WITNESS = [[
local timer = require "weir.timer"
local worker = require("weir.ffi").C.weir_worker_id
local witness = { PRIORITY = 1, VERSION = "1.0.0" }
local last

function witness:configure(configs)
  local conf = configs and configs[1]
  local function look()
    local ok, text = pcall(function() return conf.user .. "/" .. conf.word end)
    if ok and text ~= last then
      last = text
      local file = assert(io.open(conf.file, "a"))
      file:write(worker(), " ", text, "\n")
      file:close()
    end
  end
  if conf then
    look()
    timer.every(0.01, look)
  end
end

function witness:access(conf)
  timer.sleep(tonumber(kong.request.get_path():match("%d+") or 0))
  return kong.response.exit(200, conf.word)
end

return witness
]]

local FIELDS = [[
  { user = { type = "string", referenceable = true } },
  { word = { type = "string", referenceable = true } },
  { file = { type = "string" } },
]]

local YML = [[
_format_version: "3.0"
%s
services:
  - name: service
    url: http://127.0.0.1:9
    routes: [ { name: all, paths: [ / ] } ]
    plugins: [ { name: witness, config: { user: "%s", word: "%s", file: "%s" } } ]
]]

describe("of several workers", function()
  local e, w, hcv

  local function start(vaults, user, word, opts)
    e:write("tmp/seen", "")
    os.execute("chmod 777 " .. e:path("tmp") .. "; chmod 666 " .. e:path("tmp/seen"))
    weir.write_plugin(e, "witness", WITNESS, FIELDS)
    w = weir.new(e, {
      yml = YML:format(vaults, user, word, e:path("tmp/seen")),
      conf = { workers = opts.workers,
               plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e) },
    })
    w:start(opts)
  end

  -- How many lines of the witnesses have this behind the worker's number.
  local function seen(text)
    local n = 0
    for line in (e:read("tmp/seen") or ""):gmatch("[^\n]+") do
      n = n + (line:match("^%d+ (.*)$") == text and 1 or 0)
    end
    return n
  end

  local function pair(n)
    return { mounts = { secret = { version = 2, secrets = {
      store = { { data = { user = "user-" .. n, word = "word-" .. n } } },
    } } } }
  end

  local function reads()
    return #hcv:log("^GET /v1/secret/data/store")
  end

  before_each(function()
    e = env.new()
  end)

  after_each(function()
    local ok, err = pcall(e.check, e)
    w:stop()
    e:destroy()
    assert(ok, err)
  end)

  it("one asks for all of them, and all have a new value within the ttl", function()
    local state = pair(1)
    state.tokens = { ["hcv-token"] = { ttl = 3600 } }
    hcv = servers.start("hcv", { state = state }, e)
    start(("vaults: [ { name: hcv, prefix: site, config: { port: %d, kv: v2, token: hcv-token, "
           .. "ttl: 2 } } ]"):format(hcv.port),
          "{vault://site/store/user}", "{vault://site/store/word}", { workers = 4 })
    assert.equal(4, seen("user-1/word-1"))
    assert.equal(4, reads()) -- each begins with a look-up of its own
    local begun, n = net.now(), 1
    while net.now() - begun < 12 do
      net.sleep(math.random() * 2)
      n = n + 1
      hcv:set(pair(n))
      local text = ("user-%d/word-%d"):format(n, n)
      assert(net.wait_until(3, function()
        return seen(text) == 4
      end), text .. " is there " .. seen(text) .. " times:\n" .. e:read("tmp/seen"))
    end
    for user, word in e:read("tmp/seen"):gmatch("user%-(%d+)/word%-(%d+)") do
      assert.equal(user, word, e:read("tmp/seen"))
    end
    -- 0.6 in a second; each one for itself would make more than two
    local passed_s, asked = net.now() - begun, reads() - 4
    assert.is_true(asked >= passed_s / 4 and asked <= passed_s * 1.5,
                   ("%d look-ups in %.1f s"):format(asked, passed_s))
  end)

  it("none takes what another environment says", function()
    start("", "x", "{vault://env/spec-word?ttl=0.5}", { workers = 2,
                                                        vars = { SPEC_WORD = "old" } })
    assert.equal(2, seen("x/old"))
    local slow = assert(fcgi.connect(w.unix))
    assert(slow:send(fcgi.request({ params = { REQUEST_URI = "/6" } })))
    local text, code = w:command("upgrade", { vars = { SPEC_WORD = "new" } })
    assert.equal(0, code, text)
    assert.equal(2, seen("x/new"))
    local answer = assert(slow:answer()) -- who answers has looked it up some times since
    slow:close()
    assert.equal("old", answer.body)
    assert.equal(2, seen("x/new"), e:read("tmp/seen"))
    assert.equal(2, seen("x/old"), e:read("tmp/seen"))
    w:command("stop")
    proc.sweep(w.conf_path) -- a new master is not our child
  end)
end)
