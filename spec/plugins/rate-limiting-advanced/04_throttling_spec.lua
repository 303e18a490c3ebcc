-- Throttling: requests that find no room are held, and let through once there is some.
local limited = require "plugins.limited"
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"

local CONFIGS = {
  -- one a second
  held = "{ limit: [ 1 ], window_size: [ 1 ], window_type: fixed, "
    .. "throttling: { enabled: true, interval: 1, retry_times: 5, queue_limit: 2 } }",
  vain = "{ limit: [ 1 ], window_size: [ 3600 ], window_type: fixed, "
    .. "throttling: { enabled: true, interval: 1, retry_times: 1 } }",
}

describe("rate-limiting-advanced: throttling", function()
  local l
  local it = modes.wrap(it, function() return l.weir end)

  setup(function()
    l = limited.start("rate-limiting-advanced", CONFIGS, { workers = 1 })
  end)

  teardown(function()
    l:stop()
  end)

  after_each(function()
    l.env:check()
  end)

  it("lets a request through when there is room again", function()
    local client = env.client()
    local begun = net.now()
    assert.same({ 200, 200, 200 }, (l:ask_many(3, "/held", client)))
    assert.is_true(net.now() - begun > 0.9)
  end)

  it("rejects when trying again did not help", function()
    env.stay_clear(3600, 20)
    local client = env.client()
    assert.equal(200, l:ask("/vain", client).status)
    local begun = net.now()
    local got = l:ask("/vain", client)
    assert.equal(429, got.status)
    assert.is_true(net.now() - begun > 0.9)
    assert.is_string(got.headers["retry-after"])
  end)

  it("holds as many as may wait, and rejects others at once", function()
    env.stay_clear(3600, 20)
    local client = env.client()
    assert.equal(200, l:ask("/held", client).status)
    local answer = l:ask_at_once(8, "/held", client)
    local count = { [200] = 0, [429] = 0 }
    for i = 1, 8 do
      local status = answer(i).status
      count[status] = count[status] + 1
    end
    -- the window may have ended in between: one more
    assert.is_true(count[200] >= 1 and count[200] <= 3)
    assert.is_true(count[429] >= 5)
  end)

  it("makes room when a client that waits leaves", function()
    env.stay_clear(3600, 20)
    local client = env.client()
    assert.equal(200, l:ask("/vain", client).status)
    for _ = 1, 20 do -- queue_limit is 5
      local c = assert(fcgi.connect(l.weir.unix))
      assert(c:send(fcgi.request({ params = { REQUEST_URI = "/vain", REMOTE_ADDR = client } })))
      net.sleep(0.05)
      c:close()
    end
    net.sleep(0.2)
    local begun = net.now()
    assert.equal(429, l:ask("/vain", client).status)
    assert.is_true(net.now() - begun > 0.9)
  end)
end)
