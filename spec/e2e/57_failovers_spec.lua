-- Failovers and moving slots while requests come: Sentinels name another master,
-- a replica takes a Cluster master's place, slots move. What is asked meanwhile is
-- answered, and nothing is admitted twice.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local faults = require "lib.faults"
local modes = require "lib.modes"
local net = require "lib.net"

-- What a master has counted and no replica knows is lost with it: no more than a second of the
-- load, by which a replica may be late on a busy machine, and less than what use_half has used.
local UNREPLICATED = faults.PARALLEL * 25
local HALF = faults.LIMIT / 2

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

  -- The source has used half of the limit, and the replicas of its master know.
  local function use_half(get_master)
    local got = f:ask("/closed", HALF, { source = f.source })
    assert.equal(HALF, got.status[200], got.text)
    local master = get_master()
    local written = tonumber(master:cli("INFO", "replication"):match("master_repl_offset:(%d+)"))
    assert(net.wait_until(10, function()
      local all, replicas = true, 0
      for known in master:cli("INFO", "replication"):gmatch("offset=(%d+)") do
        all, replicas = all and tonumber(known) >= written, replicas + 1
      end
      return all and replicas > 0
    end), "the replicas do not follow")
  end

  -- That and what the load and those behind it were admitted make no more than the limit.
  local function assert_admitted_once(closed)
    closed.status[200] = (closed.status[200] or 0) + HALF
    f:assert_admitted_once(closed, UNREPLICATED)
  end

  it("fails over to another master by Sentinels, one of which is dead", function()
    f:start("redis with Sentinels")
    local open, closed = f:under_load(function()
      f.store.group.sentinels[1]:kill()
      assert(f.store.group:fail_over(), "no failover")
      f:wait_back()
    end, function()
      use_half(function()
        return f.store.group:master()
      end)
    end)
    f:assert_answered(open, closed)
    assert_admitted_once(closed)
    f:assert_lines(1, 1)
  end)

  -- The master that counts for the closed source, another master, and its slot.
  local function masters_of_source()
    local group = f.store.group
    local from, to, slot
    assert(net.wait_until(2, function()
      for _, key in ipairs(group:keys()) do
        if key[1]:find(f.source, 1, true) then
          from, slot = key[2], group:slot_of(key[1])
        end
      end
      return from
    end), "no key names " .. f.source)
    for _, node in ipairs(group:masters()) do
      to = node ~= from and node or to
    end
    return from, to, slot
  end

  it("Cluster puts a replica in the place of a master that is killed", function()
    f:start("redis Cluster")
    local open, closed = f:under_load(function()
      assert(f.store.group:fail_over((masters_of_source())), "no failover")
      f:wait_back()
    end, function()
      use_half(masters_of_source)
    end)
    f:assert_answered(open, closed)
    assert_admitted_once(closed)
    for _, node in ipairs(f.nodes) do
      assert.equal(node:log_count(faults.DOWN), node:log_count(faults.UP), node:log())
    end
  end)

  it("Cluster moves slots, and nobody sees it", function()
    f:start("redis Cluster")
    local open, closed = f:under_load(function()
      local from, to, slot = masters_of_source()
      local group = f.store.group
      group:migrate(slot, from, to, 0.3)
      group:migrate(slot, to, from, 0.1)
      group:migrate(slot, from, to)
    end)
    f:assert_answered(open, closed)
    assert.is_nil(closed.status[500], closed.text)
    local rest = f:ask("/closed", faults.LIMIT * 2, { source = f.source })
    assert.equal(faults.LIMIT, closed.status[200] + (rest.status[200] or 0),
                 closed.text .. rest.text)
    f:assert_lines(0, 0)
  end)
end)
