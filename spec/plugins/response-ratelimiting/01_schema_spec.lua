-- What a response-ratelimiting config may hold, and the exact words for what it may not.
require "native"
local json = require "weir.json"
local plugins = require "weir.entities.plugins"

local schema = assert(plugins.subschema(dofile("plugins/response-ratelimiting/schema.lua")))

local function accept(config)
  return plugins.new({ ["response-ratelimiting"] = schema }):accept({
    name = "response-ratelimiting", config = config,
  })
end

local function refused(config)
  local entity, errors = accept(config)
  assert.is_nil(entity)
  return errors
end

local NO_PERIOD = "at least one of these fields must be non-empty: "
  .. "'second', 'minute', 'hour', 'day', 'month', 'year'"

describe("response-ratelimiting: schema", function()
  it("fills in the defaults", function()
    local config = assert(accept({ limits = { video = { minute = 5 } } })).config
    assert.same({ video = { minute = 5 } }, config.limits)
    assert.equal("x-kong-limit", config.header_name)
    assert.equal("consumer", config.limit_by)
    assert.equal("local", config.policy)
    assert.is_true(config.fault_tolerant)
    assert.is_false(config.block_on_first_violation)
    assert.is_false(config.hide_client_headers)
    assert.is_false(config.draft_headers)
    assert.is_false(config.dry_run)
  end)

  it("takes each period, several of them and several limits", function()
    for _, period in ipairs({ "second", "minute", "hour", "day", "month", "year" }) do
      assert.is_truthy((accept({ limits = { video = { [period] = 10 } } })), period)
    end
    assert.is_truthy((accept({ limits = {
      video = { second = 10, hour = 10 }, ["Images_2.x-y"] = { year = 0.5, day = json.null },
    } })))
  end)

  it("wants limits", function()
    assert.equal("required field missing", refused({}).config.limits)
    assert.equal("required field missing", refused({ limits = json.null }).config.limits)
    assert.equal("length must be at least 1", refused({ limits = {} }).config.limits)
    assert.equal("expected a map", refused({ limits = 5 }).config.limits)
    assert.equal("expected a map", refused({ limits = { 5 } }).config.limits)
  end)

  it("wants records of them", function()
    assert.equal("expected a record", refused({ limits = { video = 5 } }).config.limits)
    assert.equal("expected a record", refused({ limits = { video = { 5 } } }).config.limits)
    assert.equal("required field missing", refused({ limits = { video = json.null } })
      .config.limits)
  end)

  it("wants a period in each", function()
    assert.same({ ["@entity"] = { NO_PERIOD } }, refused({ limits = { video = {} } })
      .config.limits)
    assert.same({ ["@entity"] = { NO_PERIOD } },
                refused({ limits = { image = { day = 1 }, video = { day = json.null } } })
                  .config.limits)
  end)

  it("knows no other period", function()
    assert.same({ seco = "unknown field" },
                refused({ limits = { video = { seco = 5, minute = 1 } } }).config.limits)
  end)

  it("wants numbers above 0", function()
    assert.same({ minute = "value must be greater than 0" },
                refused({ limits = { video = { minute = 0 } } }).config.limits)
    assert.same({ minute = "expected a number" },
                refused({ limits = { video = { minute = "5" } } }).config.limits)
  end)

  it("wants no larger window with a lower limit", function()
    assert.equal("the limit for minute(1.0) cannot be lower than the limit for second(2.0)",
                 refused({ limits = { video = { second = 2, minute = 1 } } }).config.limits)
    assert.equal("the limit for year(1.5) cannot be lower than the limit for day(2.0)",
                 refused({ limits = { a = { day = 5 }, b = { day = 2, year = 1.5 } } })
                   .config.limits)
  end)

  it("wants names that can stand in headers", function()
    for _, name in ipairs({ "a b", "a:b", "a=b", "a,b", "", "\195\164", "a\nb" }) do
      assert.equal("bad limit name '" .. name .. "', allowed characters are A-Z, a-z, 0-9, "
                   .. "'_', '-', and '.'",
                   refused({ limits = { [name] = { day = 5 } } }).config.limits)
    end
    assert.equal("expected a string", refused({ limits = { [7] = { day = 5 } } }).config.limits)
    assert.is_string(refused({ limits = { a = { day = 5 } }, header_name = "X Cost" })
      .config.header_name)
  end)

  it("knows what to limit by, and where", function()
    local limits = { video = { minute = 5 } }
    assert.equal("expected one of: consumer, credential, ip",
                 refused({ limits = limits, limit_by = "service" }).config.limit_by)
    assert.equal("expected one of: local, cluster, redis",
                 refused({ limits = limits, policy = "moon" }).config.policy)
  end)

  it("wants a Redis for the policy redis", function()
    local limits = { video = { minute = 5 } }
    local errors = refused({ limits = limits, policy = "redis" })
    assert.same({ redis = { host = "required field missing" } }, errors.config)
    assert.same({ "failed conditional validation given value of field 'config.policy'" },
                errors["@entity"])
    local entity = accept({ limits = limits, policy = "redis", redis = { host = "a", port = 1 } })
    assert.equal(1, entity.config.redis.port)
    entity = accept({ limits = limits, policy = "redis", redis_host = "a", redis_database = 2 })
    assert.equal("a", entity.config.redis.host)
    assert.equal(2, entity.config.redis.database)
    assert.equal("both deprecated and new field are used but their values mismatch: "
                 .. "redis_host = a vs redis.host = b",
                 refused({ limits = limits, redis_host = "a", redis = { host = "b" } })
                   .config.redis_host)
  end)

  it("knows no other field", function()
    assert.equal("unknown field", refused({ limits = { a = { day = 1 } }, second = 5 })
      .config.second)
  end)
end)
