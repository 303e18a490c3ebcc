-- The services of AWS that weir asks: where each is, and one signed request to
-- it with what its errors mean. Says nothing of a response's body but the code
-- of its error.

local C = require("weir.ffi").C
local api = require "weir.cloud.api"
local dates = require "weir.cloud.dates"
local http = require "weir.http"
local sigv4 = require "weir.cloud.aws.sigv4"
local timer = require "weir.timer"

local match = string.match

local TRIES = 3        -- of a request that AWS has no time for
local PAUSE_S = 0.2    -- before the second; twice that before the third
local SKEW_S = 240     -- AWS refuses signatures that are five minutes off

-- The top-level domains of partitions other than aws, by the regions' names.
local DOMAINS = {
  { "^cn%-", "amazonaws.com.cn" }, { "^eusc%-", "amazonaws.eu" },
  { "^us%-iso%-", "c2s.ic.gov" }, { "^us%-isob%-", "sc2s.sgov.gov" },
  { "^us%-isof%-", "csp.hci.ic.gov" }, { "^eu%-isoe%-", "cloud.adc-e.uk" },
}

local UNKNOWN_KEY = "AWS does not know the access key (or its session token)"
local WRONG_KEY = "the secret access key is not that of the access key"
local ENDED = "the session token has ended"
local BUSY = "AWS is asked too often"

local HINTS = {
  ExpiredToken = ENDED, ExpiredTokenException = ENDED,
  InvalidClientTokenId = UNKNOWN_KEY, UnrecognizedClientException = UNKNOWN_KEY,
  InvalidSignatureException = WRONG_KEY, SignatureDoesNotMatch = WRONG_KEY,
  RequestExpired = "the signature is too old",
  Throttling = BUSY, ThrottlingException = BUSY, TooManyRequestsException = BUSY,
}

-- What other credentials may mend.
local STALE = {
  ExpiredToken = true, ExpiredTokenException = true, InvalidClientTokenId = true,
  UnrecognizedClientException = true,
}

local _M = {}


-- The region that is said, or that of the environment | nil, err.
function _M.region(said)
  local region = api.text(said) or api.env("AWS_REGION") or api.env("AWS_DEFAULT_REGION")
  if not region then
    return nil, "no region is said: neither in the config nor as AWS_REGION in the environment"
  end
  if not match(region, "^[%l%d%-]+$") then
    return nil, "the region may have lower-case letters, digits and hyphens only"
  end
  return region
end


local function domain_of(region)
  for _, entry in ipairs(DOMAINS) do
    if match(region, entry[1]) then
      return entry[2]
    end
  end
  return "amazonaws.com"
end


-- The URL of a service, such as secretsmanager, without a slash at its end | nil, err. said: from
-- the config, or nil; variable: the service's name in AWS_ENDPOINT_URL_<variable>.
function _M.endpoint(service, region, said, variable)
  local url = api.text(said) or api.env("AWS_ENDPOINT_URL_" .. variable)
    or api.env("AWS_ENDPOINT_URL")
  if not url then
    return "https://" .. service .. "." .. region .. "." .. domain_of(region)
  end
  if not match(url, "^https?://[%w%.%-%[%]:]+[^%s?#]*$") then
    return nil, "the endpoint of " .. service .. " is no URL of http or https"
  end
  return (url:gsub("/+$", ""))
end


-- Whether other credentials may mend an error of this code.
function _M.is_stale(code)
  return STALE[code] == true
end


local function skew_of(response)
  local theirs = response.headers.date and dates.from_http(response.headers.date)
  local off_s = theirs and math.floor(C.weir_now() - theirs)
  if off_s and math.abs(off_s) >= SKEW_S then
    return ("this machine's clock is %d s %s AWS's"):format(math.abs(off_s),
      off_s > 0 and "ahead of" or "behind")
  end
end


-- An error of AWS in words. hints: code -> text, before the common ones.
local function explain(code, response, hints)
  local hint = skew_of(response) or hints and hints[code] or HINTS[code]
  return code .. (hint and " (" .. hint .. ")" or "")
end


-- The code of an error: <Code> of XML, or __type of JSON. Bounded: it goes into a message.
local function code_of(response)
  local body = response.body
  local code = match(body, "<Code>([%w%.]+)</Code>")
    or match(body, '"__type"%s*:%s*"[^"#]-#?([%w]+)"')
    or match(response.headers["x-amzn-errortype"] or "", "^([%w]+)")
  return code and #code <= 64 and code or "status " .. response.status
end


local function is_passing(response)
  return response.status >= 500 or response.status == 429 or HINTS[code_of(response)] == BUSY
end


local function ask_patiently(request)
  for try = 1, TRIES do
    local response, err = http.request(request)
    if not response or try == TRIES or not is_passing(response) then
      return response, err
    end
    timer.sleep(PAUSE_S * try * (0.5 + math.random()))
  end
end


-- Sends a POST: request has url, headers, body. credentials: nil for what is not signed. options:
-- service, region, hints (code -> text). The body of an answer 200 | nil, err, code.
function _M.post(request, credentials, options)
  request.method = "POST"
  if credentials then
    local ok, err = sigv4.sign(request, credentials, {
      time = C.weir_now(), region = options.region, service = options.service,
    })
    if not ok then
      return nil, err
    end
  end
  local response, err = ask_patiently(request)
  if not response then
    return nil, err
  end
  if response.status == 200 then
    return response.body
  end
  local code = code_of(response)
  return nil, explain(code, response, options.hints), code
end


return _M
