-- A vault that is away, slow or strange while Redis wants the password from it: at
-- the start the plugin fails as fault_tolerant says and the rest serves; later the
-- last value stays, and the log says so once; no request ever waits for a vault.
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local redis = require "lib.redis"
local teller = require "lib.teller"
local upstream = require "lib.upstream"
local vaults = require "lib.vaults"
local weir = require "lib.weir"

local waiting_it = modes.waiting(it)
local it = modes.first_without_jit(it)

local YML = [[
_format_version: "3.0"
%s
services:
  - name: service
    url: %s
    routes:
      - { name: plain, paths: [ /plain ] }
      - name: open
        paths: [ /open ]
        plugins: [ { name: rate-limiting, config: { hour: 1000000, %s, fault_tolerant: true } } ]
      - name: closed
        paths: [ /closed ]
        plugins: [ { name: rate-limiting, config: { hour: 1000000, %s, fault_tolerant: false } } ]
      - name: near
        paths: [ /near ]
        plugins: [ { name: rate-limiting, config: { hour: 1, policy: local } } ]
%s
]]

-- The faults in which a look-up fails, and what the log must not be silent about.
local FAULTS = {
  ["answers 403"] = { status = 403, body = '{"errors":["permission denied"]}' },
  ["answers 500"] = { status = 500, body = "oh" },
  ["answers 429"] = { status = 429, body = "{}" },
  ["answers garbage"] = { garbage = true },
  ["answers what is no HTTP"] = { raw = "\0\1\2 no HTTP\r\n\r\n" },
  ["answers JSON of another form"] = { body = '{"data":["x"],"payload":7,"value":{}}' },
  ["answers an empty body"] = { body = "" },
  ["answers with too much"] = { huge = 3 * 1024 * 1024 },
  ["hangs up"] = { drop = true },
  ["hangs up in the middle"] = { body = ("x"):rep(2000), cut = 3, reset = true },
  ["redirects"] = { status = 307, headers = { Location = "http://127.0.0.1:1/" } },
  ["says nothing"] = { hang = true },
  ["answers a byte at a time"] = { drip = { bytes = 1, s = 0.5 } },
}

describe("a vault", function()
  local e, w, store, vault, service, reference

  local function policy(password)
    return ("policy: redis, redis: { host: 127.0.0.1, port: %d, password: '%s', timeout: 1000 }")
           :format(store.port, password or reference)
  end

  local function route(path, plugin, config)
    return ("      - { name: r%s, paths: [ %s ], plugins: [ { name: %s, config: { %s } } ] }\n")
           :format(path:gsub("/", "-"), path, plugin, config)
  end

  local function prepare(kind, password)
    e = env.new()
    service = upstream.nginx(e)
    vault = vaults.start(e, kind, nil, "ttl: 0.6, neg_ttl: 0.2")
    store = redis.start(e, { password = password or "pass-1" })
    vault:put("redis", store.password)
    reference = vault:reference("redis")
  end

  local function start(opts)
    opts = opts or {}
    w = weir.new(e, {
      yml = YML:format(vault.yml, service.url, policy(), policy(), opts.routes or ""),
      conf = { workers = opts.workers or 1, plugin_dir = teller.write(e) },
    })
    w:start({ vars = vault.vars })
  end

  local function ask(path, client)
    return assert(fcgi.once(w.unix, { params = {
      REQUEST_URI = path .. "/echo", REMOTE_ADDR = client or env.client() } }))
  end

  local function status(path, client)
    return ask(path, client).status
  end

  local function until_status(path, wanted, seconds)
    local last
    assert(net.wait_until(seconds or 8, function()
      last = status(path)
      return last == wanted
    end), path .. " stays " .. tostring(last) .. "\n" .. w:log())
  end

  -- A new password that Redis has and the vault does not; links there are closed.
  local function change_password(password)
    store:cli("CONFIG", "SET", "requirepass", password)
    store.password = password
  end

  local function cut_links()
    store:cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
  end

  -- The lines of the log on a reference, all levels.
  local function lines(pattern, on)
    local n = 0
    for line in w:log():gmatch("[^\n]+") do
      if line:find(on or reference, 1, true) and line:match(pattern) then
        n = n + 1
      end
    end
    return n
  end

  -- Looks after it for a while: all is well, and the log says once that the last value stays.
  local function assert_it_stays(seconds)
    local before = lines("; the last value stays")
    w:expect_log("; the last value stays", 1)
    assert(net.wait_until(seconds or 12, function()
      assert.equal(200, status("/closed"))
      return lines("; the last value stays") > before
    end), "the log is silent:\n" .. w:log())
    if vault.server.proc:alive() then
      local asked = #vault.server:log()
      net.wait_until(5, function() return #vault.server:log() > asked end)
    end
    cut_links()
    until_status("/closed", 200)
    assert.equal(before + 1, lines("; the last value stays"))
  end

  local function assert_it_comes(found)
    change_password("pass-" .. math.random(1e9))
    vault:put("redis", store.password)
    assert(net.wait_until(10, function() return lines(": found") == found end), w:log())
    net.sleep(found == 0 and 1.5 or 0) -- nothing says then that the new one is there
    cut_links()
    until_status("/closed", 200)
    w:expect_log(": redis ", "maybe") -- links that were cut, a password that came a moment late
  end

  after_each(function()
    local ok, err = pcall(e.check, e)
    local ended, how = pcall(function()
      if w then
        w:stop()
      end
    end)
    e:destroy()
    w = nil
    assert(ok, err)
    assert(ended, how)
  end)

  for _, kind in ipairs(vaults.kinds) do
    it("that is down at the start fails the plugin that needs it, until it comes: " .. kind,
       function()
      prepare(kind)
      vault.server:stop()
      start({ workers = 2 })
      w:expect_log("{vault://safe/redis.*; it has no value", 2) -- each worker
      w:expect_log("does not answer:.* no password: {vault://safe/redis", 2)
      assert.equal(200, status("/plain"))
      assert.equal(200, status("/open"))
      assert.equal(500, status("/closed"))
      local client = env.client()
      assert.same({ 200, 429 }, { status("/near", client), status("/near", client) })
      assert.falsy(ask("/closed").body:find("vault", 1, true))
      vault.server:start()
      until_status("/closed", 200)
      until_status("/closed", 200)
      assert.equal(200, status("/open"))
      assert.truthy(#store:keys() > 0)
      assert.equal(0, w:log_count("reload"))
    end)

    it("that goes down later leaves its last value, and the log says so once: " .. kind,
       function()
      prepare(kind)
      start()
      assert.equal(200, status("/closed"))
      vault.server:stop()
      assert_it_stays()
      net.sleep(1)
      assert.equal(1, lines("; the last value stays"))
      vault.server:start()
      assert_it_comes(1)
    end)
  end

  -- A secret and a route for each fault.
  local function prepare_faults()
    local list = {}
    for name, fault in pairs(FAULTS) do
      local secret = "fault-" .. #list + 1
      local one = { name = name, fault = { match = "/" .. secret .. "$" }, secret = secret,
                    path = "/" .. secret, reference = vault:reference(secret) }
      for key, value in pairs(fault) do
        one.fault[key] = value
      end
      one.route = route(one.path, "rate-limiting",
                        "hour: 1000000, fault_tolerant: false, " .. policy(one.reference))
      list[#list + 1] = one
    end
    return list
  end

  it("that fails in whatever way leaves the last values, and says so once", function()
    prepare("hcv")
    local faults, list, routes = {}, prepare_faults(), {}
    local function put_all()
      for _, one in ipairs(list) do
        vault:put(one.secret, store.password)
      end
    end
    local function all_say(text)
      local silent
      assert(net.wait_until(15, function()
        for _, one in ipairs(list) do
          assert.equal(200, status(one.path), one.name)
          if lines(text, one.reference) == 0 then
            silent = one.name
            return false
          end
        end
        return true
      end), "the log does not say" .. text .. " where the vault " .. tostring(silent))
    end
    local function all_work()
      cut_links()
      for _, one in ipairs(list) do
        until_status(one.path, 200)
      end
    end
    for i, one in ipairs(list) do
      faults[i], routes[i] = one.fault, one.route
    end
    put_all()
    start({ routes = table.concat(routes) })
    all_work()
    vault.server:faults(faults)
    w:expect_log("; the last value stays", #list)
    all_say("; the last value stays")
    net.sleep(1) -- most fail some times more
    all_work()
    for _, one in ipairs(list) do
      assert.equal(1, lines("; the last value stays", one.reference), one.name)
      local body = one.fault.body or ""
      assert.falsy(#body > 8 and w:log():find(body, 1, true), one.name)
    end
    vault.server:faults()
    change_password("another")
    put_all()
    all_say(": found")
    all_work()
    w:expect_log(": redis ", "maybe") -- links that were cut
  end)

  waiting_it("that says nothing keeps no request waiting, nor the start for long", function()
    prepare("hcv")
    vault.server:faults({ { hang = true } })
    start()
    w:expect_log("not found within 5 s", "maybe")
    w:expect_log("{vault://safe/redis.*; it has no value", "maybe")
    w:expect_log("does not answer:.* no password: {vault://safe/redis", 1)
    local begun = net.now()
    assert.equal(500, status("/closed"))
    assert.equal(200, status("/open"))
    assert.equal(200, status("/plain"))
    assert.truthy(net.now() - begun < 4)
    vault.server:faults()
    until_status("/closed", 200, 12)
  end)

  waiting_it("that forgets logins is logged in to again", function()
    prepare("hcv")
    start()
    net.sleep(2.2) -- a younger token is not doubted
    vault:expire()
    assert_it_comes(0)
    assert.equal(0, lines("the last value stays"))
    vault.server:set({ auth = { approle = { roles = { web = { secret_ids = { "another" } } } } } })
    net.sleep(2.2)
    vault:expire()
    assert_it_stays()
  end)

  it("in which the secret is no more leaves the last value", function()
    prepare("hcv")
    start()
    vault:take_away("redis")
    assert_it_stays()
    vault:put("redis", "")
    net.sleep(1.2)
    cut_links()
    until_status("/closed", 200)
    assert_it_comes(1)
  end)

  it("gives passwords of any bytes", function()
    local longest = env.mode == "slow-io" and 4000 or 16000 -- Redis itself refuses more
    prepare("hcv", "p#w # x")
    start()
    assert.equal(200, status("/closed"))
    w:expect_log(": redis ", "maybe") -- a password that came a moment late
    for _, password in ipairs({ '"quoted" \'twice\'', " spaces around ", "new\nlines\r\n\n",
                                "\\back\\slash $HOME %d {vault://env/x}", "übergrößenträger ☃",
                                "{not: yaml}", ("x"):rep(longest) }) do
      change_password(password)
      vault:put("redis", password)
      cut_links()
      until_status("/closed", 200)
    end
  end)

  it("gives other secrets of up to 64 KiB", function()
    local words = { "#", " ", "\n", '"', "ü\0\1\127", ("0123456789abcdef"):rep(4096) }
    prepare("hcv")
    vault:put("word", "first")
    start({ routes = route("/word", "teller", "word: '" .. vault:reference("word") .. "'") })
    for _, word in ipairs(words) do
      vault:put("word", word)
      local wanted = teller.digest(e, word)
      assert(net.wait_until(8, function()
        return teller.ask(w, "/word?digest").body == wanted
      end), #word .. " bytes\n" .. w:log())
    end
  end)
end)
