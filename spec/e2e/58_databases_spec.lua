-- What befalls PostgreSQL and SQLite while requests come: as 56_faults of Redis.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local faults = require "lib.faults"
local modes = require "lib.modes"
local proc = require "lib.proc"

describe("the database", function()
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

  it("PostgreSQL is restarted", function()
    f:start("postgres")
    local open, closed = f:under_load(function()
      f.store.server:stop()
      f:assert_away()
      f.store.server:start()
      f:wait_back()
    end)
    f:assert_answered(open, closed)
    f:assert_admitted_once(closed)
    f:assert_lines(1, 1)
  end)

  it("PostgreSQL cuts its connections", function()
    f:start("postgres")
    local open, closed = f:under_load(function()
      assert.is_true(f.store.server:terminate_backends() > 0)
      f:wait_back()
      assert.is_true(f.store.server:terminate_backends() > 0)
      f:wait_back()
    end)
    f:assert_answered(open, closed)
    f:assert_admitted_once(closed)
    for _, node in ipairs(f.nodes) do
      local down, up = node:log_count(faults.DOWN), node:log_count(faults.UP)
      assert.is_true(down <= 2 and up == down, node:log())
    end
  end)

  it("PostgreSQL stands still (its tables are locked)", function()
    f:start("postgres")
    local server = f.store.server
    local tables = server:sql("SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') "
                              .. "FROM pg_tables WHERE tableowner = 'weir'")
    local open, closed = f:under_load(function()
      local lock = server:lock(tables, 30)
      f:assert_away()
      server:sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                 .. "WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()")
      lock:wait(5)
      f:wait_back()
    end)
    f:assert_answered(open, closed)
    f:assert_admitted_once(closed)
    f:assert_lines(1, 1)
  end)

  it("SQLite finds its disk full", function()
    if not env.is_root then
      return
    end
    local disk = f.e:path("disk")
    f.e:write("disk/empty", "")
    local text, code = proc.run({ "mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "tmpfs", disk })
    if code ~= 0 then
      print("# cannot mount: " .. text)
      return
    end
    local ok, err = pcall(function()
      f:start("sqlite", nil, { sqlite_file = disk .. "/weir.db" })
      local open, closed = f:under_load(function()
        proc.run({ "dd", "if=/dev/zero", "of=" .. disk .. "/fill", "bs=4k" })
        f:assert_away()
        os.remove(disk .. "/fill")
        f:wait_back()
      end)
      f:assert_answered(open, closed)
      f:assert_admitted_once(closed)
      f:assert_lines(1, 1)
    end)
    local fine, why = pcall(f.finish, f)
    proc.run({ "umount", "-l", disk })
    assert(ok, err)
    assert(fine, why)
  end)
end)
