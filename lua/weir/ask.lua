-- Single questions to a Redis or a PostgreSQL, each on a connection of its own:
-- for what is asked now and then and in the background. Counters have a way of
-- their own (weir.counter). Owns nothing.

local credential = require "weir.cloud.credential"
local secret = require "weir.secret"
local settings = require "weir.settings"
local wait = require "weir.wait"
local weir = require "weir.ffi"

local C, ffi, sv, str = weir.C, weir.ffi, weir.sv, weir.str
local WAIT, NONE = weir.WAIT, weir.NONE

local _M = {}


local function await(answer)
  local code = C.weir_answer_get(answer, sv)
  while code == WAIT do
    wait()
    code = C.weir_answer_get(answer, sv)
  end
  return code, str(sv[0])
end


-- What came back: a string | false, where there is none | nil, err.
local function take(answer)
  if answer == nil then
    error("a store may only be asked where weir can wait", 3)
  end
  local ok, code, text = pcall(await, answer)
  C.weir_answer_free(answer)
  if not ok then -- Lua cannot wait: table.sort or the like called this
    error(code, 3)
  end
  if code == 0 then
    return text
  elseif code == NONE then
    return false
  end
  return nil, text ~= "" and text or weir.strerror(code)
end


-- Sends a command to a Redis and waits for its reply, a string or false for none | nil, err.
-- redis: a record as the schema redis has it; where it names no server, weir.conf's is asked.
function _M.redis(redis, ...)
  local words = { ... }
  local argv, lens = ffi.new("const char *[?]", #words), ffi.new("size_t[?]", #words)
  for i, word in ipairs(words) do
    argv[i - 1], lens[i - 1] = word, #word
  end
  local texts = settings.of_redis(redis)
  if redis and redis.cloud_authentication then
    local ok, err = secret.need({ secret.find(credential.name_of(redis)) })
    if not ok then
      return nil, err
    end
  end
  return take(C.weir_redis_ask(texts, #texts, #words, argv, lens))
end


-- Runs a statement with the parameter $1 in a PostgreSQL: the first column of its first row, a
-- string or false for none | nil, err. pg: fields as weir.conf's pg_* without pg_; what is missing
-- is that of weir.conf.
function _M.postgres(pg, sql, param)
  local texts = settings.of_pg(pg)
  return take(C.weir_pg_ask(texts, #texts, sql, #sql, param, #param))
end


return _M
