-- What befalls stores while requests come, for the specs of faults: two weirs
-- with two workers each, a route that is fault tolerant and one that is not,
-- a load on both, and what must hold of their answers, limits and log lines.
local assert = require "luassert"
local env = require "lib.env"
local load = require "lib.load"
local modes = require "lib.modes"
local net = require "lib.net"
local nodes = require "lib.nodes"
local stores = require "lib.stores"
local upstream = require "lib.upstream"

local _M = {}

local faults = {}
faults.__index = faults

-- Not reached but by a fault, on a busy machine either, where a query takes its time byte by byte.
_M.TIMEOUT_MS = env.mode == "slow-io" and 3000 or modes.is_slow() and 1000 or 500
_M.LIMIT = env.mode == "slow-io" and 60 or modes.is_slow() and 200 or 600
_M.PARALLEL = modes.is_slow() and 2 or 6
local TIMEOUT_MS, LIMIT, PARALLEL = _M.TIMEOUT_MS, _M.LIMIT, _M.PARALLEL
local SECONDS = 3
local AT_ONCE_MS = modes.is_slow() and TIMEOUT_MS / 5 or 20 -- more than without the store
local SAMPLE = env.mode == "slow-io" and 20 or modes.is_slow() and 50 or 200
local PROBED_S = 1 + TIMEOUT_MS / 1000 + 0.3
local FIRST_ONES_MS = 2 * TIMEOUT_MS + 1500 -- the machine may be busy

-- The lines of the log when a store goes and comes.
_M.DOWN, _M.UP = "does not answer:", "answers again:"

function _M.new()
  local self = setmetatable({ e = env.new() }, faults)
  self.service = upstream.nginx(self.e)
  return self
end

function faults:destroy()
  self.e:destroy()
end

-- The routes /open and /closed, limited in the store, and /local for comparison.
function faults:yml()
  local policy = stores.fields(self.store, nil, "timeout: " .. TIMEOUT_MS)
  return stores.yml(self.service.url, {
    { "/open", "rate-limiting", "hour: 100000, fault_tolerant: true, " .. policy },
    { "/closed", "rate-limiting", ("hour: %d, fault_tolerant: false, %s"):format(LIMIT, policy) },
    { "/local", "rate-limiting", "hour: 300, policy: local" },
  })
end

-- Starts the store by its name (see stores.lua) and the weirs. conf: keys of weir.conf.
function faults:start(name, opts, conf)
  local e = self.e
  local store = stores.start(e, name, opts)
  self.store = store
  if store.conf.pg_timeout then
    store.conf.pg_timeout = TIMEOUT_MS
  end
  for key, value in pairs(conf or {}) do
    store.conf[key] = value
  end
  local n = nodes.new(e, { name = "n" .. e:port() .. "-", n = 2, conf = store.conf,
                           yml = self:yml() })
  self.nodes = n
  stores.migrate(store, n[1])
  n:start()
  n:expect_log(_M.DOWN, "maybe") -- how many there are is asserted by assert_lines
  stores.stay_in_hour(30)
end

-- Behind each example.
function faults:finish()
  local n = self.nodes
  if not n then
    return
  end
  local ok, err = pcall(self.e.check, self.e)
  self.e.checks = {}
  local ended, how = pcall(n.stop, n)
  self.nodes = nil
  local server = self.store.server or self.store.group
  if server then
    server:stop()
  end
  assert(ok, err)
  assert(ended, how)
end

-- requests of one client (opts.source) for a path; opts.parallel.
function faults:ask(path, requests, opts)
  local source = opts and opts.source or env.client()
  return load.run(self.e, self.nodes.address, {
    parallel = opts and opts.parallel or PARALLEL, path = path, requests = requests,
    source = source })
end

-- Requests in both ways while something happens to the store; both results. prepare(), if any, is
-- called before them, when self.source is known.
function faults:under_load(happen, prepare)
  local e, address = self.e, self.nodes.address
  self.source = env.client()
  if prepare then
    prepare()
  end
  local open = load.start(e, address, { parallel = PARALLEL, seconds = SECONDS,
                                        path = "/open/delay?ms=5", source = env.client() })
  local closed = load.start(e, address, { parallel = PARALLEL, seconds = SECONDS,
                                          path = "/closed/delay?ms=40", source = self.source })
  net.sleep(0.5)
  happen()
  return open(), closed()
end

-- While the store is away: those who may pass do at once, and the others get a 500.
function faults:assert_away()
  net.sleep(TIMEOUT_MS / 1000 * 1.5) -- each worker has asked in vain
  local got = self:ask("/open", SAMPLE, { parallel = 1 })
  assert.equal(SAMPLE, got.status[200], got.text)
  local usual = self:ask("/local", SAMPLE, { parallel = 1 })
  print(("# %s away: median %.2f ms, p99 %.2f ms; policy local: %.2f ms, %.2f ms"):format(
    self.store.name, got.p50_ms, got.p99_ms, usual.p50_ms, usual.p99_ms))
  assert.is_true(got.p50_ms - usual.p50_ms < AT_ONCE_MS, got.text)
  got = self:ask("/closed", SAMPLE)
  assert.equal(SAMPLE, got.status[500], got.text)
end

-- Until no worker answers 500 any more: each finds out by itself, with probes that are a second
-- apart at most, and which of them is asked is chance.
function faults:wait_back()
  local good_since
  assert(net.wait_until(20, function()
    local good = self:ask("/closed", 16, { parallel = 4 }).status[200] == 16
    good_since = good and (good_since or net.now()) or nil
    net.sleep(0.1)
    return good and net.now() - good_since > PROBED_S
  end), "the store does not come back")
end

function faults:assert_answered(open, closed)
  print(("# %s: the slowest answers came after %.0f and %.0f ms (timeout %d)"):format(
    self.store.name, open.max_ms, closed.max_ms, TIMEOUT_MS))
  assert.equal(0, open.failed, open.text)
  assert.equal(open.sent, (open.status[200] or 0) + (open.status[429] or 0), open.text)
  assert.is_true(open.max_ms < FIRST_ONES_MS, open.text)
  assert.equal(0, closed.failed, closed.text)
  assert.equal(closed.sent, (closed.status[200] or 0) + (closed.status[429] or 0)
               + (closed.status[500] or 0), closed.text)
  assert.is_true(closed.max_ms < FIRST_ONES_MS, closed.text)
end

-- What the source was admitted before and after: at most the limit, often times over where the
-- store forgot, and extra. What was counted but never answered is lost to it: a few for each fault.
function faults:assert_admitted_once(closed, extra, often)
  local rest = self:ask("/closed", LIMIT + 50, { source = self.source })
  assert.is_nil(rest.status[500], rest.text)
  local total = (closed.status[200] or 0) + (rest.status[200] or 0)
  local most, least = LIMIT * (often or 1) + (extra or 0), LIMIT - 12 * PARALLEL
  assert.is_true(total <= most, ("%d admitted, not %d"):format(total, most))
  assert.is_true(total >= least, ("%d admitted, not %d"):format(total, least))
  local got = self:ask("/closed", LIMIT + 50)
  assert.equal(LIMIT, got.status[200], got.text)
  assert.equal(50, got.status[429], got.text)
end

-- Of each weir: how often the store went and came by its log.
function faults:assert_lines(down, up)
  for _, node in ipairs(self.nodes) do
    assert.equal(down, node:log_count(_M.DOWN), node:log())
    assert.equal(up, node:log_count(_M.UP), node:log())
  end
end

return _M
