-- The modes in which the same end-to-end examples run (WEIR_TEST_MODE): plain;
-- slow-io, nojit and asan, which change weir alone (see weir.lua); reload, with
-- a SIGHUP in front of each example; leak, in which each example is repeated
-- while weir's memory and descriptors must stay as they are.
local env = require "lib.env"

local _M = {}

local WARM_UP = 10
local REPEAT = tonumber(os.getenv("WEIR_LEAK_REPEAT") or "100")
local GROWTH_KB = 1024

local function same_list(a, b)
  return table.concat(a, " ") == table.concat(b, " ")
end

local function repeated(w, fn)
  for _ = 1, WARM_UP do
    fn()
  end
  local workers, files, kb = w:workers(), w:open_files(), w:rss_kb()
  for _ = 1, REPEAT do
    fn()
  end
  if not same_list(workers, w:workers()) then
    return -- the example itself replaces workers
  end
  require("lib.net").wait_until(2, function()
    return w:open_files() <= files
  end)
  assert(w:open_files() <= files,
         ("descriptors grew from %d to %d"):format(files, w:open_files()))
  local grown = w:rss_kb() - kb
  assert(grown <= GROWTH_KB, ("memory grew by %d KiB in %d repetitions"):format(grown, REPEAT))
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

-- Of a size in bytes that goes through weir: a byte at a time it takes its time.
function _M.bytes(n)
  return env.mode == "slow-io" and math.min(n, 1000000) or n
end

-- True in the mode in which every byte is a read and a write of its own.
function _M.is_slow_io()
  return env.mode == "slow-io"
end

-- True in the modes in which weir is slow on purpose: long examples do less.
function _M.is_slow()
  return env.mode == "slow-io" or env.mode == "asan" or env.mode == "nojit"
end

return _M
