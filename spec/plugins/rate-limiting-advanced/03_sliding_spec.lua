-- Sliding windows: what rejections cost, and that a client who waits as long as it was
-- told finds room.
local limited = require "plugins.limited"
local env = require "lib.env"
local modes = require "lib.modes"
local net = require "lib.net"

local sliding = dofile("plugins/rate-limiting-advanced/sliding.lua")

describe("the time until a sliding window has room", function()
  local room_ms = sliding.room_ms

  it("is that of Kong's samples after exactly the limit", function()
    assert.equal(120000, math.ceil(room_ms(5, 5, 0, 60000, 300000) - 1e-6))
    assert.equal(38000, math.ceil(room_ms(3, 3, 0, 28000, 30000) - 1e-6))
  end)

  it("lies in this window while only the previous one is in the way", function()
    -- 10 of 10 in the window before, none in this one: room for 1 when 9/10 are left
    assert.equal(1000, room_ms(10, 0, 10, 10000, 10000))
    -- room for 1 beside 4 when the previous 10 weigh 5
    assert.equal(2500, room_ms(10, 4, 10, 7500, 10000))
    -- all of the previous one must have gone
    assert.equal(7500, room_ms(10, 9, 10, 7500, 10000))
    assert.equal(0, room_ms(10, 4, 10, 5000, 10000))
    assert.equal(0, room_ms(10, 4, 0, 5000, 10000))
  end)

  it("lies in the next one when this one is full", function()
    assert.equal(1000 + 10000, room_ms(1, 1, 0, 1000, 10000))
    assert.equal(1000 + 5000, room_ms(11, 20, 0, 1000, 10000))
    assert.equal(1000 + 10000, room_ms(0.5, 0, 0, 1000, 10000))
  end)
end)

local CONFIGS = {
  counted = "{ limit: [ 5 ], window_size: [ 60 ] }",
  free = "{ limit: [ 5 ], window_size: [ 60 ], disable_penalty: true }",
  fixed = "{ limit: [ 5 ], window_size: [ 60 ], window_type: fixed }",
  short = "{ limit: [ 3 ], window_size: [ 2 ], disable_penalty: true }",
  short_counted = "{ limit: [ 3 ], window_size: [ 2 ] }",
  two = "{ limit: [ 2, 100 ], window_size: [ 3600, 60 ], disable_penalty: true }",
}

describe("rate-limiting-advanced: sliding windows", function()
  local l
  local it = modes.wrap(it, function() return l.weir end)

  setup(function()
    l = limited.start("rate-limiting-advanced", CONFIGS)
  end)

  teardown(function()
    l:stop()
  end)

  after_each(function()
    l.env:check()
  end)

  -- The seconds of Retry-After behind the window's end, after n requests.
  local function beyond(n, path, client)
    local _, got = l:ask_many(n, path, client)
    assert.equal(429, got.status)
    assert.equal(got.headers["ratelimit-reset"], got.headers["retry-after"])
    return tonumber(got.headers["retry-after"]) - (60 - os.time() % 60)
  end

  local function assert_near(want, got)
    assert.is_true(math.abs(want - got) <= 1, ("%s is not near %s"):format(got, want))
  end

  it("tell when there is room, which rejections put off", function()
    env.stay_clear(60)
    local client = env.client()
    assert_near(60 * (1 - 4 / 6), beyond(6, "/counted", client))
    assert_near(60 * (1 - 4 / 7), beyond(1, "/counted", client))
    assert_near(60 * (1 - 4 / 10), beyond(3, "/counted", client))
  end)

  it("tell the same each time where rejections do not count", function()
    env.stay_clear(60)
    local client = env.client()
    assert_near(60 / 5, beyond(6, "/free", client))
    assert_near(60 / 5, beyond(3, "/free", client))
    assert_near(0, beyond(6, "/fixed", client))
  end)

  it("say the window's end to those that pass", function()
    env.stay_clear(60)
    local h = l:ask("/counted", env.client()).headers
    assert_near(60 - os.time() % 60, tonumber(h["ratelimit-reset"]))
    assert.equal("4", h["ratelimit-remaining"])
  end)

  it("leave other windows alone when rejections do not count", function()
    env.stay_clear(3600)
    env.stay_clear(60)
    local _, got = l:ask_many(6, "/two", env.client())
    assert.equal("98", got.headers["x-ratelimit-remaining-minute"])
  end)

  for _, path in ipairs({ "/short", "/short_counted" }) do
    it("let in who waits as long as told: " .. path, function()
      local client = env.client()
      for _ = 1, 2 do
        local got
        repeat
          got = l:ask(path, client)
        until got.status == 429
        net.sleep(tonumber(got.headers["retry-after"]))
        assert.equal(200, l:ask(path, client).status)
      end
    end)
  end
end)
