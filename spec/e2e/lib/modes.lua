-- The modes in which the same end-to-end examples run (WEIR_TEST_MODE): plain;
-- slow-io, nojit and asan, which change weir alone (see weir.lua); reload, with
-- a SIGHUP in front of each example; leak, in which each example is repeated
-- while weir's memory and descriptors must stay as they are.
local env = require "lib.env"
local net = require "lib.net"

local _M = {}

-- Quick examples go round often, those that wait a few times: seconds, and the least and the
-- most rounds in them.
local WARM_UP = { seconds = 0.2, least = 2, most = 20 }
local ROUNDS = { seconds = 0.4, least = 3, most = 100 }
local GROWTH_KB = 1024

local function same_list(a, b)
  return table.concat(a, " ") == table.concat(b, " ")
end

local function go_round(fn, span)
  local till, n = net.now() + span.seconds, 0
  while n < span.least or (n < span.most and net.now() < till) do
    fn()
    n = n + 1
  end
  return n
end

-- By how many KiB weir grew in how many rounds. Memory may settle a little, and a pool may get a
-- connection more; what grows with each round is a leak.
local function growth(w, fn)
  local workers, files, kb = w:workers(), w:open_files(), w:rss_kb()
  local rounds = go_round(fn, ROUNDS)
  if not same_list(workers, w:workers()) then
    return 0, rounds -- the example itself replaces workers
  end
  local most = files + math.floor(rounds / 2)
  net.wait_until(2, function()
    return w:open_files() <= most
  end)
  assert(w:open_files() <= most,
         ("descriptors grew from %d to %d in %d rounds"):format(files, w:open_files(), rounds))
  return w:rss_kb() - kb, rounds
end

-- Lua's heap doubles before it is collected, and code is compiled once it has run often, both of
-- which may come as late as in the first rounds that count: a leak grows in the next ones, too.
local function repeated(w, fn)
  go_round(fn, WARM_UP)
  local grown, rounds
  for _ = 1, 3 do
    grown, rounds = growth(w, fn)
    if grown <= GROWTH_KB then
      return
    end
  end
  error(("memory grew by %d KiB in %d rounds"):format(grown, rounds), 0)
end

-- Returns busted's it for examples of the weir that get_weir gives. An example that cannot be
-- repeated (it takes long, or brings weir down) is written with the plain it.
function _M.wrap(it, get_weir)
  if env.mode == "reload" then
    return function(name, fn)
      it(name, function()
        assert(get_weir():reload(), "the new generation did not come")
        fn()
      end)
    end
  elseif env.mode == "leak" then
    return function(name, fn)
      it(name, function()
        repeated(get_weir(), fn)
      end)
    end
  end
  return it
end

-- The first example only.
local function first(it)
  local n = 0
  return function(name, fn)
    n = n + 1
    if n == 1 then
      it(name, fn)
    end
  end
end

-- Returns busted's it for a file that shows nothing new without the JIT compiler once its first
-- example passes: the others are left out there.
function _M.first_without_jit(it)
  return env.mode == "nojit" and first(it) or it
end

-- The same for loads on what fails: a byte at a time, they show how slow that is, and how pieces
-- are put together stands in 42_stores and 59_strange_stores.
function _M.first_of_faults(it)
  return (env.mode == "nojit" or env.mode == "slow-io") and first(it) or it
end

-- Returns busted's it for examples that wait long for clocks, and have nothing to do with how bytes
-- come or code is run: slow-io and nojit leave them out.
function _M.waiting(it)
  return (env.mode == "slow-io" or env.mode == "nojit") and function() end or it
end

-- Of a size in bytes that goes through weir: a byte at a time, each of the service's becomes a
-- record of nine.
function _M.bytes(n)
  return env.mode == "slow-io" and math.min(n, 100000) or n
end

-- True in the modes in which weir is slow on purpose: long examples do less.
function _M.is_slow()
  return env.mode == "slow-io" or env.mode == "asan" or env.mode == "nojit"
end

return _M
