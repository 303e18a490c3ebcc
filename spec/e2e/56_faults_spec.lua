-- What befalls a Redis while requests come: nothing fails where a plugin is fault
-- tolerant, nothing but 500 comes where it is not, each change of state is one
-- line in the log, and afterwards limits hold and nothing is admitted twice.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local faults = require "lib.faults"
local modes = require "lib.modes"
local net = require "lib.net"
local stores = require "lib.stores"

describe("Redis", function()
  local f
  local it = modes.first_of_faults(it)

  setup(function()
    f = faults.new()
  end)

  teardown(function()
    f:destroy()
  end)

  after_each(function()
    f:finish()
  end)

  it("is killed, and comes back with what it knew", function()
    f:start("redis", { appendonly = true })
    local open, closed = f:under_load(function()
      f.store.server:kill()
      f:assert_away()
      f.store.server:start()
      f:wait_back()
    end)
    f:assert_answered(open, closed)
    f:assert_admitted_once(closed)
    f:assert_lines(1, 1)
  end)

  it("is killed, and comes back empty", function()
    f:start("redis")
    local open, closed = f:under_load(function()
      f.store.server:kill()
      f:assert_away()
      f.store.server:restart_empty()
      f:wait_back()
    end)
    f:assert_answered(open, closed)
    f:assert_admitted_once(closed, 0, 2)
    f:assert_lines(1, 1)
  end)

  it("stands still (SIGSTOP), and goes on", function()
    f:start("redis")
    local open, closed = f:under_load(function()
      f.store.server:pause()
      f:assert_away()
      f.store.server:resume()
      f:wait_back()
    end)
    f:assert_answered(open, closed)
    f:assert_admitted_once(closed)
    f:assert_lines(1, 1)
  end)

  it("gets another password, which weir learns by a reload", function()
    f:start("redis", { password = "first" })
    local store = f.store
    local open, closed = f:under_load(function()
      store.server:cli("CONFIG", "SET", "requirepass", "second")
      store.server.password = "second"
      store.server:cli("CLIENT", "KILL", "TYPE", "normal")
      f:assert_away()
      store.redis = store.redis:gsub("first", "second")
      f.nodes:configure(f:yml())
      f:wait_back()
    end)
    f:assert_answered(open, closed)
    f:assert_admitted_once(closed)
    for _, node in ipairs(f.nodes) do
      assert.equal(1, node:log_count(faults.DOWN), node:log())
    end
  end)

  it("has no room for another client (maxclients)", function()
    f:start("redis")
    local server = f.store.server
    local open, closed = f:under_load(function()
      local idle, commands = {}, { "CONFIG SET maxclients 30\r\n" }
      for _, client in ipairs(server:clients()) do
        commands[#commands + 1] = "CLIENT KILL ID " .. client.id .. "\r\n"
      end
      for i = 1, 30 do
        idle[i] = assert(net.connect(server.address))
      end
      idle[1]:send(table.concat(commands)) -- redis-cli would find no room
      f:assert_away()
      for _, conn in ipairs(idle) do
        conn:close()
      end
      f:wait_back()
    end)
    f:assert_answered(open, closed)
    f:assert_admitted_once(closed)
    f:assert_lines(1, 1)
  end)

  it("is away, and is told afterwards what was counted meanwhile (sync_rate)", function()
    f:start("redis", { appendonly = true })
    local n, source, asked = f.nodes, env.client(), { 0, 0 }
    n:configure(stores.yml(f.service.url, {
      { "/", "rate-limiting", "hour: 100, sync_rate: 0.1, " .. stores.fields(f.store) } }))
    local function left(i)
      asked[i] = asked[i] + 1
      local got = assert(n:ask(i, source))
      assert.equal(200, got.status)
      return tonumber(got.headers["ratelimit-remaining"])
    end
    -- Whether one node comes to know what the other one has counted.
    local function assert_knows(i)
      local found
      assert(net.wait_until(8, function()
        net.sleep(0.3)
        found = left(i)
        return found == 100 - asked[1] - asked[2]
      end), ("node %d sees %s left of 100 after %d and %d"):format(i, found, asked[1], asked[2]))
    end
    for _ = 1, 3 do
      left(1)
    end
    assert_knows(2)
    f.store.server:kill()
    net.sleep(0.3)
    for expected = 1, 4 do -- each goes on with what it knows
      assert.is_true(left(1) <= 97 - expected)
    end
    f.store.server:start()
    assert_knows(2)
    assert_knows(1)
  end)
end)
