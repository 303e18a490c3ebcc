-- Where texts stand in a process's memory: in the private pages that it has written,
-- those apart that it asked the kernel to leave out of core dumps (VmFlags dd).
local proc = require "lib.proc"

local _M = {}

local PIECE = 1024 * 1024

-- The mappings, each { first, last, name, flags = the two-letter VmFlags as keys }.
local function mappings(pid)
  local out = {}
  for line in (proc.read_file("/proc/" .. pid .. "/smaps") or ""):gmatch("[^\n]+") do
    local first, last, mode, name = line:match("^(%x+)%-(%x+) (%S+) %S+ %S+ %S+%s*(.*)$")
    if first then
      out[#out + 1] = { first = tonumber(first, 16), last = tonumber(last, 16), mode = mode,
                        name = name, flags = {} }
    elseif line:match("^VmFlags:") then
      for flag in line:gmatch("%f[%w]%w%w%f[%W]") do
        out[#out].flags[flag] = true
      end
    end
  end
  return out
end

-- Whose a mapping is: "kept out" of core dumps, the "C heap", or "other": Lua's heap is there, but
-- also what malloc maps. nil: not written by the process, or not in a core dump.
local function kind_of(m)
  if not m.mode:match("^rw.p") then
    return nil
  end
  return m.flags.dd and "kept out" or m.name == "[heap]" and "C heap" or "other"
end

-- Calls fn(bytes, mapping) for each piece; pieces overlap by as many bytes.
local function each_piece(pid, overlap, fn)
  local file = io.open("/proc/" .. pid .. "/mem", "rb")
  if not file then
    return false
  end
  file:setvbuf("no")
  for _, m in ipairs(mappings(pid)) do
    local kind = kind_of(m)
    local at = kind and m.first or m.last
    while at < m.last do
      file:seek("set", at)
      local bytes = file:read(math.min(PIECE + overlap, m.last - at))
      if not bytes then
        break
      end
      fn(bytes, kind)
      at = at + PIECE
    end
  end
  file:close()
  return true
end

-- How often each of the texts stands there: text -> { ["kept out"] =, ["C heap"] =, other = }; and
-- how many bytes of each kind were looked at. nil when this user may not read that process.
function _M.find(pid, texts)
  local counts, bytes_of, longest = {}, { ["kept out"] = 0, ["C heap"] = 0, other = 0 }, 0
  for _, text in ipairs(texts) do
    counts[text] = { ["kept out"] = 0, ["C heap"] = 0, other = 0 }
    longest = math.max(longest, #text)
  end
  local readable = each_piece(pid, longest, function(bytes, kind)
    bytes_of[kind] = bytes_of[kind] + #bytes
    for text, of in pairs(counts) do
      local at = bytes:find(text, 1, true)
      while at do
        of[kind], at = of[kind] + 1, bytes:find(text, at + 1, true)
      end
    end
  end)
  return readable and counts or nil, bytes_of
end

return _M
