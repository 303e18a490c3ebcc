-- rate-limiting: the headers of the IETF draft, dry runs, old names in a config, and what
-- operators ask for.
local limited = require "plugins.limited"
local env = require "lib.env"
local modes = require "lib.modes"

local COUNTERS = [[pdk-run { access: "
  local counter = require 'weir.counter'
  local plugin = require 'kong.plugins.rate-limiting.handler'
  local conf = { minute = 5, hour = 5, limit_by = 'header', header_name = 'X-Key',
                 route_id = kong.router.get_route().id }
  local value, by = kong.request.get_header('X-Value'), kong.request.get_header('X-By')
  if not value then
    return
  end
  local all = plugin.counters(conf, value, by)
  local set = all[1]
  local used = counter.peek(set.store, set.identity, set.windows)
  kong.response.exit(200, #all .. set.name .. ' ' .. table.concat(set.titles, ',') .. ' '
    .. used[0] .. ' ' .. used[1] .. ' ' .. set.identity:match('[^:]*$'))
" }]]

local CONFIGS = {
  draft = "{ minute: 5, hour: 100.5, year: 1000000000000000000, draft_headers: true }",
  hidden = "{ minute: 5, draft_headers: true, hide_client_headers: true }",
  dry = "{ hour: 1, dry_run: true, limit_by: header, header_name: X-Key }",
  flat = "{ hour: 1, redis_host: 127.0.0.1, redis_port: 6379, redis_password: PASSWORD }",
  counters = { "{ minute: 5, hour: 5, limit_by: header, header_name: X-Key }", COUNTERS },
}

describe("rate-limiting: options", function()
  local l
  local it = modes.wrap(it, function() return l.weir end)

  setup(function()
    l = limited.start("rate-limiting", CONFIGS, {
      plugins = "rate-limiting,pdk-run",
      plugin_dir = env.srcdir .. "/plugins," .. env.srcdir .. "/spec/fixtures/plugins",
    })
  end)

  teardown(function()
    l:stop()
  end)

  after_each(function()
    l.env:check()
  end)

  it("sends the draft's headers", function()
    env.stay_clear(3600)
    env.stay_clear(60)
    local client = env.client()
    local h = l:ask("/draft", client).headers
    assert.equal('"minute";q=5;w=60, "hour";q=100;w=3600, "year";q=999999999999999',
                 h["ratelimit-policy"])
    local minute, hour, year = h["ratelimit"]:match(
      '^"minute";r=4;t=(%d+), "hour";r=99;t=(%d+), "year";r=999999999999999;t=(%d+)$')
    assert.is_true(math.abs(tonumber(minute) - (60 - os.time() % 60)) <= 1)
    assert.is_true(math.abs(tonumber(hour) - (3600 - os.time() % 3600)) <= 1)
    assert.is_true(tonumber(year) <= 366 * 86400)
    assert.equal("4", h["ratelimit-remaining"])
    local _, got = l:ask_many(5, "/draft", client)
    assert.equal(429, got.status)
    assert.matches('^"minute";r=0;t=%d+, "hour";r=95;', got.headers["ratelimit"])
  end)

  it("hides them with the others", function()
    for _, field in ipairs(l:ask("/hidden", env.client()).all) do
      assert.is_nil(field[1]:lower():find("ratelimit", 1, true))
    end
  end)

  it("only tells what it would do in a dry run", function()
    env.stay_clear(3600)
    local key = env.client()
    local params = { HTTP_X_KEY = key .. "\127" }
    local before = l.weir:log_count("would have been denied")
    for n = 1, 4 do
      local got = l:ask("/dry", env.client(), params)
      assert.equal(200, got.status)
      assert.equal("0", got.headers["x-ratelimit-remaining-hour"])
      assert.is_nil(got.headers["retry-after"])
      if n > 1 then
        assert.is_truthy(l.weir:wait_log("%[notice%] .*%[rate%-limiting%] would have been denied: "
          .. "route dry, header=" .. key:gsub("%.", "%%.") .. "%?$"))
      end
    end
    assert.equal(before + 3, l.weir:log_count("would have been denied"))
  end)

  it("takes the flat names of Redis, and says once that they are old", function()
    assert.equal(200, l:ask("/flat", env.client()).status)
    local log = l.weir:log()
    local _, served = log:gsub("%[notice%] [^\n]* serves with ", "")
    assert.equal(served, l.weir:log_count("config.redis_host is deprecated, please use "
      .. "config.redis.host instead"))
    assert.is_nil(log:find("PASSWORD", 1, true))
  end)

  it("tells operators where it counts", function()
    env.stay_clear(3600)
    env.stay_clear(60)
    local client, key = env.client(), env.client()
    l:ask("/counters", client, { HTTP_X_KEY = key })
    local got = l:ask("/counters", client, { HTTP_X_KEY = key, HTTP_X_VALUE = key })
    assert.equal("1 minute,hour 2 2 header=" .. key, got.body)
    got = l:ask("/counters", client, { HTTP_X_VALUE = client, HTTP_X_BY = "ip" })
    assert.equal("1 minute,hour 1 1 " .. client, got.body)
    local long = key .. ("x"):rep(300)
    got = l:ask("/counters", client, { HTTP_X_KEY = long, HTTP_X_VALUE = long })
    assert.matches("^1 minute,hour 1 1 " .. ("%x"):rep(40) .. "$", got.body)
  end)
end)
