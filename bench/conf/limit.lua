-- The same decision and the same headers in nginx-lua: one counter per address
-- and minute in a shared dictionary.

-- luacheck: globals ngx

local counters = ngx.shared.counters
local limit = 1000000000
local now = ngx.time()
local start = now - now % 60
local key = "ratelimit:" .. ngx.var.remote_addr .. ":" .. start
local used = counters:incr(key, 1, 0, 60)
local header = ngx.header
local remaining = limit - used

header["X-RateLimit-Limit-Minute"] = limit
header["X-RateLimit-Remaining-Minute"] = remaining < 0 and 0 or remaining
header["RateLimit-Limit"] = limit
header["RateLimit-Remaining"] = remaining < 0 and 0 or remaining
header["RateLimit-Reset"] = start + 60 - now
if remaining < 0 then
  header["Retry-After"] = start + 60 - now
  ngx.status = 429
  ngx.print('{"message":"API rate limit exceeded"}')
  return
end
ngx.print("ok\n")
