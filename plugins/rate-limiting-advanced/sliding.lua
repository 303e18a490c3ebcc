-- When a sliding window will have room again. In it what was counted in the window
-- before weighs by the part of that window that a full size reaches back to, so room
-- comes bit by bit: in this window, or only after it, when its own count is the one
-- that weighs ever less.

local ceil = math.ceil
local floor = math.floor
local tonumber = tonumber


local _M = {}


-- The sizes in milliseconds of a list for counter.windows, from number 0 on.
function _M.sizes(list)
  local sizes = {}
  for i, window in ipairs(list) do
    sizes[i - 1] = window.size_s * 1000
  end
  return sizes
end


-- The milliseconds until one more request finds room if nothing else is counted. current and
-- previous: the counts of this window and of that before; reset_ms: to this window's end.
function _M.room_ms(limit, current, previous, reset_ms, size_ms)
  local room = limit - 1 - current
  if room >= 0 then
    -- in this window, once the previous one weighs no more than that
    local left_ms = previous > 0 and size_ms * room / previous or size_ms
    return reset_ms > left_ms and reset_ms - left_ms or 0
  end
  -- in the next one, whose previous this is; never, if even one is too many
  local weight = limit > 1 and (limit - 1) / current or 0
  return reset_ms + size_ms * (1 - weight)
end


-- Puts that time in the place of the distance to the end of each window from number i on
-- that a request was rejected by. charged: what the rejection itself counts.
function _M.set_room(windows, sizes, used, reset_ms, charged, i)
  if i > windows.n then
    return
  end
  local at = i - 1
  local limit = windows.limit[at]
  if used[at] + 1 > limit then
    local left_ms, previous, size_ms = tonumber(reset_ms[at]), windows.previous[at], sizes[at]
    local weight = left_ms < size_ms and left_ms / size_ms or 1
    local current = floor(used[at] - previous * weight + 0.5) + charged
    reset_ms[at] = ceil(_M.room_ms(limit, current, previous, left_ms, size_ms))
  end
  return _M.set_room(windows, sizes, used, reset_ms, charged, i + 1)
end


return _M
