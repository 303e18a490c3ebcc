-- What weir has from AWS beside secrets: passwords for Redis on ElastiCache with
-- IAM, which are URLs that are signed and never asked for.

local C = require("weir.ffi").C
local api = require "weir.cloud.api"
local credentials = require "weir.cloud.aws.credentials"
local dates = require "weir.cloud.dates"
local service = require "weir.cloud.aws.service"
local sigv4 = require "weir.cloud.aws.sigv4"

local text = api.text

local TOKEN_S = 900  -- the longest that ElastiCache takes
local PART = 0.8     -- of its time that a token is used: the keeper looks again before that ends

local _M = {}


local function inputs_of(cloud)
  return {
    access_key_id = text(cloud.aws_access_key_id), region = text(cloud.aws_region),
    secret_access_key = text(cloud.aws_secret_access_key),
    assume_role_arn = text(cloud.aws_assume_role_arn),
    role_session_name = text(cloud.aws_role_session_name),
  }
end


local function token_of(cache, user, is_serverless, keys, region)
  local url = sigv4.presign({
    url = "https://" .. cache:lower() .. "/",
    params = { Action = "connect", User = user,
               ResourceType = is_serverless and "ServerlessCache" or nil },
  }, keys, { time = C.weir_now(), region = region, service = "elasticache", expires_s = TOKEN_S })
  return url and url:sub(#"https://" + 1)
end


-- The password of redis.username for an ElastiCache that asks for IAM | nil, err, ttl_s. cloud: the
-- record cloud_authentication; redis: the one around it. fresh: what was asked for before may be
-- wrong. May wait for credentials; with err, true where their keys were refused.
function _M.redis_password(cloud, redis, fresh)
  local cache, user = text(cloud.aws_cache_name), text(redis.username)
  if not cache then
    return nil, "aws_cache_name is not said"
  end
  if not user then
    return nil, "ElastiCache with IAM needs a username"
  end
  local region, err = service.region(text(cloud.aws_region))
  if not region then
    return nil, err
  end
  local keys, refused
  keys, err, refused = credentials.get(inputs_of(cloud), fresh)
  if not keys then
    return nil, err, refused
  end
  local token = token_of(cache, user, cloud.aws_is_serverless ~= false, keys, region)
  if not token then
    return nil, "aws_cache_name is not the name of a cache"
  end
  local left_s = math.min(TOKEN_S, (keys.ends_at or math.huge) - dates.steady_now())
  return token, nil, math.max(1, left_s * PART)
end


return _M
