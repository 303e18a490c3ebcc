-- Shows the client the headers of an answer that weir allowed: lighttpd keeps
-- them as variables, WEIR_HEADER_RATELIMIT_LIMIT for RateLimit-Limit.
local env, headers = lighty.r.req_env, lighty.r.resp_header
local spelling = { RATELIMIT = "RateLimit" }

local function spell(word)
  return spelling[word] or word:sub(1, 1) .. word:sub(2):lower()
end

for name, value in pairs(env) do
  local rest = name:match("^WEIR_HEADER_(.+)$")
  if rest then
    headers[rest:gsub("[^_]+", spell):gsub("_", "-")] = value
  end
end
return 0
