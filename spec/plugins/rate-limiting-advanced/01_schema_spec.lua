-- What a rate-limiting-advanced config may hold, and the exact words for what it may not.
require "native"
local null = require("weir.json").null
local plugins = require "weir.entities.plugins"

local NAME = "rate-limiting-advanced"

local schema = assert(plugins.subschema(dofile("plugins/" .. NAME .. "/schema.lua")))

local function accept(config)
  config.limit = config.limit or { 10 }
  config.window_size = config.window_size or { 60 }
  return plugins.new({ [NAME] = schema }):accept({ name = NAME, config = config })
end

local function refused(config)
  local entity, errors = accept(config)
  assert.is_nil(entity)
  return errors
end

describe(NAME .. ": schema", function()
  it("fills in the defaults", function()
    local config = assert(accept({})).config
    assert.equal("sliding", config.window_type)
    assert.equal("consumer", config.identifier)
    assert.equal("local", config.strategy)
    assert.is_nil(config.sync_rate)
    assert.is_nil(config.namespace)
    assert.equal("kong_rate_limiting_counters", config.dictionary_name)
    assert.equal("kong_locks", config.lock_dictionary_name)
    assert.equal(429, config.error_code)
    assert.equal("API rate limit exceeded", config.error_message)
    assert.equal(0, config.retry_after_jitter_max)
    for _, name in ipairs({ "hide_client_headers", "disable_penalty", "enforce_consumer_groups",
                            "draft_headers", "dry_run" }) do
      assert.is_false(config[name], name)
    end
    assert.same({ enabled = false, interval = 5, queue_limit = 5, retry_times = 3 },
                config.throttling)
  end)

  it("wants limits and windows, as many of one as of the other", function()
    local _, errors = plugins.new({ [NAME] = schema }):accept({ name = NAME, config = {} })
    assert.same({ limit = "required field missing", window_size = "required field missing" },
                errors.config)
    assert.same({ "You must provide the same number of windows and limits" },
                refused({ limit = { 1, 2 } })["@entity"])
    assert.equal("expected an array", refused({ limit = 10 }).config.limit)
    assert.same({ "value must be greater than 0" },
                refused({ window_size = { 0 } }).config.window_size)
    assert.same({ "value must be greater than 0" }, refused({ limit = { -1 } }).config.limit)
    assert.is_truthy(accept({ limit = { 2.5, 10 }, window_size = { 0.5, 3600 } }))
  end)

  it("knows eight windows at most", function()
    local eight = { 1, 2, 3, 4, 5, 6, 7, 8 }
    assert.is_truthy(accept({ limit = eight, window_size = { 1, 2, 3, 4, 5, 6, 7, 8 } }))
    local nine = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }
    assert.same({ limit = "length must be at most 8", window_size = "length must be at most 8" },
                refused({ limit = nine, window_size = { unpack(nine) } }).config)
  end)

  it("wants what the identifier needs", function()
    for kind, field in pairs({ header = "header_name", path = "path" }) do
      local errors = refused({ identifier = kind })
      assert.same({ [field] = "required field missing" }, errors.config)
      assert.same({ "failed conditional validation given value of field 'config.identifier'" },
                  errors["@entity"])
      errors = refused({ compound_identifier = { "ip", kind } })
      assert.same({ [field] = "required field missing" }, errors.config)
    end
    assert.is_truthy(accept({ identifier = "header", header_name = "X-Key" }))
    assert.is_truthy(accept({ identifier = "path", compound_identifier = { "ip", "service" } }))
    assert.equal("expected one of: ip, credential, consumer, service, header, path, route",
                 refused({ identifier = "consumer-group" }).config.identifier)
  end)

  it("knows no consumer groups", function()
    local words = "consumer groups are not supported"
    assert.equal(words, refused({ enforce_consumer_groups = true }).config.enforce_consumer_groups)
    assert.equal(words, refused({ consumer_groups = { "gold" } }).config.consumer_groups)
    assert.is_truthy(accept({ enforce_consumer_groups = false, consumer_groups = null }))
  end)

  it("exchanges counters at a rate that it can", function()
    for _, rate in ipairs({ -1, 0, 0.02, 10, null }) do
      assert.is_truthy((accept({ sync_rate = rate })))
    end
    for _, rate in ipairs({ -2, 0.01, -0.5 }) do
      assert.equal("must be -1, 0, or at least 0.02",
                   refused({ sync_rate = rate }).config.sync_rate)
    end
  end)

  it("needs a Redis for that strategy", function()
    local errors = refused({ strategy = "redis" })
    assert.same({ redis = { host = "required field missing" } }, errors.config)
    assert.same({ "failed conditional validation given value of field 'config.strategy'" },
                errors["@entity"])
    for _, redis in ipairs({
      { host = "a.example" }, { host = "unix:/run/redis.sock" },
      { sentinel_master = "m", sentinel_role = "master", sentinel_addresses = { "a:26379" } },
      { cluster_addresses = { "127.0.0.1:7001", "127.0.0.1:7002" } },
    }) do
      assert.is_truthy((accept({ strategy = "redis", redis = redis })))
    end
    assert.equal("expected one of: cluster, redis, local", refused({ strategy = "moon" })
      .config.strategy)
  end)

  it("has bounds for throttling and jitter", function()
    assert.equal("value should be between 1 and 1000000",
                 refused({ throttling = { interval = 0 } }).config.throttling.interval)
    assert.equal("value should be between 0 and 2147483647",
                 refused({ retry_after_jitter_max = -1 }).config.retry_after_jitter_max)
    assert.equal("expected one of: consumer.id, consumer.username, consumer.custom_id",
                 refused({ counter_key = "consumer" }).config.counter_key)
    assert.is_truthy((accept({ counter_key = "consumer.username" })))
  end)
end)
