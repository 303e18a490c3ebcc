-- The record that says where Redis is, its old names, and what is said of those.
require "native"
local schema = require "weir.schema"
local redis = require "weir.schema.redis"

local said = {}
package.loaded["weir.deprecation"] = {
  say = function(messages)
    said[#said + 1] = table.concat(messages, "; ")
  end,
}

local checker = assert(schema.new({ name = "t", shorthand_fields = redis.aliases("t"), fields = {
  { redis = redis.record },
} }))

local function accept(config)
  said = {}
  return checker:accept(config)
end

local function refused(record)
  local value, errors = accept({ redis = record })
  assert.is_nil(value)
  return errors.redis
end

describe("the redis record", function()
  it("fills in nothing: what is missing is weir.conf's", function()
    assert.same({ redis = {} }, accept({}))
    assert.same({ redis = { host = "a" } }, accept({ redis = { host = "a" } }))
  end)

  it("takes all that Kong's records take", function()
    local record = {
      host = "redis.example", port = 6380, timeout = 100, username = "u", password = "",
      database = 3, ssl = true, ssl_verify = true, server_name = "redis.example",
      connect_timeout = 0, send_timeout = 5, read_timeout = 2147483646,
      sentinel_master = "m", sentinel_role = "any", sentinel_username = "s",
      sentinel_password = "", sentinel_nodes = { { host = "10.0.0.1", port = 26379 } },
      cluster_max_redirections = 5, keepalive_pool_size = 256, keepalive_backlog = 0,
      connection_is_proxied = false, redis_proxy_type = "envoy_v1.31",
    }
    assert.same({ redis = record }, (assert(accept({ redis = record }))))
    assert.same({ { ip = "127.0.0.1", port = 6379 } },
                accept({ redis = { cluster_nodes = { {} } } }).redis.cluster_nodes)
    assert.same({}, said)
  end)

  it("takes a unix socket for a host", function()
    assert.is_table(accept({ redis = { host = "unix:/run/redis.sock" } }))
    assert.equal("invalid value: unix:redis.sock", refused({ host = "unix:redis.sock" }).host)
    assert.equal("must not have a port", refused({ host = "a:6379" }).host)
  end)

  it("says what it does not take", function()
    local errors = refused({
      port = 65536, timeout = -1, username = "", database = 1.5, ssl = "on",
      server_name = "10.0.0.1", sentinel_role = "chief", cluster_nodes = {},
      keepalive_pool_size = 0, keepalive_backlog = -1,
      redis_proxy_type = "other", cloud_authentication = {},
    })
    assert.same({
      port = "value should be between 0 and 65535",
      timeout = "value should be between 0 and 2147483646",
      username = "length must be at least 1", database = "expected an integer",
      ssl = "expected a boolean", server_name = "must not be an IP",
      sentinel_role = "expected one of: master, slave, any",
      cluster_nodes = "length must be at least 1",
      keepalive_pool_size = "value should be between 1 and 2147483646",
      keepalive_backlog = "value should be between 0 and 2147483646",
      redis_proxy_type = "expected one of: envoy_v1.31",
      cloud_authentication = { auth_provider = "required field missing" },
      ["@entity"] = errors["@entity"],
    }, errors)
  end)

  it("wants Sentinel whole, and not beside a Cluster", function()
    assert.same({ "all or none of these fields must be set: 'sentinel_master', 'sentinel_role', "
      .. "'sentinel_nodes'" }, refused({ sentinel_master = "m" })["@entity"])
    local record = { sentinel_master = "m", sentinel_role = "master",
                     sentinel_nodes = { { host = "a" } }, cluster_nodes = { { ip = "b" } } }
    assert.same({ "only one or none of these fields must be set: 'sentinel_master', "
      .. "'cluster_nodes'" }, refused(record)["@entity"])
  end)

  it("reads addresses", function()
    local record = assert(accept({ redis = {
      sentinel_master = "m", sentinel_role = "slave",
      sentinel_addresses = { "a.example:26379", "[::1]:26380" },
    } })).redis
    assert.same({ { host = "a.example", port = 26379 }, { host = "[::1]", port = 26380 } },
                record.sentinel_nodes)
    assert.is_nil(record.sentinel_addresses)
    assert.same({}, said)
    assert.equal("must be of the form host:port: a",
                 refused({ cluster_addresses = { "a" } }).cluster_addresses)
    assert.equal("must be of the form host:port: a:99999",
                 refused({ cluster_addresses = { "a:99999" } }).cluster_addresses)
    assert.equal("expected an array", refused({ cluster_addresses = "a:1" }).cluster_addresses)
    record = assert(accept({ redis = { cluster_addresses = { "127.0.0.1:7001" } } })).redis
    assert.same({ { ip = "127.0.0.1", port = 7001 } }, record.cluster_nodes)
  end)
end)

describe("the flat names", function()
  it("fill the record, with one line for all of them", function()
    assert.same({ redis = { host = "a", port = 6380, password = "PASSWORD", database = 0 } },
      accept({ redis_host = "a", redis_port = 6380, redis_password = "PASSWORD",
               redis_database = 0 }))
    assert.same({ "t: config.redis_host is deprecated, please use config.redis.host instead; "
      .. "t: config.redis_port is deprecated, please use config.redis.port instead; "
      .. "t: config.redis_password is deprecated, please use config.redis.password instead; "
      .. "t: config.redis_database is deprecated, please use config.redis.database instead" }, said)
  end)

  it("are there for every field", function()
    local config = assert(accept({ redis_connect_timeout = 1000, redis_sentinel_master = "m",
      redis_sentinel_role = "any", redis_sentinel_addresses = { "a:1" }, redis_ssl_verify = true }))
    assert.same({ redis = {
      connect_timeout = 1000, sentinel_master = "m", sentinel_role = "any", ssl_verify = true,
      sentinel_nodes = { { host = "a", port = 1 } },
    } }, config)
  end)

  it("do not tell the password in a URL", function()
    local _, errors = accept({ redis_host = "redis://user:secret@a:1" })
    assert.equal("must be a name, an address or unix:/path, not a URL", errors.redis.host)
  end)

  it("must agree with the new ones", function()
    local _, errors = accept({ redis_host = "a", redis = { host = "b" } })
    assert.same({ redis_host = "both deprecated and new field are used but their values mismatch: "
      .. "redis_host = a vs redis.host = b" }, errors)
    _, errors = accept({ redis_port = 1, redis = { port = 2 } })
    assert.equal("both deprecated and new field are used but their values mismatch: "
      .. "redis_port = 1 vs redis.port = 2", errors.redis_port)
    _, errors = accept({ redis_password = "one", redis = { host = "a", password = "other" } })
    assert.equal("both deprecated and new field are used but their values mismatch: "
      .. "redis_password = *** vs redis.password = ***", errors.redis_password)
    assert.same({ redis = { host = "a", port = 1 } },
                accept({ redis_host = "a", redis = { host = "a", port = 1 } }))
    assert.same({ redis = { cluster_nodes = { { ip = "a", port = 1 } } } },
                accept({ redis_cluster_addresses = { "a:1" },
                         redis = { cluster_addresses = { "a:1" } } }))
  end)

  it("are checked as the new ones are", function()
    local _, errors = accept({ redis_host = "a b" })
    assert.same({ redis = { host = "invalid value: a b" } }, errors)
    _, errors = accept({ redis_port = "6379" })
    assert.equal("expected an integer", errors.redis_port)
  end)
end)

describe("Kong's name for the record", function()
  it("gives it complete", function()
    package.path = "lua/compat/?.lua;" .. package.path
    local s = assert(schema.new({ name = "t", fields = {
      { redis = require("kong.tools.redis.schema").config_schema },
    } }))
    assert.same({ redis = { host = "a", port = 6379, timeout = 2000, database = 0, ssl = false,
                            ssl_verify = false } }, s:accept({ redis = { host = "a" } }))
  end)
end)

describe("a cloud's login", function()
  local ref = "{vault://env/cloud}"

  local function cloud_errors(cloud, record)
    record = record or { host = "a", username = "u" }
    record.cloud_authentication = cloud
    local value, errors = accept({ redis = record })
    return not value and (errors.redis.cloud_authentication or errors.redis) or nil
  end

  it("is not there by itself", function()
    assert.is_nil(accept({ redis = { host = "a" } }).redis.cloud_authentication)
    local complete = assert(schema.new({ name = "t", fields = {
      { redis = redis.complete_record },
    } }, { complete_records = true }))
    assert.is_nil(complete:accept({}).redis.cloud_authentication)
  end)

  it("takes all that Kong's takes, and fills in what it may", function()
    local cloud = {
      auth_provider = "aws", aws_cache_name = "c", aws_is_serverless = false, aws_region = "r",
      aws_access_key_id = "i", aws_secret_access_key = "s", aws_assume_role_arn = "arn:x",
      aws_role_session_name = "n", azure_client_id = "i", azure_client_secret = "s",
      azure_tenant_id = "t",
      gcp_service_account_json = '{"client_email": "a@b", "private_key": "k"}',
    }
    local given = {}
    for name, value in pairs(cloud) do
      given[name] = value
    end
    assert.same(cloud, accept({ redis = {
      host = "a", username = "u", cloud_authentication = given,
    } }).redis.cloud_authentication)
    assert.is_true(accept({ redis = { host = "a", cloud_authentication = {
      auth_provider = "gcp" } } }).redis.cloud_authentication.aws_is_serverless)
  end)

  it("says whose it is", function()
    assert.same({ auth_provider = "required field missing" }, cloud_errors({}))
    assert.same({ auth_provider = "expected one of: aws, azure, gcp" },
      cloud_errors({ auth_provider = "ibm" }))
    assert.is_nil(cloud_errors({ auth_provider = "azure" }))
    assert.is_nil(cloud_errors({ auth_provider = "gcp" }, { host = "a" }))
  end)

  it("of AWS names the cache and its region, and both parts of a key", function()
    local errors = cloud_errors({ auth_provider = "aws" })
    assert.same({ "required field missing", "required field missing" },
      { errors.aws_cache_name, errors.aws_region })
    assert.is_nil(cloud_errors({ auth_provider = "aws", aws_cache_name = ref, aws_region = ref }))
    local message = "all or none of these fields must be set: 'aws_access_key_id', "
      .. "'aws_secret_access_key'"
    assert.same({ ["@entity"] = { message } }, cloud_errors({
      auth_provider = "aws", aws_cache_name = "c", aws_region = "r", aws_access_key_id = "k" }))
    assert.is_nil(cloud_errors({ auth_provider = "aws", aws_cache_name = "c", aws_region = "r",
      aws_access_key_id = "k", aws_secret_access_key = ref }))
  end)

  it("of AWS and Azure needs a user", function()
    for _, cloud in ipairs({
      { auth_provider = "aws", aws_cache_name = "c", aws_region = "r" },
      { auth_provider = "azure" },
    }) do
      local errors = cloud_errors(cloud, { host = "a" })
      assert.matches("needs the name of its user", errors.username, 1, true)
      assert.is_nil(cloud_errors(cloud, { host = "a", username = ref }))
    end
  end)

  it("goes with no password", function()
    local message = "only one or none of these fields must be set: 'password', "
      .. "'cloud_authentication'"
    for _, password in ipairs({ "p", ref }) do
      assert.same({ ["@entity"] = { message } },
        cloud_errors({ auth_provider = "gcp" }, { host = "a", password = password }))
    end
    assert.is_nil(cloud_errors({ auth_provider = "gcp" }, { host = "a", password = "" }))
  end)

  it("of Google may be a key, which no message shows", function()
    for _, text in ipairs({ "s3cret", "[]", "{}", '{"client_email": "s3cret"}' }) do
      assert.same({ gcp_service_account_json = "must be the JSON text of a service account's key, "
        .. "with client_email and private_key" },
        cloud_errors({ auth_provider = "gcp", gcp_service_account_json = text }))
    end
    assert.is_nil(cloud_errors({ auth_provider = "gcp", gcp_service_account_json = ref }))
  end)

  it("has no flat name", function()
    local _, errors = accept({ redis_cloud_authentication = { auth_provider = "gcp" } })
    assert.same({ redis_cloud_authentication = "unknown field" }, errors)
  end)
end)

describe("references in the redis record", function()
  it("stand where Kong's do, and in the old names", function()
    local ref, record, flat = "{vault://env/x}", {}, {}
    for _, name in ipairs({ "host", "port", "username", "password", "server_name",
      "sentinel_username", "sentinel_password" }) do
      record[name], flat["redis_" .. name] = ref, ref
    end
    assert.same(record, accept(flat).redis)
    assert.same(record, accept({ redis = record }).redis)
  end)
end)
