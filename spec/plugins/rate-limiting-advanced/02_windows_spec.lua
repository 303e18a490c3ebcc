-- rate-limiting-advanced with the strategy local, driven over FastCGI: windows, what is
-- counted together, headers, rejections.
require "native"
local limited = require "plugins.limited"
local identity = require "weir.store.identity"
local env = require "lib.env"
local modes = require "lib.modes"
local net = require "lib.net"

-- What operators are told of the route's own plugin, for the identifier in X-Value.
local COUNTERS = [[pdk-run { access: "
  local counter = require 'weir.counter'
  local plugin = require 'kong.plugins.rate-limiting-advanced.handler'
  local conf = { limit = { 50, 5 }, window_size = { 3600, 7 }, namespace = 'counters {a}:',
                 window_type = 'sliding', compound_identifier = { 'header', 'ip', 'route' } }
  local value = kong.request.get_header('X-Value')
  local sets, err = plugin.counters(conf, value or '')
  if not value then
    return kong.response.exit(200, err or '')
  end
  local set = sets[1]
  local used = counter.peek(set.store, set.identity, set.windows)
  kong.response.exit(200, #sets .. set.name .. ' ' .. table.concat(set.titles, ',') .. ' '
    .. used[0] .. ' ' .. used[1] .. ' ' .. set.identity)
" }]]

local CONFIGS = {
  counters = { "{ limit: [ 50, 5 ], window_size: [ 3600, 7 ], namespace: 'counters {a}:', "
    .. "compound_identifier: [ header, ip, route ], header_name: X-Key }", COUNTERS },
  five = "{ limit: [ 5 ], window_size: [ 30 ], window_type: fixed }",
  two = "{ limit: [ 100, 3 ], window_size: [ 3600, 60 ], window_type: fixed }",
  odd = "{ limit: [ 9, 8, 7, 6, 2, 50 ], "
    .. "window_size: [ 31536000, 2592000, 86400, 7, 1, 31536000 ], window_type: fixed }",
  header = "{ limit: [ 1 ], window_size: [ 3600 ], identifier: header, header_name: X-Key }",
  path = "{ limit: [ 1 ], window_size: [ 3600 ], identifier: path, path: /path/a }",
  route = "{ limit: [ 1 ], window_size: [ 3600 ], identifier: route }",
  compound = "{ limit: [ 1 ], window_size: [ 3600 ], compound_identifier: [ header, ip ], "
    .. "header_name: X-Key }",
  pair = "{ limit: [ 1 ], window_size: [ 3600 ], compound_identifier: [ header, path ], "
    .. "header_name: X-Key, path: /pair }",
  own1 = "{ limit: [ 2 ], window_size: [ 3600 ] }",
  own2 = "{ limit: [ 2 ], window_size: [ 3600 ] }",
  same1 = "{ limit: [ 2 ], window_size: [ 3600 ], namespace: 'a b:c', disable_penalty: true }",
  same2 = "{ limit: [ 3 ], window_size: [ 3600 ], namespace: 'a b:c', disable_penalty: true }",
  hidden = "{ limit: [ 1 ], window_size: [ 3600 ], hide_client_headers: true }",
  other = "{ limit: [ 1 ], window_size: [ 3600 ], error_code: 503, error_message: 'go \"away\"' }",
  jitter = "{ limit: [ 1 ], window_size: [ 3600 ], window_type: fixed, "
    .. "retry_after_jitter_max: 1000 }",
  nulls = "{ limit: [ 1 ], window_size: [ 3600 ], error_code: ~, error_message: ~, "
    .. "disable_penalty: ~, hide_client_headers: ~, retry_after_jitter_max: ~, namespace: ~ }",
  draft = "{ limit: [ 5, 10 ], window_size: [ 30, 3600 ], window_type: fixed, "
    .. "draft_headers: true }",
  dry = "{ limit: [ 1 ], window_size: [ 3600 ], dry_run: true, "
    .. "throttling: { enabled: true, interval: 1000 } }",
  old = "rate-limiting { limit: '2,3', window_size: '60,3600', sync_rate: -1 }",
}

describe("rate-limiting-advanced", function()
  local l
  local it = modes.wrap(it, function() return l.weir end)

  setup(function()
    l = limited.start("rate-limiting-advanced", CONFIGS, {
      plugins = "rate-limiting,rate-limiting-advanced,pdk-run",
      plugin_dir = env.srcdir .. "/plugins," .. env.srcdir .. "/spec/fixtures/plugins",
    })
  end)

  teardown(function()
    l:stop()
  end)

  after_each(function()
    l.env:check()
  end)

  it("counts in a fixed window of any size", function()
    env.stay_clear(30)
    local client = env.client()
    for left = 4, 0, -1 do
      local got = l:ask("/five", client)
      local h = got.headers
      assert.equal(200, got.status)
      assert.equal("5", h["x-ratelimit-limit-30"])
      assert.equal(tostring(left), h["x-ratelimit-remaining-30"])
      assert.equal("5", h["ratelimit-limit"])
      assert.equal(tostring(left), h["ratelimit-remaining"])
      assert.is_true(math.abs(tonumber(h["ratelimit-reset"]) - (30 - os.time() % 30)) <= 1)
      assert.is_nil(h["retry-after"])
    end
    local got = l:ask("/five", client, { HTTP_ACCEPT = "text/html" })
    local h = got.headers
    assert.equal(429, got.status)
    assert.equal("0", h["x-ratelimit-remaining-30"])
    assert.is_true(math.abs(tonumber(h["ratelimit-reset"]) - (30 - os.time() % 30)) <= 1)
    assert.equal(h["ratelimit-reset"], h["retry-after"])
    assert.equal("application/json; charset=utf-8", h["content-type"])
    assert.equal("37", h["content-length"])
    assert.equal('{"message":"API rate limit exceeded"}', got.body)
  end)

  it("decides over several windows at once", function()
    env.stay_clear(3600)
    env.stay_clear(60)
    local client = env.client()
    local statuses, got = l:ask_many(5, "/two", client)
    assert.same({ 200, 200, 200, 429, 429 }, statuses)
    local h = got.headers
    assert.equal("0", h["x-ratelimit-remaining-minute"])
    assert.equal("97", h["x-ratelimit-remaining-hour"])
    assert.equal("3", h["ratelimit-limit"])
  end)

  it("names windows as Kong does, and counts a size that stands twice once", function()
    local h = l:ask("/odd", env.client()).headers
    for name, limit in pairs({ second = 2, ["7"] = 6, day = 7, month = 8, year = 9 }) do
      assert.equal(tostring(limit), h["x-ratelimit-limit-" .. name], name)
      assert.equal(tostring(limit - 1), h["x-ratelimit-remaining-" .. name], name)
    end
  end)

  it("counts by a header, a path, a route", function()
    env.stay_clear(3600)
    local key = env.client()
    assert.equal(200, l:ask("/header", env.client(), { HTTP_X_KEY = key }).status)
    assert.equal(429, l:ask("/header", env.client(), { HTTP_X_KEY = key }).status)
    assert.equal(200, l:ask("/header", key).status)
    l:ask("/path/a", env.client())
    assert.equal(429, l:ask("/path/a", env.client()).status)
    assert.equal(200, l:ask("/path/b", env.client()).status)
    l:ask("/route", env.client())
    assert.equal(429, l:ask("/route/other", env.client()).status)
  end)

  it("counts by several things together, whatever they hold", function()
    env.stay_clear(3600)
    local a, b, key = env.client(), env.client(), env.client()
    local function compound(client, value)
      return l:ask("/compound", client, { HTTP_X_KEY = value }).status
    end
    assert.equal(200, compound(a, key))
    assert.equal(429, compound(a, key))
    assert.equal(200, compound(b, key))
    assert.equal(200, compound(a, key .. "x"))
    assert.equal(200, compound(a))
    -- a value that looks like the end of one part and the beginning of the next
    assert.equal(200, l:ask("/pair", a, { HTTP_X_KEY = key }).status)
    assert.equal(200, l:ask("/pair", a, { HTTP_X_KEY = key .. ";path=5:/pair" }).status)
    assert.equal(200, l:ask("/pair/x", a, { HTTP_X_KEY = key }).status)
    assert.equal(429, l:ask("/pair", b, { HTTP_X_KEY = key }).status)
  end)

  it("has counters of its own, or shares those of its namespace", function()
    env.stay_clear(3600)
    local client = env.client()
    assert.same({ 200, 200, 429 }, (l:ask_many(3, "/own1", client)))
    assert.same({ 200, 200, 429 }, (l:ask_many(3, "/own2", client)))
    assert.same({ 200, 200, 429 }, (l:ask_many(3, "/same1", client)))
    assert.same({ 200, 429 }, (l:ask_many(2, "/same2", client)))
  end)

  it("keeps its counters over a reload", function()
    env.stay_clear(3600)
    local client = env.client()
    assert.same({ 200, 200, 429 }, (l:ask_many(3, "/own1", client)))
    assert.is_true(l.weir:reload())
    assert.equal(429, l:ask("/own1", client).status)
  end)

  it("can hide its headers", function()
    local client = env.client()
    for _, want in ipairs({ 200, 429 }) do
      local got = l:ask("/hidden", client)
      assert.equal(want, got.status)
      for _, field in ipairs(got.all) do
        assert.is_nil(field[1]:lower():find("ratelimit", 1, true))
        assert.not_equal("retry-after", field[1]:lower())
      end
    end
  end)

  it("rejects with another status and message", function()
    local _, got = l:ask_many(2, "/other", env.client())
    assert.equal(503, got.status)
    assert.equal('{"message":"go \\"away\\""}', got.body)
    _, got = l:ask_many(2, "/nulls", env.client())
    assert.equal(429, got.status)
    assert.equal('{"message":"Too many requests"}', got.body)
  end)

  it("adds seconds to Retry-After by chance", function()
    env.stay_clear(3600)
    local client, seen, kinds = env.client(), {}, 0
    l:ask("/jitter", client)
    for _ = 1, 10 do
      local h = l:ask("/jitter", client).headers
      local more = tonumber(h["retry-after"]) - tonumber(h["ratelimit-reset"])
      assert.is_true(more >= 0 and more <= 1000)
      kinds = kinds + (seen[more] and 0 or 1)
      seen[more] = true
    end
    assert.is_true(kinds > 1)
  end)

  it("sends the draft's headers", function()
    env.stay_clear(30)
    env.stay_clear(3600)
    local client = env.client()
    local h = l:ask("/draft", client).headers
    assert.equal('"30";q=5;w=30, "hour";q=10;w=3600', h["ratelimit-policy"])
    assert.matches('^"30";r=4;t=%d+, "hour";r=9;t=%d+$', h["ratelimit"])
    local _, got = l:ask_many(5, "/draft", client)
    assert.equal(429, got.status)
    assert.matches('^"30";r=0;t=%d+, "hour";r=5;t=%d+$', got.headers["ratelimit"])
  end)

  it("only tells what it would do in a dry run", function()
    env.stay_clear(3600)
    local client = env.client()
    assert.equal(200, l:ask("/dry", client).status)
    local before = l.weir:log_count("would have been denied")
    local begun = net.now()
    local got = l:ask("/dry", client)
    assert.equal(200, got.status)
    assert.is_true(net.now() - begun < 10)
    assert.equal("0", got.headers["ratelimit-remaining"])
    assert.is_nil(got.headers["retry-after"])
    assert.is_truthy(l.weir:wait_log("%[notice%] .*%[rate%-limiting%-advanced%] would have been "
      .. "denied: route dry, " .. client:gsub("%.", "%%.") .. "$"))
    assert.equal(before + 1, l.weir:log_count("would have been denied"))
  end)

  it("tells operators where it counts", function()
    env.stay_clear(3600)
    env.stay_clear(7, 3)
    local client, key = env.client(), env.client()
    local got = l:ask("/counters", client, { HTTP_X_KEY = key })
    assert.equal("3 values are needed, in this order: header, ip, route", got.body)
    local route = identity.of({ kind = "routes", value = { name = "counters" }, refs = {} }, {})
    got = l:ask("/counters", client, {
      HTTP_X_KEY = key, HTTP_X_VALUE = key .. "," .. client .. "," .. route,
    })
    assert.equal(("1 7,hour 2 2 ratelimit-advanced:counters%%20%%7Ba%%7D%%3A:header=%d:%s;ip=%d:%s;"
      .. "route=36:%s;"):format(#key, key, #client, client, route), got.body)
  end)

  it("stands behind the older name, too", function()
    env.stay_clear(60)
    local statuses, got = l:ask_many(3, "/old", env.client())
    assert.same({ 200, 200, 429 }, statuses)
    assert.equal("2", got.headers["x-ratelimit-limit-minute"])
    assert.equal("3", got.headers["x-ratelimit-limit-hour"])
    local line = "rate%-limiting: a config with limit and window_size is deprecated, please use "
      .. "rate%-limiting%-advanced instead"
    -- one for each time that the configuration was read
    local _, served = l.weir:log():gsub("%[notice%] [^\n]* serves with ", "")
    assert.equal(served, l.weir:log_count(line))
  end)
end)
