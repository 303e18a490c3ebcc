-- What requests get while the store does not answer: here a Redis that is not there.
local limited = require "plugins.limited"
local env = require "lib.env"
local modes = require "lib.modes"

local function configs(e)
  local redis = ("redis: { host: 127.0.0.1, port: %d, timeout: 500 }"):format(e:port())
  return {
    passes = "{ minute: 1, policy: redis, " .. redis .. " }",
    fails = "{ minute: 1, policy: redis, fault_tolerant: false, " .. redis .. " }",
    local_then = "rate-limiting-advanced { limit: [ 2 ], window_size: [ 3600 ], strategy: redis, "
      .. "sync_rate: 0, window_type: fixed, " .. redis .. " }",
    never = "rate-limiting-advanced { limit: [ 2 ], window_size: [ 3600 ], strategy: redis, "
      .. "sync_rate: -1, window_type: fixed, redis: { host: name.invalid } }",
  }
end

describe("limits whose store is not there", function()
  local l
  local it = modes.wrap(it, function() return l.weir end)

  setup(function()
    l = limited.start("rate-limiting", configs, { workers = 1 })
  end)

  teardown(function()
    l:stop()
  end)

  after_each(function()
    l.env:check()
  end)

  local function assert_no_limits(got)
    for _, field in ipairs(got.all) do
      assert.is_nil(field[1]:lower():find("ratelimit", 1, true))
      assert.not_equal("retry-after", field[1]:lower())
    end
  end

  -- One line, where the store is away since this process began.
  local function expect_one_line()
    l.weir:expect_log("redis 127.0.0.1:%d+ does not answer", "maybe")
  end

  it("let requests pass, and say nothing of themselves", function()
    expect_one_line()
    for _ = 1, 3 do
      local got = l:ask("/passes", env.client())
      assert.equal(200, got.status)
      assert_no_limits(got)
    end
  end)

  it("refuse all requests if they are to tolerate no faults", function()
    expect_one_line()
    for _ = 1, 3 do
      local got = l:ask("/fails", env.client(), { HTTP_ACCEPT = "text/plain" })
      assert.equal(500, got.status)
      assert_no_limits(got)
      assert.equal('{"message":"An unexpected error occurred"}', got.body)
      assert.equal("application/json; charset=utf-8", got.headers["content-type"])
    end
  end)

  it("are this machine's own in rate-limiting-advanced", function()
    env.stay_clear(3600)
    expect_one_line()
    local statuses, got = l:ask_many(3, "/local_then", env.client())
    assert.same({ 200, 200, 429 }, statuses)
    assert.equal("0", got.headers["ratelimit-remaining"])
  end)

  it("need no store that they never exchange with", function()
    env.stay_clear(3600)
    assert.same({ 200, 200, 429 }, (l:ask_many(3, "/never", env.client())))
  end)
end)
