-- Secrets in configs, by a vault that the spec brings along: looked up before the
-- first request and again in the background, never turning empty, each failure
-- said once; what a plugin sees of them.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local proc = require "lib.proc"
local redis = require "lib.redis"
local weir = require "lib.weir"
local signal = require "posix.signal"

local waiting_it = modes.waiting(it)

-- Does what its file says: a line of Lua, with value and ttl to be set. Each call leaves a mark.
local VAULT = [[
local timer = require "weir.timer"

local function append(path, text)
  local file = assert(io.open(path, "a"))
  file:write(text, "\n")
  file:close()
end

local is_ready

return {
  VERSION = "1.0.0",
  init = function()
    timer.sleep(0.1)
    is_ready = true
  end,
  get = function(conf, resource, version)
    assert(is_ready, "init has not ended")
    append(conf.dir .. "/tmp/calls", resource)
    local file = assert(io.open(conf.dir .. "/tmp/" .. resource))
    local chunk = assert(loadstring(file:read("*a")))
    file:close()
    setfenv(chunk, setmetatable({ conf = conf, version = version, sleep = timer.sleep },
                                { __index = _G }))
    return chunk()
  end,
  watch = function(_, resource, changed)
    for _ = 1, resource == "restless" and 300 or 0 do
      timer.sleep(0.005)
      changed()
    end
  end,
}
]]

local SCHEMA = [[
return { name = "book", fields = require("weir.schema.vault").fields({
  { dir = { type = "string", required = true } },
  { word = { type = "string", referenceable = true } },
}) }
]]

local TELLER = [[
local timer = require "weir.timer"
local teller = { PRIORITY = 1, VERSION = "1.0.0" }
local ticks, changes = 0, 0
local function nothing() end

-- Uses up all timers; one that comes again and again, and a file that is watched from then on.
local function use_up(path)
  timer.every(0.1, function()
    ticks = ticks + 1
    while timer.at(2, nothing) do
    end
  end)
  while timer.at(2, nothing) do
  end
  require("weir.watch").file(path, function()
    changes = changes + 1
  end)
end

function teller:access(conf)
  local watched = kong.request.get_query_arg("watch")
  if watched then
    use_up(watched)
  elseif kong.request.get_query_arg("counts") then
    return kong.response.exit(200, ticks .. "," .. changes)
  end
  while kong.request.get_query_arg("burn") and timer.at(2, print) do -- all timers that there are
  end
  for _ = 1, tonumber(kong.request.get_query_arg("compare") or 0) do
    if conf.word ~= conf.deep.list[1] then
      return kong.response.exit(200, conf.word .. " beside " .. conf.deep.list[1])
    end
    timer.sleep(0.001)
  end
  if kong.request.get_query_arg("timers") then
    return kong.response.exit(200, tostring(timer.count))
  end
  local word = kong.request.get_query_arg("field")
  local value = word and conf.deep[word] or conf.word
  if type(value) == "table" then
    value = table.concat(value, ",")
  end
  return kong.response.exit(200, type(value) .. ":" .. tostring(value))
end

return teller
]]

local FIELDS = [[
  { word = { type = "string", referenceable = true } },
  { deep = { type = "record", fields = {
    { number = { type = "integer", referenceable = true } },
    { list = { type = "array", elements = { type = "string", referenceable = true } } },
    { plain = { type = "string" } },
  } } },
]]

local YML = [[
_format_version: "3.0"
services:
  - name: service
    url: http://127.0.0.1:9
    routes: [ { name: all, paths: [ / ] } ]
    plugins: [ { name: teller, config: CONFIG }MORE ]
]]

describe("a secret", function()
  local e, w

  local function write(name, text)
    e:write("tmp/" .. name .. ".new", text)
    assert(os.rename(e:path("tmp/" .. name .. ".new"), e:path("tmp/" .. name)))
  end

  local function calls(name)
    local _, n = ("\n" .. (e:read("tmp/calls") or "")):gsub("\n" .. name .. "%f[\n]", "")
    return n
  end

  local function start(config, more, plugins, vars)
    e:write("plugins/vaults/book/init.lua", VAULT)
    e:write("plugins/vaults/book/schema.lua", SCHEMA)
    weir.write_plugin(e, "teller", TELLER, FIELDS)
    local conf = { plugin_dir = weir.plugin_dir(e), workers = 1,
                   vault_book_dir = e.dir }
    for key, value in pairs(more or {}) do
      conf[key] = value
    end
    local yml = YML:gsub("CONFIG", function() return config end):gsub("MORE", plugins or "")
    w = weir.new(e, { yml = yml, conf = conf })
    w:start({ vars = vars })
  end

  local function ask(field)
    return assert(fcgi.once(w.unix, {
      params = { REQUEST_URI = "/" .. (field and "?field=" .. field or "") },
    }))
  end

  local function until_body(body, seconds)
    local last
    return assert(net.wait_until(seconds or 5, function()
      last = ask().body
      return last == body
    end), "it stays " .. tostring(last))
  end

  before_each(function()
    e = env.new()
    os.execute("chmod 777 " .. e:path("tmp"))
  end)

  after_each(function()
    e:check()
    if w then
      w:stop()
    end
    e:destroy()
    w = nil
  end)

  it("is there for the first request, however its vault dawdles", function()
    write("a", "sleep(0.7) return 'first'")
    start("{ word: '{vault://book/a}' }")
    assert.equal("string:first", ask().body)
    assert.equal(1, calls("a"))
  end)

  it("changes within its ttl, without a reload", function()
    write("a", "return 'one'")
    start("{ word: '{vault://book/a?ttl=1}' }")
    assert.equal("string:one", ask().body)
    write("a", "return 'two'")
    until_body("string:two", 2)
  end)

  waiting_it("changes although plugins have used up all timers for a while", function()
    write("a", "return 'one'")
    start("{ word: '{vault://book/a?ttl=1}' }")
    write("a", "sleep(0.3) return 'two'")
    local begun = net.now()
    while net.now() - begun < 1.5 do
      assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/?burn=1" } }))
      net.sleep(0.02)
    end
    net.sleep(2)
    write("a", "return 'three'")
    until_body("string:three", 2)
  end)

  it("stands beside timers that go on, and files that are watched, though none is left", function()
    write("a", "return 'one'")
    write("b", "")
    start("{ word: '{vault://book/a}' }")
    assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/?watch=" .. e:path("tmp/b") } }))
    write("b", "more")
    local last
    assert(net.wait_until(3, function()
      last = assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/?counts=1" } })).body
      local ticks, changes = last:match("^(%d+),(%d+)$")
      return tonumber(ticks) > 2 and tonumber(changes) > 0
    end), last)
  end)

  it("that changes all the time waits for its ttl once", function()
    write("restless", "return 'one'")
    start("{ word: '{vault://book/restless?ttl=3600}' }")
    assert(net.wait_until(10, function() return calls("restless") >= 290 end))
    local answer = assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/?timers=1" } }))
    assert.is_true(tonumber(answer.body) < 30, answer.body .. " timers")
  end)

  it("that is found and missed in turns waits for its ttl once, too", function()
    write("restless", [[_G.n = (_G.n or 0) + 1
                        if _G.n % 40 > 20 then return nil, 'gone' end return 'one']])
    start("{ word: '{vault://book/restless?ttl=3600&neg_ttl=0.05}' }")
    w:expect_log("gone; the last value stays", "some")
    assert(net.wait_until(30, function() return calls("restless") >= 290 end))
    local answer = assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/?timers=1" } }))
    assert.is_true(tonumber(answer.body) < 15, answer.body .. " timers")
  end)

  it("changes within the lease that the vault gives", function()
    write("a", "return 'one', nil, 1")
    start("{ word: '{vault://book/a}' }")
    write("a", "return 'two', nil, 1")
    until_body("string:two", 2)
  end)

  it("is not looked up again where nothing says when", function()
    write("a", "return 'one'")
    start("{ word: '{vault://book/a}' }")
    net.sleep(1)
    ask()
    assert.equal(1, calls("a"))
  end)

  it("keeps its last value while its vault fails, and says so once", function()
    write("a", "return 'one'")
    start("{ word: '{vault://book/a?ttl=1&neg_ttl=0.2}' }")
    for _, text in ipairs({ "return nil, 'the vault is shut'", "error('oh')", "return ''",
                            "return 7", "return", "return ('x'):rep(2^20 + 1)" }) do
      write("a", text)
      local before = calls("a")
      assert(net.wait_until(5, function() return calls("a") >= before + 3 end))
      assert.equal("string:one", ask().body)
    end
    w:expect_log("the vault is shut; the last value stays", 1)
    write("a", "return 'two'")
    until_body("string:two", 3)
    assert.equal(1, w:log_count("neg_ttl=0.2}: found"))
  end)

  waiting_it("outlives its ttl by resurrect_ttl and no longer", function()
    write("a", "return 'one'")
    start("{ word: '{vault://book/a?ttl=1&neg_ttl=0.2&resurrect_ttl=1}' }")
    write("a", "return nil, 'gone'")
    assert.equal("string:one", ask().body)
    assert(net.wait_until(6, function() return ask().status == 500 end))
    w:expect_log("gone; the last value stays", 1)
    w:expect_log("gone; it is not used any longer", 1)
    w:expect_log("no value for {vault://book/a", "some")
    write("a", "return 'two'")
    assert(net.wait_until(5, function() return ask().body == "string:two" end))
  end)

  -- libfaketime and AddressSanitizer do not bear each other.
  if env.mode ~= "asan" then
    waiting_it("outlives its ttl by as long, however the clock is set meanwhile", function()
      local vars = {}
      proc.move_clock(vars, 0)
      vars.FAKETIME = nil
      vars.FAKETIME_TIMESTAMP_FILE, vars.FAKETIME_NO_CACHE = e:write("tmp/clock", "+0s"), 1
      write("a", "return 'one'")
      start("{ word: '{vault://book/a?ttl=1&neg_ttl=0.2&resurrect_ttl=4}' }", nil, nil, vars)
      write("a", "return nil, 'gone'")
      w:expect_log("gone; the last value stays", 1)
      w:expect_log("gone; it is not used any longer", 1)
      w:expect_log("no value for {vault://book/a", "some")
      assert(w:wait_log("gone; the last value stays"))
      e:write("tmp/clock", "+7200s")
      local before = calls("a")
      assert(net.wait_until(3, function() return calls("a") >= before + 3 end))
      assert.equal("string:one", ask().body)
      e:write("tmp/clock", "-7200s")
      assert(net.wait_until(8, function() return ask().status == 500 end))
    end)
  end

  it("outlives workers and reloads while its vault is away", function()
    write("a", "return 'one'")
    start("{ word: '{vault://book/a}' }")
    write("a", "return nil, 'gone'")
    local worker = w:workers()[1]
    signal.kill(worker, signal.SIGKILL)
    w:expect_log("died by signal 9")
    w:expect_log("it comes back in %d s", "maybe")
    assert(net.wait_until(10, function()
      local now = w:workers()[1]
      return now and now ~= worker
    end))
    assert.equal("string:one", ask().body)
    assert(w:reload())
    assert.equal("string:one", ask().body)
    w:expect_log("{vault://book/a}: gone; the last value stays", 2)
    write("a", "sleep(20)") -- nothing within the time that a start waits
    assert(w:reload())
    assert.equal("string:one", ask().body)
    w:expect_log("not found within 5 s; the last value stays", 1)
    write("a", "return 'two'")
    assert(w:reload())
    assert.equal("string:two", ask().body)
  end)

  it("outlives an upgrade while its vault is away", function()
    write("a", "return 'one'")
    start("{ word: '{vault://book/a}' }")
    write("a", "return nil, 'gone'")
    local text, code = w:command("upgrade")
    assert.equal(0, code, text)
    assert.equal("string:one", ask().body)
    w:expect_log("{vault://book/a}: gone; the last value stays", 1)
    w:command("stop")
    proc.sweep(w.conf_path) -- a new master is not our child
  end)

  it("of another vault under the same name is another one", function()
    write("a", "return 'one'")
    start("{ word: '{vault://book/a}' }")
    write("a", "return nil, 'gone'")
    w:write_conf({ plugin_dir = e:path("plugins"), workers = 1, vault_book_dir = e.dir .. "/" })
    assert(w:reload())
    assert.equal(500, ask().status)
    w:expect_log("gone; it has no value")
    w:expect_log("no value for {vault://book/a}: gone")
  end)

  it("that cannot be had fails the requests that need it, not the start", function()
    write("a", "return nil, 'there is no a'")
    start("{ word: '{vault://book/a?neg_ttl=0.2}', deep: { plain: x } }")
    assert.equal(500, ask().status)
    assert.equal("string:x", ask("plain").body)
    w:expect_log("there is no a; it has no value", 1)
    w:expect_log("teller.*no value for {vault://book/a%?neg_ttl=0.2}: there is no a", "some")
    write("a", "return 'here'")
    until_body("string:here")
  end)

  waiting_it("that is asked of a vault which hangs does not keep weir from serving", function()
    write("a", "sleep(7) return 'late'")
    start("{ word: '{vault://book/a}', deep: { plain: x } }")
    assert.equal("string:x", ask("plain").body)
    w:expect_log("not found within 5 s", 1)
    until_body("string:late", 10)
    w:expect_log("no value for {vault://book/a}: it was not looked up yet", "some")
  end)

  it("may be a number, or stand in lists", function()
    write("a", "return '42'")
    write("b", "return 'bee', nil, 1")
    start("{ deep: { number: '{vault://book/a}', list: [ x, '{vault://book/b}' ] } }")
    assert.equal("number:42", ask("number").body)
    assert.equal("string:x,bee", ask("list").body)
    write("b", "return 'boo', nil, 1")
    assert(net.wait_until(3, function() return ask("list").body == "string:x,boo" end))
  end)

  it("may be a member of a JSON object", function()
    write("a", [[return '{"x":"ex","n":1}']])
    start("{ word: '{vault://book/a/x}', deep: { list: [ '{vault://book/a/n}' ] } }")
    assert.equal("string:ex", ask().body)
    assert.equal(500, ask("list").status)
    w:expect_log("{vault://book/a/n}: unexpected number value in JSON secret for subfield n; "
      .. "it has no value", 1)
    w:expect_log("no value for {vault://book/a/n}")
  end)

  it("of a vault that begins by waiting waits for that, as others of it do", function()
    write("a", "return 'ex'")
    write("b", "return 'bee'")
    start("{ word: '{vault://book/a}', deep: { list: [ '{vault://book/b}' ] } }")
    assert.same({ "string:ex", "string:bee" }, { ask().body, ask("list").body })
  end)

  it("of two members is asked for once, and they change together", function()
    write("a", [[sleep(0.2) return '{"user":"u1","word":"w1"}']])
    start("{ word: '{vault://book/a/user?ttl=2}', "
      .. "deep: { list: [ '{vault://book/a/word?ttl=2}' ] } }")
    assert.equal(1, calls("a"))
    assert.same({ "string:u1", "string:w1" }, { ask().body, ask("list").body })
    write("a", [[return '{"user":"u2","word":"w2"}']])
    until_body("string:u2", 3)
    assert.equal("string:w2", ask("list").body)
  end)

  waiting_it("of two members changes for both at once where both are due", function()
    write("a", [[_G.n = (_G.n or 0) + 1 sleep(0.4) -- for longer than the two are apart
                 return '{"user":"' .. _G.n .. '","word":"' .. _G.n .. '"}']])
    start("{ word: '{vault://book/a/user?ttl=1}', "
      .. "deep: { list: [ '{vault://book/a/word?ttl=1}' ] } }")
    local answer = assert(fcgi.once(w.unix, {
      timeout = 20, params = { REQUEST_URI = "/?compare=2000" },
    }))
    assert.matches("^string:%d+$", answer.body)
    assert.is_true(calls("a") > 2)
  end)

  it("may be needed by the vault of another", function()
    write("inner", "return 'key'")
    write("outer", "return conf.word .. '!'")
    start("{ word: '{vault://book/outer?word=%7Bvault%3A%2F%2Fbook%2Finner%7D}' }")
    assert.equal("string:key!", ask().body)
  end)

  it("that a vault logs in with is looked up anew when it is refused, now and then", function()
    write("inner", "return 'one'")
    write("outer", "return conf.word")
    start("{ word: '{vault://book/outer?ttl=0.5&neg_ttl=0.1"
          .. "&word=%7Bvault%3A%2F%2Fbook%2Finner%7D}' }")
    assert.equal("string:one", ask().body)
    w:expect_log("refused; the last value stays", 1)
    write("outer", "if conf.word == 'one' then return nil, 'refused', true end return conf.word")
    assert(net.wait_until(10, function() return calls("outer") >= 20 end))
    local asked = calls("inner")
    assert.is_true(asked > 1 and asked < 6, asked .. " look-ups of what is refused")
    write("inner", "return 'two'")
    until_body("string:two", 12)
    asked = calls("inner")
    write("outer", "return nil, 'refused, but not for that'")
    w:expect_log("refused, but not for that; the last value stays", 1)
    assert(w:wait_log("refused, but not for that; the last value stays"))
    net.sleep(0.3)
    assert.equal(asked, calls("inner"))
  end)

  it("is the text itself where the reference is misspelt, with a warning", function()
    start("{ word: '{vault://book/a} ', deep: { list: [ x ] } }")
    assert.equal("string:{vault://book/a} ", ask().body)
    w:expect_log("plugin %S+ %(%x+%-.*%): config%.word: this looks like a reference to a", "some")
  end)

  it("that its vault would need to look it up is refused", function()
    assert.error_matches(function()
      start("{ word: '{vault://book/a}' }", { vault_book_word = "{vault://book/b}" })
    end, "the vault book needs this secret to look it up %[{vault://book/b}%]")
    w:expect_log("needs this secret")
    w = nil
  end)

  it("of a vault that there is not is refused at the start", function()
    assert.error_matches(function()
      start("{ word: '{vault://bock/a}' }")
    end, "could not find vault %(bock%) %[{vault://bock/a}%]")
    w:expect_log("could not find vault")
    w = nil
  end)

  it("may be where a store is, which moves without a reload", function()
    local config = "{ minute: 2, policy: redis, redis: { host: '{vault://book/host?neg_ttl=0.2}', "
      .. "port: '{vault://book/port?ttl=1}' } }"
    local one, two = redis.start(e), redis.start(e)
    write("host", "return nil, 'nobody knows'")
    write("port", "return '" .. one.port .. "'")
    start("{ word: x }", {
      plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e), vaults = "book",
    }, ", { name: rate-limiting, config: " .. config .. " }")
    assert.equal(200, ask().status) -- fault_tolerant
    w:expect_log("host.*nobody knows; it has no value", 1)
    w:expect_log("redis: no value for {vault://book/host%?neg_ttl=0.2}: nobody knows", 1)
    write("host", "return '127.0.0.1'")
    assert(net.wait_until(5, function() return ask().status == 429 end))
    write("port", "return '" .. two.port .. "'")
    assert(net.wait_until(5, function() return ask().status == 200 end))
    assert(net.wait_until(5, function() return ask().status == 429 end))
  end)

  it("keeps its bytes", function()
    write("a", [[return 'p#w "x" \'y\'\r\n\0\255' .. ("x"):rep(65536)]])
    start("{ word: '{vault://book/a}' }")
    assert.equal("string:p#w \"x\" 'y'\r\n\0\255" .. ("x"):rep(65536), ask().body)
  end)
end)
