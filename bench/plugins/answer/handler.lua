-- Answers 200 without an upstream, behind whatever ran before it: so that the
-- host and the limiter are measured, and nothing else.

local Answer = { PRIORITY = 1, VERSION = "1.0.0" }


function Answer:access()
  return kong.response.exit(200, "ok\n")
end


return Answer
