-- A limit of N admits N: thousands of parallel requests, several workers, real
-- web servers, and the 200s are counted. WEIR_REPEAT says how often.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local fronts = require "lib.fronts"
local limits = require "lib.limits"
local load = require "lib.load"
local modes = require "lib.modes"
local net = require "lib.net"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local REPEAT = tonumber(os.getenv("WEIR_REPEAT") or modes.is_slow() and "1" or "3")
local REQUESTS = modes.is_slow() and 1000 or 5000
local BURST = modes.is_slow() and 20 or 100 -- to be over within its second

describe("a limit", function()
  local e, service, w

  local function start_weir(opts)
    opts.conf = { workers = 4 }
    opts.yml = limits.yml(service.url, "{ hour: 100, policy: local, limit_by: ip }")
    return weir.new(e, opts):start()
  end

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    w = start_weir({})
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local function assert_exact(address, opts)
    env.stay_clear(3600, 30)
    for run = 1, REPEAT do
      local got = load.run(e, address, { parallel = 64, requests = REQUESTS, keep = opts.keep,
                                         source = env.client() })
      assert.equal(0, got.failed, "run " .. run .. "\n" .. got.text)
      assert.equal(100, got.status[200], "run " .. run .. "\n" .. got.text)
      assert.equal(REQUESTS - 100, got.status[429], "run " .. run .. "\n" .. got.text)
    end
  end

  it("of 100 admits 100 of thousands through lighttpd", function()
    local front = fronts.lighttpd(e, { sample = "lighttpd/responder.conf", weir = w })
    assert_exact(front.address, {})
    front:stop()
  end)

  it("of 100 admits 100 of thousands through Apache", function()
    local own = start_weir({ name = "own", prefix = "own", whole_writes = true }) -- see 11_apache
    local front = fronts.apache(e, { sample = "apache/responder.conf", weir = own })
    -- Apache hangs up on kept connections when its threads run short
    assert_exact(front.address, { keep = false })
    front:stop()
    own:stop()
  end)

  it("of 100 admits 100 of thousands through nginx", function()
    local front = fronts.nginx(e, { sample = "nginx/responder.conf", weir = w })
    assert_exact(front.address, { keep = true })
    front:stop()
  end)

  it("of 5 in a second and 100 in an hour: what the second refuses costs no hour", function()
    w:write_yml(limits.yml(service.url, "{ second: 5, hour: 100, policy: local }"))
    assert(w:reload())
    env.stay_clear(3600, 30)
    local client = env.client()
    local params = { REMOTE_ADDR = client }
    local c = assert(fcgi.connect(w.unix))
    local burst = {}
    for id = 1, BURST do
      burst[id] = fcgi.request({ id = id, keep = true, params = params })
    end
    net.wait_until(2, function() -- the second has just begun
      local now = require("posix.time").clock_gettime(0)
      return now.tv_nsec < 100000000
    end)
    assert(c:send(table.concat(burst)))
    local admitted = 0
    for id = 1, BURST do
      local got = assert(c:answer(id, 30))
      if got.status == 200 then
        admitted = admitted + 1
      else
        assert.equal(429, got.status)
      end
    end
    c:close()
    assert.equal(5, admitted)
    net.sleep(1.1)
    local got = assert(fcgi.once(w.unix, { params = params }))
    assert.equal(200, got.status)
    assert.equal("94", got.headers["x-ratelimit-remaining-hour"]) -- 95 before this one
    assert.equal("4", got.headers["x-ratelimit-remaining-second"])
  end)
end)
