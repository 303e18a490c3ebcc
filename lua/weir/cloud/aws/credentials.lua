-- Credentials of AWS for one set of inputs: keys from the config or from the
-- process's surroundings, and with a role, that role's. What is lent for a while
-- is kept until shortly before its end, by what it depends on.

local crypto = require "weir.crypto"
local leases = require "weir.cloud.leases"
local service = require "weir.cloud.aws.service"
local sources = require "weir.cloud.aws.sources"
local sts = require "weir.cloud.aws.sts"

local _M = {}

local lent = leases.new()


local function base_of(inputs, fresh)
  local id, secret = inputs.access_key_id, inputs.secret_access_key
  if id and secret then
    return { access_key_id = id, secret_access_key = secret }
  end
  if id or secret then
    return nil, "an access key in the config needs both its ID and its secret"
  end
  local key = crypto.digest("found", inputs.region, inputs.sts_endpoint_url)
  return lent:get(key, function()
    local credentials, err = sources.find(inputs)
    if not credentials then
      return nil, err
    end
    return credentials, nil, credentials.ends_at
  end, fresh)
end


-- What AWS no longer knows of what was found before may have been withdrawn: then there are others.
local function assume(inputs, fresh)
  local region, err = service.region(inputs.region)
  if not region then
    return nil, err
  end
  local base
  base, err = base_of(inputs, fresh)
  if not base then
    return nil, err
  end
  local role = { arn = inputs.assume_role_arn, session_name = inputs.role_session_name or "weir",
                 region = region, sts_endpoint_url = inputs.sts_endpoint_url }
  local credentials, code
  credentials, err, code = sts.assume_role(base, role)
  local other = service.is_stale(code) and not inputs.access_key_id and base_of(inputs, true)
  if other and other ~= base then
    credentials, err = sts.assume_role(other, role)
  end
  if not credentials then
    return nil, "cannot assume the role: " .. err, -- whose ARN may be a reference's
      service.is_stale(code) or nil
  end
  return credentials, nil, credentials.ends_at
end


-- A table of access_key_id, secret_access_key, session_token and ends_at (by the clock that never
-- steps; nil: never) | nil, err, whether the keys were refused. inputs, each may be nil:
-- access_key_id and secret_access_key, region, assume_role_arn, role_session_name,
-- sts_endpoint_url. fresh: what is kept may be wrong. Waits.
function _M.get(inputs, fresh)
  if not inputs.assume_role_arn then
    return base_of(inputs, fresh)
  end
  local key = crypto.digest("role", inputs.access_key_id, inputs.secret_access_key, inputs.region,
    inputs.assume_role_arn, inputs.role_session_name, inputs.sts_endpoint_url)
  return lent:get(key, function()
    return assume(inputs, fresh)
  end, fresh)
end


return _M
