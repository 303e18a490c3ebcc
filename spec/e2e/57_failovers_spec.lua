-- Failovers and moving slots while requests come: Sentinels name another master,
-- a replica takes a Cluster master's place, slots move. What is asked meanwhile is
-- answered, and nothing is admitted twice.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local faults = require "lib.faults"
local net = require "lib.net"

describe("Redis", function()
  local f

  setup(function()
    f = faults.new()
  end)

  teardown(function()
    f:destroy()
  end)

  after_each(function()
    f:finish()
  end)

  it("fails over to another master by Sentinels, one of which is dead", function()
    f:start("redis with Sentinels")
    local open, closed = f:under_load(function()
      f.store.group.sentinels[1]:kill()
      assert(f.store.group:fail_over(), "no failover")
      f:wait_back()
    end)
    f:assert_answered(open, closed)
    -- the last ones may not have reached a replica
    f:assert_admitted_once(closed, 2 * faults.PARALLEL)
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
    end)
    f:assert_answered(open, closed)
    f:assert_admitted_once(closed, 2 * faults.PARALLEL)
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
