-- weir.counter inside the daemon: windows, admit, charge, peek.
package.path = (os.getenv("srcdir") or ".") .. "/spec/pdk/?.lua;" .. package.path
local lab = require "lab"
local env = require "lib.env" -- found once the lab has set the path

local HEAD = [[
  local counter = require "weir.counter"
  local store = counter.open("local")
  local id = "counter-spec:" .. kong.request.get_query_arg("id")
  local function state(windows, used, reset_ms)
    local out = {}
    for i = 1, windows.n do
      out[i] = { used = used[i - 1], reset = tonumber(reset_ms[i - 1]) }
    end
    return out
  end
]]

describe("counter", function()
  local l = lab.new()

  local admit = l:route(HEAD .. [[
    local w = counter.windows({ { period = "hour", limit = 3 }, { size_s = 7200, limit = 2 } })
    local out = {}
    for i = 1, 4 do
      local granted, used, reset_ms = counter.admit(store, id, w, 1)
      out[i] = { granted = granted, windows = state(w, used, reset_ms) }
    end
    kong.response.exit(200, out)
  ]])
  local charge = l:route(HEAD .. [[
    local w = counter.windows({ { period = "day", limit = 10 }, { period = "year", limit = 10 } })
    counter.charge(store, id, w, 7)
    counter.charge(store, id, w, -2)
    local out = { state(w, counter.peek(store, id, w)) }
    out[2] = counter.admit(store, id, w, 6)
    out[3] = counter.admit(store, id, w, 5)
    out[4] = counter.admit(store, id, w, 1)
    counter.charge(store, id, w, 5)
    out[5] = state(w, counter.peek(store, id, w))
    kong.response.exit(200, out)
  ]])
  local sliding = l:route(HEAD .. [[
    local w = counter.windows({ { size_s = 3600, limit = 2 } }, { sliding = true })
    local out = {}
    for i = 1, 3 do
      out[i] = counter.admit(store, id, w, 1)
    end
    kong.response.exit(200, out)
  ]])
  local misuse = l:route([[
    local counter = require "weir.counter"
    local many = {}
    for i = 1, 9 do
      many[i] = { period = "hour", limit = 1 }
    end
    kong.response.exit(200, {
      select(2, pcall(counter.windows, {})), select(2, pcall(counter.windows, many)),
      select(2, pcall(counter.windows, { { period = "week", limit = 1 } })),
    })
  ]])

  setup(function()
    l:start()
  end)
  teardown(function()
    l:stop()
  end)
  after_each(function()
    l:check()
  end)

  local function ask(path)
    env.stay_clear(7200)
    return l:json(path .. "?id=" .. env.client())
  end

  it("admits in all windows or in none", function()
    local got = ask(admit)
    for i, granted in ipairs({ true, true, false, false }) do
      assert.equal(granted, got[i].granted)
      for _, window in ipairs(got[i].windows) do
        assert.equal(math.min(i - 1, 2), window.used)
      end
      assert.is_true(got[i].windows[1].reset > 0 and got[i].windows[1].reset <= 3600000)
      assert.is_true(got[i].windows[2].reset > 0 and got[i].windows[2].reset <= 7200000)
    end
  end)

  it("charges whatever the limits are, and peeks", function()
    local got = ask(charge)
    assert.equal(5, got[1][1].used)
    assert.equal(5, got[1][2].used)
    assert.same({ false, true, false }, { got[2], got[3], got[4] })
    assert.equal(15, got[5][1].used)
  end)

  it("slides", function()
    assert.same({ true, true, false }, ask(sliding))
  end)

  it("refuses windows that it cannot count", function()
    local got = l:json(misuse)
    assert.matches("there must be 1 to 8 windows", got[1], 1, true)
    assert.matches("there must be 1 to 8 windows", got[2], 1, true)
    assert.matches("a window needs a period or size_s", got[3], 1, true)
  end)
end)
