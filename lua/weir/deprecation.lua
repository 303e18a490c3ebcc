-- Words about what a configuration says in an old way: one line in the log for
-- each, however many times and in however many processes it is read. Whoever
-- checks a configuration says it; the workers that load it then are silent.

local weir = require "weir.ffi"
local log = require "weir.log"

local _M = {}

local said = {}

-- messages: an array of texts, which become one line.
function _M.say(messages)
  local line = table.concat(messages, "; ")
  if not said[line] and weir.C.weir_worker_id() == 0 then
    said[line] = true
    log.notice(line)
  end
end

return _M
