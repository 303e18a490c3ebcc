-- Regular expressions over weir_re_* (PCRE2). Keeps the compiled ones, at most
-- CACHE_MAX of them, by options and pattern. Matches are bounded in C: a
-- pattern that backtracks too long gives an error, not a hang.

local weir = require("weir.ffi")

local C, ffi, sv, str, NONE = weir.C, weir.ffi, weir.sv, weir.str, weir.NONE
local sub = string.sub

local PAIRS = 128
local CACHE_MAX = 1024

local _M = {}

local ovector = ffi.new("int32_t[?]", 2 * PAIRS)
local cache, cached = {}, 0

local re = {}
re.__index = re

local function group_names(handle)
  local names
  local i = 0
  while true do
    local group = C.weir_re_name(handle, i, sv)
    if group == NONE then
      return names
    end
    names = names or {}
    names[#names + 1] = { group = group, name = str(sv[0]) }
    i = i + 1
  end
end

local function build(pattern, options)
  local handle = C.weir_re_new(pattern, #pattern, options, sv)
  if handle == nil then
    return nil, str(sv[0])
  end
  return setmetatable({
    handle = ffi.gc(handle, C.weir_re_free),
    groups = C.weir_re_groups(handle),
    names = group_names(handle),
  }, re)
end

-- A compiled pattern, or nil and the reason. options: letters of "ixsmauD".
function _M.compile(pattern, options)
  options = options or ""
  local by_pattern = cache[options]
  local found = by_pattern and by_pattern[pattern]
  if found then
    return found
  end
  local compiled, err = build(pattern, options)
  if not compiled then
    return nil, err
  end
  if cached >= CACHE_MAX then
    cache, cached = {}, 0
  end
  cache[options] = cache[options] or {}
  cache[options][pattern] = compiled
  cached = cached + 1
  return compiled
end

-- Where the pattern matches from byte `from` (default 1) on: first and last
-- byte; nil when it does not; nil and a reason when the match was given up.
function re:find(text, from)
  local n = C.weir_re_exec(self.handle, text, #text, (from or 1) - 1, ovector, PAIRS)
  if n > 0 then
    return ovector[0] + 1, ovector[1]
  end
  if n == NONE then
    return nil
  end
  return nil, n == -3 and "match limit exceeded" or "cannot match this text"
end

-- The groups that took part (0 is the whole match; false where one did not),
-- also by name; nil, or nil and a reason, as above. The second value is the
-- byte behind the match.
function re:match(text, from)
  local first, last = self:find(text, from)
  if not first then
    return nil, last
  end
  local out = { [0] = sub(text, first, last) }
  for i = 1, self.groups < PAIRS and self.groups or PAIRS - 1 do
    local start = ovector[2 * i]
    out[i] = start >= 0 and sub(text, start + 1, ovector[2 * i + 1])
  end
  local names = self.names
  if names then
    for i = 1, #names do
      out[names[i].name] = out[names[i].group]
    end
  end
  return out, last + 1
end

return _M
