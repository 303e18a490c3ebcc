-- rate-limiting with the policy local, driven over FastCGI: what is counted
-- together, what the headers say, what a rejection looks like.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

-- name of the service -> its routes, each with the config of its plugin (YAML in braces).
local SERVICES = {
  { name = "one", routes = {
    minute = "{ minute: 5 }",
    windows = "{ second: 5, hour: 100 }",
    hour = "{ minute: 3, hour: 3 }",
    header = "{ hour: 2, limit_by: header, header_name: X-Key }",
    under = "{ hour: 2, limit_by: header, header_name: x_key }",
    path = "{ hour: 2, limit_by: path, path: /path/a }",
    byip = "{ hour: 2, limit_by: ip }",
    byservice = "{ hour: 2, limit_by: service }",
    credential = "{ hour: 2, limit_by: credential }",
    hidden = "{ hour: 1, hide_client_headers: true }",
    other = "{ hour: 1, error_code: 403, error_message: 'go \"away\"' }",
    half = "{ hour: 2.5 }",
    nulls = "{ hour: 1, limit_by: ~, error_code: ~, error_message: ~, policy: ~, path: ~ }",
    large = "{ year: 1000000 }",
  } },
  { name = "shared", config = "{ hour: 3 }", routes = { s1 = false, s2 = false } },
}

local function yml(url)
  local out = { '_format_version: "3.0"', "services:" }
  local function plugin(indent, config)
    out[#out + 1] = indent .. "plugins:"
    out[#out + 1] = indent .. "  - name: rate-limiting"
    out[#out + 1] = indent .. "    config: " .. config
  end
  for _, service in ipairs(SERVICES) do
    out[#out + 1] = "  - name: " .. service.name
    out[#out + 1] = "    url: " .. url
    if service.config then
      plugin("    ", service.config)
    end
    out[#out + 1] = "    routes:"
    for name, config in pairs(service.routes) do
      out[#out + 1] = "      - name: " .. name
      out[#out + 1] = "        paths: [ /" .. name .. " ]"
      if config then
        plugin("        ", config)
      end
    end
  end
  return table.concat(out, "\n") .. "\n"
end

describe("rate-limiting", function()
  local e, w
  local it = modes.wrap(it, function() return w end)

  setup(function()
    e = env.new()
    local service = upstream.nginx(e)
    w = weir.new(e, { yml = yml(service.url), conf = { workers = 2 } })
    w:start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local function ask(path, client, params)
    local all = { REQUEST_URI = path, REMOTE_ADDR = client }
    for name, value in pairs(params or {}) do
      all[name] = value
    end
    return assert(fcgi.once(w.unix, { params = all }))
  end

  -- The statuses of n requests, and the last answer.
  local function ask_many(n, path, client, params)
    local statuses, got = {}, nil
    for i = 1, n do
      got = ask(path, client, params)
      statuses[i] = got.status
    end
    return statuses, got
  end

  it("lets the limit through and says what is left", function()
    env.stay_clear(60)
    local client = env.client()
    for left = 4, 0, -1 do
      local got = ask("/minute", client)
      local h = got.headers
      assert.equal(200, got.status)
      assert.equal("5", h["x-ratelimit-limit-minute"])
      assert.equal(tostring(left), h["x-ratelimit-remaining-minute"])
      assert.equal("5", h["ratelimit-limit"])
      assert.equal(tostring(left), h["ratelimit-remaining"])
      local reset = tonumber(h["ratelimit-reset"])
      assert.is_true(math.abs(reset - (60 - os.time() % 60)) <= 1)
      assert.is_nil(h["retry-after"])
    end
    local got = ask("/minute", client)
    local h = got.headers
    assert.equal(429, got.status)
    assert.equal("0", h["ratelimit-remaining"])
    assert.equal("0", h["x-ratelimit-remaining-minute"])
    assert.equal(h["ratelimit-reset"], h["retry-after"])
    assert.equal("application/json; charset=utf-8", h["content-type"])
    assert.equal('{"message":"API rate limit exceeded"}', got.body)
    assert.equal("37", h["content-length"])
  end)

  it("names its headers as Kong does", function()
    local names = {}
    for _, field in ipairs(ask("/windows", env.client()).all) do
      names[field[1]] = true
    end
    for _, name in ipairs({ "X-RateLimit-Limit-Second", "X-RateLimit-Remaining-Second",
                            "X-RateLimit-Limit-Hour", "X-RateLimit-Remaining-Hour",
                            "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset" }) do
      assert.is_true(names[name], name)
    end
  end)

  it("counts a rejected request in no window", function()
    env.stay_clear(3600)
    local client, got, passed = env.client(), nil, 0
    for _ = 1, 20 do
      got = ask("/windows", client)
      passed = passed + (got.status == 200 and 1 or 0)
    end
    assert.is_true(passed >= 5 and passed < 20)
    assert.equal(tostring(100 - passed), got.headers["x-ratelimit-remaining-hour"])
  end)

  it("describes the window that ends last when several are exhausted", function()
    env.stay_clear(60)
    local client = env.client()
    local statuses, got = ask_many(4, "/hour", client)
    assert.same({ 200, 200, 200, 429 }, statuses)
    assert.equal("0", got.headers["x-ratelimit-remaining-minute"])
    assert.equal("0", got.headers["x-ratelimit-remaining-hour"])
    local reset = tonumber(got.headers["ratelimit-reset"])
    assert.is_true(math.abs(reset - (3600 - os.time() % 3600)) <= 1)
    assert.equal(got.headers["ratelimit-reset"], got.headers["retry-after"])
  end)

  it("counts by header, and by address where there is none", function()
    env.stay_clear(3600)
    local client, key = env.client(), env.client()
    assert.same({ 200, 200, 429 }, (ask_many(3, "/header", client, { HTTP_X_KEY = key })))
    assert.same({ 429 }, (ask_many(1, "/header", env.client(), { HTTP_X_KEY = key })))
    assert.same({ 200, 200, 429 }, (ask_many(3, "/header", client)))
    assert.same({ 200 }, (ask_many(1, "/header", env.client())))
  end)

  it("counts by a header whose name is written with _", function()
    env.stay_clear(3600)
    local client, key = env.client(), env.client()
    assert.same({ 200, 200, 429 }, (ask_many(3, "/under", client, { HTTP_X_KEY = key })))
    assert.same({ 429 }, (ask_many(1, "/under", env.client(), { HTTP_X_KEY = key })))
  end)

  it("does not let a header's value use up what an address has left", function()
    env.stay_clear(3600)
    local victim = env.client()
    assert.same({ 200, 200, 429 }, (ask_many(3, "/header", env.client(), { HTTP_X_KEY = victim })))
    assert.same({ 200, 200, 429 }, (ask_many(3, "/header", victim)))
  end)

  it("tells long values of a header apart", function()
    env.stay_clear(3600)
    local long = env.client() .. ("x"):rep(3000)
    assert.same({ 200, 200, 429 }, (ask_many(3, "/header", env.client(), { HTTP_X_KEY = long })))
    assert.same({ 200 }, (ask_many(1, "/header", env.client(), { HTTP_X_KEY = long .. "x" })))
    assert.same({ 429 }, (ask_many(1, "/header", env.client(), { HTTP_X_KEY = long })))
  end)

  it("takes nulls for what is not said", function()
    local client = env.client()
    local statuses, got = ask_many(2, "/nulls", client)
    assert.same({ 200, 429 }, statuses)
    assert.equal('{"message":"Too many requests"}', got.body)
  end)

  it("counts exactly one path together", function()
    env.stay_clear(3600)
    local client = env.client()
    -- How many the path has room for depends on the examples before (a mode repeats them).
    ask_many(2, "/path/a", client)
    assert.equal(429, ask("/path/a", env.client()).status)
    assert.equal(429, ask("/path/%61?x=1", env.client()).status)
    assert.same({ 200, 200, 429 }, (ask_many(3, "/path/b", client)))
    assert.equal(429, ask("/path/a/", client).status)
  end)

  it("counts by address, service, and what stands in for a credential", function()
    env.stay_clear(3600)
    local client = env.client()
    assert.same({ 200, 200, 429 }, (ask_many(3, "/byip", client)))
    assert.equal(200, ask("/byip", env.client()).status)
    assert.same({ 200, 200, 429 }, (ask_many(3, "/credential", client)))
    assert.equal(200, ask("/credential", env.client()).status)
    ask_many(2, "/byservice", client)
    assert.equal(429, ask("/byservice", env.client()).status)
  end)

  it("shares a service's counter between its routes", function()
    env.stay_clear(3600)
    local client = env.client()
    assert.same({ 200, 200 }, (ask_many(2, "/s1", client)))
    assert.same({ 200, 429 }, (ask_many(2, "/s2", client)))
    assert.equal(429, ask("/s1", client).status)
  end)

  it("can hide its headers", function()
    local client = env.client()
    for _, want in ipairs({ 200, 429 }) do
      local got = ask("/hidden", client)
      assert.equal(want, got.status)
      for _, field in ipairs(got.all) do
        assert.is_nil(field[1]:lower():find("ratelimit", 1, true))
        assert.not_equal("retry-after", field[1]:lower())
      end
    end
  end)

  it("rejects with another status and message", function()
    local client = env.client()
    local _, got = ask_many(2, "/other", client)
    assert.equal(403, got.status)
    assert.equal('{"message":"go \\"away\\""}', got.body)
    got = ask("/other", client, { HTTP_ACCEPT = "text/plain" })
    assert.equal('go "away"\n', got.body)
    assert.equal("text/plain; charset=utf-8", got.headers["content-type"])
  end)

  it("takes limits that are no integers, and large ones", function()
    local client = env.client()
    local statuses, got = ask_many(3, "/half", client)
    assert.same({ 200, 200, 429 }, statuses)
    assert.equal("2.5", got.headers["ratelimit-limit"])
    assert.equal("0", got.headers["ratelimit-remaining"])
    got = ask("/large", client)
    assert.equal("1000000", got.headers["ratelimit-limit"])
    assert.equal("999999", got.headers["ratelimit-remaining"])
    assert.is_true(tonumber(got.headers["ratelimit-reset"]) <= 366 * 86400)
  end)
end)
