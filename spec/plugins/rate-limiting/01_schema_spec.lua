-- What a rate-limiting config may hold, and the exact words for what it may not.
require "native"
local plugins = require "weir.entities.plugins"
local stdlib = require "posix.stdlib"

local function load_schema()
  return assert(plugins.subschema(dofile("plugins/rate-limiting/schema.lua")))
end

local schema = load_schema()

local function accept(config)
  return plugins.new({ ["rate-limiting"] = schema }):accept({
    name = "rate-limiting", config = config,
  })
end

local function refused(config)
  local entity, errors = accept(config)
  assert.is_nil(entity)
  return errors
end

local NO_LIMIT = "at least one of these fields must be non-empty: 'config.second', "
  .. "'config.minute', 'config.hour', 'config.day', 'config.month', 'config.year'"
local NO_FIELD = "failed conditional validation given value of field 'config.limit_by'"

describe("rate-limiting: schema", function()
  it("fills in the defaults", function()
    local entity = assert(accept({ minute = 5, policy = "local" }))
    local config = entity.config
    assert.equal(5, config.minute)
    assert.equal("consumer", config.limit_by)
    assert.equal("local", config.policy)
    assert.is_true(config.fault_tolerant)
    assert.is_false(config.hide_client_headers)
    assert.equal(429, config.error_code)
    assert.equal("API rate limit exceeded", config.error_message)
    assert.equal(-1, config.sync_rate)
  end)

  it("takes each period, and equal and fractional limits", function()
    for _, period in ipairs({ "second", "minute", "hour", "day", "month", "year" }) do
      assert.is_truthy((accept({ [period] = 10 })), period)
    end
    assert.is_truthy((accept({ second = 10, hour = 10 })))
    assert.is_truthy((accept({ second = 0.5 })))
  end)

  it("wants a limit", function()
    assert.same({ NO_LIMIT }, refused({})["@entity"])
  end)

  it("wants limits above 0", function()
    assert.equal("value must be greater than 0", refused({ minute = 0 }).config.minute)
    assert.equal("value must be greater than 0", refused({ minute = -1 }).config.minute)
    assert.equal("expected a number", refused({ minute = "5" }).config.minute)
  end)

  it("wants no larger window with a lower limit", function()
    assert.equal("The limit for hour(10.0) cannot be lower than the limit for second(20.0)",
                 refused({ second = 20, hour = 10 }).config)
    assert.equal("The limit for minute(5.0) cannot be lower than the limit for second(20.0)",
                 refused({ second = 20, minute = 5, hour = 10 }).config)
    assert.equal("The limit for year(1.5) cannot be lower than the limit for day(2.0)",
                 refused({ day = 2, year = 1.5 }).config)
  end)

  it("wants the name of the header to limit by", function()
    local errors = refused({ minute = 5, limit_by = "header" })
    assert.same({ header_name = "required field missing" }, errors.config)
    assert.same({ NO_FIELD }, errors["@entity"])
    assert.is_truthy((accept({ minute = 5, limit_by = "header", header_name = "X-Key" })))
    assert.is_string(refused({ minute = 5, header_name = "X Key" }).config.header_name)
  end)

  it("wants the path to limit by", function()
    local errors = refused({ minute = 5, limit_by = "path" })
    assert.same({ path = "required field missing" }, errors.config)
    assert.same({ NO_FIELD }, errors["@entity"])
    assert.is_truthy((accept({ minute = 5, limit_by = "path", path = "/a/b" })))
    for _, path in ipairs({ "a", "/a//b", "/a%zz" }) do
      assert.is_string(refused({ minute = 5, path = path }).config.path, path)
    end
  end)

  it("knows what to limit by, and where", function()
    assert.equal("expected one of: consumer, credential, ip, service, header, path",
                 refused({ minute = 5, limit_by = "moon" }).config.limit_by)
    assert.equal("expected one of: local, cluster, redis",
                 refused({ minute = 5, policy = "moon" }).config.policy)
    assert.is_truthy((accept({ minute = 5, policy = "cluster" })))
  end)

  -- With keys of weir.conf as environment says.
  local function with(key, value, fn)
    stdlib.setenv(key, value)
    schema = load_schema()
    local ok, err = pcall(fn)
    stdlib.setenv(key)
    schema = load_schema()
    assert(ok, err)
  end

  it("knows no cluster without a database", function()
    with("WEIR_DATABASE", "off", function()
      assert.equal("expected one of: local, redis",
                   refused({ minute = 5, policy = "cluster" }).config.policy)
      assert.equal("expected one of: local, redis",
                   refused({ minute = 5, policy = "moon" }).config.policy)
    end)
    assert.is_truthy((accept({ minute = 5, policy = "cluster" })))
  end)

  it("wants a Redis for the policy redis", function()
    local errors = refused({ minute = 5, policy = "redis" })
    assert.same({ redis = { host = "required field missing" } }, errors.config)
    assert.same({ "failed conditional validation given value of field 'config.policy'" },
                errors["@entity"])
    assert.is_truthy((accept({ minute = 5, policy = "redis", redis = { host = "a" } })))
    assert.is_truthy((accept({ minute = 5, policy = "redis", redis_host = "a" })))
    for _, key in ipairs({ "WEIR_REDIS_HOST", "WEIR_REDIS_SENTINEL_MASTER",
                           "WEIR_REDIS_CLUSTER_ADDRESSES" }) do
      with(key, "a:1", function()
        assert.is_truthy((accept({ minute = 5, policy = "redis" })))
      end)
    end
  end)

  it("has a sync_rate for Redis only", function()
    for _, policy in ipairs({ "local", "cluster" }) do
      assert.equal("sync_rate can only be used with the redis policy",
                   refused({ minute = 5, policy = policy, sync_rate = 10 }).config)
      assert.is_truthy((accept({ minute = 5, policy = policy, sync_rate = -1 })))
    end
    local redis = { host = "127.0.0.1" }
    for _, rate in ipairs({ 0, 0.01, -2 }) do
      local errors = refused({ minute = 5, policy = "redis", redis = redis, sync_rate = rate })
      assert.equal("sync_rate must be greater than 0.02, or -1 to disable", errors.config)
    end
    for _, rate in ipairs({ -1, 0.02, 10 }) do
      assert.is_truthy((accept({ minute = 5, policy = "redis", redis = redis, sync_rate = rate })))
    end
  end)

  it("knows configs that are rate-limiting-advanced's", function()
    local advanced = "rate-limiting-advanced"
    local said = {}
    local both = plugins.new({
      ["rate-limiting"] = schema,
      [advanced] = assert(plugins.subschema(dofile("plugins/" .. advanced .. "/schema.lua"))),
    })
    package.loaded["weir.deprecation"] = { say = function(messages)
      said[#said + 1] = table.concat(messages, "; ")
    end }
    local function translate(config)
      return both:accept({ name = "rate-limiting", config = config })
    end
    local entity = assert(translate({ limit = "10,100", window_size = "60, 3600", sync_rate = 10 }))
    assert.equal(advanced, entity.name)
    assert.same({ 10, 100 }, entity.config.limit)
    assert.same({ 60, 3600 }, entity.config.window_size)
    assert.equal("cluster", entity.config.strategy)
    assert.same({ "rate-limiting: a config with limit and window_size is deprecated, please use "
      .. "rate-limiting-advanced instead" }, said)
    entity = assert(translate({ limit = 10, window_size = 60, sync_rate = -1 }))
    assert.same({ 10 }, entity.config.limit)
    assert.equal("local", entity.config.strategy)
    entity = assert(translate({ limit = { 10 }, window_size = { 60 }, strategy = "redis", redis = {
      sentinel_master = "m", sentinel_role = "master", sentinel_addresses = "a:1,b:2",
    } }))
    assert.equal("redis", entity.config.strategy)
    assert.same({ { host = "a", port = 1 }, { host = "b", port = 2 } },
                entity.config.redis.sentinel_nodes)
    local _, errors = translate({ limit = "ten", window_size = "60" })
    assert.same({ "expected a number" }, errors.config.limit)
    with("WEIR_DATABASE", "off", function()
      assert.equal("local", translate({ limit = 10, window_size = 60 }).config.strategy)
    end)
    package.loaded["weir.deprecation"] = nil
    assert.equal("unknown field", refused({ minute = 5, limit = 10 }).config.limit)
  end)

  it("wants a status that an error can have", function()
    assert.equal("value must be greater than 0", refused({ minute = 5, error_code = 0 })
      .config.error_code)
    assert.equal("value should be between 400 and 599",
                 refused({ minute = 5, error_code = 200 }).config.error_code)
    assert.is_truthy((accept({ minute = 5, error_code = 503 })))
    assert.equal("length must be at least 1",
                 refused({ minute = 5, error_message = "" }).config.error_message)
  end)

  it("knows no other field", function()
    assert.equal("unknown field", refused({ minute = 5, minutes = 5 }).config.minutes)
  end)
end)
