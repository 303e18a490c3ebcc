-- `weir counters` and what `weir status` says of stores: what a client has used is
-- shown, taken back and given, in memory and in stores, and running workers
-- forget that they have refused.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local limits = require "lib.limits"
local net = require "lib.net"
local stores = require "lib.stores"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local IN_MEMORY = { name = "this machine's memory", policy = "local", conf = {} }

local function routes(store)
  local policy = stores.fields(store)
  local strategy = stores.fields(store, "strategy")
  return {
    { "/ip", "rate-limiting", "hour: 5, year: 100, " .. policy },
    { "/header", "rate-limiting", "hour: 5, limit_by: header, header_name: x-user, " .. policy },
    { "/sliding", "rate-limiting-advanced",
      "limit: [ 5 ], window_size: [ 86400 ], sync_rate: 0, identifier: ip, " .. strategy },
    { "/now-and-then", "rate-limiting-advanced", "limit: [ 5 ], window_size: [ 86400 ], "
      .. "window_type: fixed, sync_rate: 0.2, identifier: ip, " .. strategy },
  }
end

for _, name in ipairs({ IN_MEMORY.name, "redis", "postgres", "sqlite" }) do
  describe("weir counters with " .. name, function()
    local e, store, w, client

    setup(function()
      e = env.new()
      local service = upstream.nginx(e)
      store = name == IN_MEMORY.name and IN_MEMORY or stores.start(e, name)
      w = weir.new(e, { conf = store.conf, yml = stores.yml(service.url, routes(store)) })
      stores.migrate(store, w)
      w:start()
      stores.stay_in_hour()
    end)

    teardown(function()
      if w then
        w:stop()
      end
      e:destroy()
    end)

    before_each(function()
      client = env.client()
    end)

    after_each(function()
      e:check()
    end)

    -- How many of n requests are let pass.
    local function ask(path, n, user)
      local passed = 0
      for _ = 1, n do
        local answer = assert(fcgi.once(w.unix, { params = {
          REQUEST_URI = path, REMOTE_ADDR = client, HTTP_X_USER = user,
        } }))
        assert.is_true(answer.status == 200 or answer.status == 429, answer.status)
        passed = passed + (answer.status == 200 and 1 or 0)
      end
      return passed
    end

    local function counters(...)
      local text, code = w:command("counters", { args = { ... } })
      assert.equal(0, code, text)
      return text
    end

    -- used, limit, remaining of a window
    local function row(text, window)
      local used, limit, remaining =
        text:match("\n" .. window .. " +([%d.]+) +(%d+) +(%d+) +%d+ s\n")
      assert.is_truthy(used, text)
      return { tonumber(used), tonumber(limit), tonumber(remaining) }
    end

    it("shows what was used", function()
      local text = counters("get", "rate-limiting", client, "--route", "route-1")
      assert.same({ 0, 5, 5 }, row(text, "hour"))
      assert.equal(3, ask("/ip", 3))
      text = counters("get", "rate-limiting", client, "--route", "route-1")
      assert.same({ 3, 5, 2 }, row(text, "hour"))
      assert.same({ 3, 100, 97 }, row(text, "year"))
      assert.is_truthy(text:find("rate-limiting (route route-1), " .. client, 1, true), text)
      assert.equal(2, ask("/ip", 4)) -- looking has used nothing
    end)

    it("lets a client in again at once that every worker has refused", function()
      assert.equal(5, ask("/ip", 30))
      local text = counters("reset", "rate-limiting", client, "--route=route-1")
      assert.same({ 0, 5, 5 }, row(text, "hour"))
      assert.same({ 0, 100, 100 }, row(text, "year"))
      assert.equal(5, ask("/ip", 30))
    end)

    it("gives so many more", function()
      assert.equal(5, ask("/ip", 30))
      local text = counters("grant", "rate-limiting", client, "2", "--route", "route-1")
      assert.same({ 3, 5, 2 }, row(text, "hour"))
      assert.equal(2, ask("/ip", 30))
    end)

    it("knows the values of headers, and addresses that stand in for them", function()
      assert.equal(5, ask("/header", 6, "joe"))
      assert.equal(5, ask("/header", 6))
      assert.same({ 5, 5, 0 },
                  row(counters("get", "rate-limiting", "joe", "--route", "route-2"), "hour"))
      counters("reset", "rate-limiting", "joe", "--route", "route-2")
      assert.equal(1, ask("/header", 1, "joe"))
      assert.equal(0, ask("/header", 1))
      counters("reset", "rate-limiting", client, "--route", "route-2", "--by", "ip")
      assert.equal(1, ask("/header", 1))
    end)

    it("counts in sliding windows", function()
      local who = { client, "--route", "route-3" }
      assert.equal(5, ask("/sliding", 6))
      local used = row(counters("get", "rate-limiting-advanced", unpack(who)), "day")[1]
      assert.equal(6, used) -- the refused one too
      assert.same({ 0, 5, 5 },
                  row(counters("reset", "rate-limiting-advanced", unpack(who)), "day"))
      assert.equal(5, ask("/sliding", 6))
    end)

    it("counts what is exchanged now and then", function()
      local who = { client, "--route", "route-4" }
      assert.equal(5, ask("/now-and-then", 6))
      assert.same({ 5, 5, 0 },
                  row(counters("get", "rate-limiting-advanced", unpack(who)), "day"))
      assert.same({ 0, 5, 5 },
                  row(counters("reset", "rate-limiting-advanced", unpack(who)), "day"))
      assert.equal(5, ask("/now-and-then", 6))
    end)

    it("is told of by weir status", function()
      ask("/ip", 30)
      local text, code = w:command("status")
      assert.equal(0, code, text)
      assert.matches("\ncounters +%d+ of %d+ slots used %(.-%%%) in %d+%.%d MiB", text)
      if store == IN_MEMORY then
        assert.is_nil(text:find("\nstore", 1, true))
        return
      end
      local kind = name:match("^%w+")
      local state, asked, merged, trips, remembered, failed =
        text:match("\n" .. kind .. " %S+ +(%w+) +(%d+) +(%d+) +(%d+) +(%d+) +(%d+)\n")
      assert.equal("ok", state, text)
      assert.is_true(tonumber(asked) >= 30, text)
      assert.is_true(tonumber(trips) >= 6, text)
      assert.is_true(tonumber(remembered) >= 10, text)
      assert.equal("0", failed)
      assert.equal("0", merged) -- one after the other
    end)
  end)
end

describe("weir counters", function()
  local e, service, w

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    local yml = stores.yml(service.url, {
      { "/a", "rate-limiting", "hour: 5" },
      { "/b", "rate-limiting", "hour: 5, policy: cluster" },
      { "/c", "response-ratelimiting", "limits: { video: { hour: 3 }, sms: { day: 2 } }" },
      { "/d" },
    }, "    plugins:\n      - name: rate-limiting\n        config: { hour: 7 }\n")
    w = weir.new(e, { conf = { sqlite_file = e:path("run/weir.db") }, yml = yml })
  end)

  teardown(function()
    e:destroy()
  end)

  local function counters(code, ...)
    local text, status = w:command("counters", { args = { ... } })
    assert.equal(code, status, text)
    return text
  end

  it("misused ends with status 2 and says how it is used", function()
    for _, words in ipairs({
      {}, { "get" }, { "get", "rate-limiting" }, { "take", "rate-limiting", "a" },
      { "get", "rate-limiting", "a", "b" }, { "grant", "rate-limiting", "a" },
      { "grant", "rate-limiting", "a", "0" }, { "grant", "rate-limiting", "a", "1.5" },
      { "grant", "rate-limiting", "a", "many" }, { "get", "rate-limiting", "a", "--route" },
      { "get", "rate-limiting", "a", "--nonsense" },
      { "get", "rate-limiting", "a", "--by", "nonsense" },
    }) do
      assert.matches("Usage: weir counters", counters(2, unpack(words)))
    end
  end)

  it("says which entries there are when the name fits several", function()
    local text = counters(1, "get", "rate-limiting", "10.0.0.1")
    assert.matches("more than once", text)
    assert.matches("%x+%-%x+%-%x+%-%x+%-%x+  route route%-1\n", text)
    assert.matches("  service service\n", text)
    text = counters(1, "get", "rate-limiting", "10.0.0.1", "--route", "route-4")
    assert.matches("no plugin rate%-limiting is configured for that scope", text)
    assert.matches("no plugin nonsense is configured", counters(1, "get", "nonsense", "10.0.0.1"))
  end)

  it("looks into stores while weir does not run, and says that memory is gone", function()
    local text = counters(1, "get", "rate-limiting", "10.0.0.1", "--route", "route-1")
    assert.matches("weir is not running", text)
    text = counters(1, "get", "rate-limiting", "10.0.0.1", "--route", "route-2")
    assert.matches("run: weir migrations up", text)
    local _, status = w:command("migrations", { args = { "up" } })
    assert.equal(0, status)
    text = counters(0, "get", "rate-limiting", "10.0.0.1", "--route", "route-2")
    assert.matches("\nhour +0 +5 +5 ", text)
    assert.matches("in sqlite ", text)
    assert.same({}, e:regions())
  end)

  it("that cannot reach a store says so, as weir status does", function()
    assert.equal(0, (select(2, w:command("migrations", { args = { "up" } }))))
    w:start()
    local file = e:path("run/weir.db")
    local function status()
      return (w:command("status"))
    end
    local function ask()
      return assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/b" } })).status
    end
    assert.equal(200, ask())
    assert.matches("\nsqlite %S+ +ok ", status())
    assert(os.rename(file, file .. ".away"))
    assert.equal(200, ask()) -- it is fault tolerant
    assert.matches("\nsqlite %S+ +not answering for %d+ s ", status())
    assert.matches("there is no such file",
                   counters(1, "get", "rate-limiting", "127.0.0.1", "--route", "route-2"))
    assert(os.rename(file .. ".away", file))
    net.wait_until(10, function()
      return ask() == 200 and status():match("\nsqlite %S+ +ok ")
    end)
    assert.matches("\nsqlite %S+ +ok ", status())
    w:expect_log("does not answer: there is no such file; run: weir migrations up")
    w:stop()
    e:check()
  end)

  it("shows a store that answers after a reload with the right password", function()
    local store = stores.start(e, "redis", { password = "right" })
    local good = stores.yml(service.url, {
      { "/r", "rate-limiting", "hour: 5, " .. stores.fields(store) } })
    local before = e:read("weir.yml")
    w:write_yml((good:gsub("password: right", "password: wrong")))
    w:start()
    local function ask()
      return assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/r" } })).status
    end
    local function status()
      return (w:command("status"))
    end
    w:expect_log("redis .* does not answer: ", "any")
    assert.equal(200, ask())
    assert.matches("\nredis %S+ +not answering for %d+ s ", status())
    w:write_yml(good)
    assert(w:reload())
    assert.matches("\nredis %S+ +not asked since a reload ", status())
    for _ = 1, 4 do -- both workers
      assert.equal(200, ask())
    end
    assert.matches("\nredis %S+ +ok ", status())
    assert.equal(1, w:log_count("redis .* answers again"))
    w:stop()
    w:write_yml(before)
    e:check()
  end)

  it("does nothing where the store does not answer, and says why", function()
    local redis = "policy: redis, redis: { host: 127.0.0.1, port: " .. e:port() .. " }"
    local before = e:read("weir.yml")
    w:write_yml(stores.yml(service.url, {
      { "/r", "rate-limiting", "hour: 5, " .. redis },
      { "/s", "rate-limiting-advanced", "limit: [ 5 ], window_size: [ 60 ], sync_rate: 0.2, "
        .. "identifier: ip, " .. redis:gsub("policy", "strategy") } }))
    for _, words in ipairs({ { "get", "rate-limiting", "10.0.0.1" },
                             { "get", "rate-limiting-advanced", "10.0.0.1" },
                             { "reset", "rate-limiting-advanced", "10.0.0.1" },
                             { "grant", "rate-limiting-advanced", "10.0.0.1", "3" } }) do
      assert.matches("\nweir: redis 127.0.0.1:%d+ does not answer: .*Connection refused\n$",
                     counters(1, unpack(words)))
    end
    w:write_yml(before)
  end)

  it("finds an entry by service or id, and names each limit", function()
    w:start()
    local id = counters(1, "get", "rate-limiting", "10.0.0.1")
               :match("(%x+%-%x+%-%x+%-%x+%-%x+)  service service")
    assert.matches("\nhour +0 +7 +7 ", counters(0, "get", id, "10.0.0.1"))
    local text = counters(0, "get", "response-ratelimiting", "10.0.0.1")
    assert.matches("\nvideo hour +0 +3 +3 ", text)
    assert.matches("\nsms day +0 +2 +2 ", text)
    w:stop()
    e:check()
  end)

  it("tells of weir.yml what is wrong with it", function()
    w:write_yml((limits.sample_yml(service.url):gsub("minute: 5", "minute: five")))
    assert.matches("expected a number", counters(1, "get", "rate-limiting", "10.0.0.1"))
  end)
end)
