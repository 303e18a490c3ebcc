-- Limits that are counted in a Redis which asks for IAM tokens as ElastiCache
-- does: a server that verifies each token as AWS documents it stands before a
-- real redis-server. Tokens are renewed, and shown, on the connection that there is.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local redis = require "lib.redis"
local servers = require "lib.servers"
local stores = require "lib.stores"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local waiting_it = modes.waiting(it)

local ROLE = "arn:aws:iam::123456789012:role/limiter"
local STATIC = "aws_access_key_id: AKIA1, aws_secret_access_key: 'se/cret+1'"

local YML = [[
_format_version: "3.0"
services:
  - name: service
    url: %s
    routes: [ { name: all, paths: [ / ] } ]
    plugins:
      - name: rate-limiting
        config:
          hour: 5
          limit_by: ip
          policy: redis
          fault_tolerant: %s
          redis:
            host: 127.0.0.1
            port: %d
            username: iam-user
            timeout: 1000
            cloud_authentication:
              { auth_provider: aws, aws_cache_name: My-Cache, aws_region: eu-west-1, %s }
]]

describe("weir with ElastiCache", function()
  local e, w, aws, service

  -- state: what differs of the server's; cloud: fields; opts: container, fault_tolerant
  local function start(state, cloud, opts)
    opts = opts or {}
    local backend = redis.start(e, { password = "behind the gate" })
    local all = {
      region = "eu-west-1", keys = { AKIA1 = { secret = "se/cret+1" } },
      roles = { [ROLE] = { trusted = { "AKIA1" } } },
      container = { path = "/creds", role = "limiter" },
      cache = { name = "my-cache", users = { "iam-user" }, serverless = true },
    }
    for name, value in pairs(state) do
      all[name] = value
    end
    aws = servers.start("aws", { state = all, redis = {
      target = backend.address, password = "behind the gate",
    } }, e)
    w = weir.new(e, { conf = { workers = 1 }, yml = YML:format(service.url,
      tostring(opts.fault_tolerant or false), aws.redis_port, cloud) })
    local vars = { AWS_ENDPOINT_URL = aws.url }
    if opts.container then
      vars.AWS_CONTAINER_CREDENTIALS_FULL_URI = aws.url .. "/creds"
    end
    w:start({ vars = vars })
  end

  local function ask(source)
    local params = { REQUEST_URI = "/", PATH_INFO = "/", REMOTE_ADDR = source }
    return assert(fcgi.once(w.unix, { params = params }))
  end

  local function assert_six()
    stores.stay_in_hour(5)
    local source, statuses = env.client(), {}
    for i = 1, 6 do
      statuses[i] = ask(source).status
    end
    assert.same({ 200, 200, 200, 200, 200, 429 }, statuses)
  end

  -- how often a token was shown, how often it was good, on how many connections
  local function logins()
    local all, good, connections, seen = 0, 0, 0, {}
    for _, entry in ipairs(aws:log("^AUTH")) do
      all = all + 1
      good = good + (entry.status == 200 and 1 or 0)
      connections = connections + (seen[entry.connection] and 0 or 1)
      seen[entry.connection] = true
    end
    return all, good, connections
  end

  -- tokens, signatures and keys have no business in a log
  local function shows_no_secret()
    local text = w:log() .. w:output()
    for _, word in ipairs({ "se/cret+1", "X-Amz-", "AKIA1" }) do
      assert.is_nil(text:find(word, 1, true), word)
    end
  end

  before_each(function()
    e = env.new()
    service = upstream.nginx(e)
  end)

  after_each(function()
    e:check()
    if w then
      shows_no_secret()
      w:stop()
    end
    e:destroy()
    w = nil
  end)

  it("logs in by a token that is signed with the keys of the config", function()
    start({}, STATIC)
    assert_six()
    local all, good, connections = logins()
    assert.same({ 1, 1, 1 }, { all, good, connections })
    assert.matches("^my%-cache/%?Action=connect&ResourceType=ServerlessCache&User=iam%-user&",
      aws:log("^AUTH")[1].body)
  end)

  it("logs in to a cache that is not serverless", function()
    start({ cache = { name = "my-cache", users = { "iam-user" }, serverless = false } },
          STATIC .. ", aws_is_serverless: false")
    assert_six()
  end)

  it("logs in as a role", function()
    start({}, STATIC .. ", aws_assume_role_arn: '" .. ROLE .. "', aws_role_session_name: me")
    assert_six()
    assert.is_truthy(aws:log("^POST /$")[1].body:find("RoleSessionName=me", 1, true))
  end)

  waiting_it("shows a new token on its connection before the old one ends", function()
    -- the server closes a connection 4 s after it was last shown a good token
    start({ session_s = 4, redis = { max_s = 4 } }, "aws_is_serverless: true",
          { container = true })
    assert_six()
    local deadline = net.now() + 12
    repeat
      assert.equal(200, ask(env.client()).status)
      net.sleep(0.05)
    until net.now() > deadline
    assert_six()
    local all, good, connections = logins()
    assert.is_true(all >= 4, all .. " logins")
    assert.same({ all, 1 }, { good, connections })
  end)

  it("gets a new token when the one that it has is refused", function()
    start({}, "aws_is_serverless: true", { container = true })
    assert_six()
    aws:call("expire") -- the keys that it was signed with
    aws:call("kick")
    assert(net.wait_until(5, function()
      return ask(env.client()).status == 200
    end))
    assert_six()
    local all, good = logins()
    assert.equal(2, good)
    assert.is_true(all >= 3)
  end)

  it("says that its token is refused, and fails as it is told to until it is not", function()
    start({}, "aws_access_key_id: AKIA1, aws_secret_access_key: wrong")
    w:expect_log("redis iam%-user@127%.0%.0%.1:%d+ does not answer: [^\n]*AUTH: WRONGPASS")
    assert.equal(500, ask(env.client()).status)
    aws:set({ keys = { AKIA1 = { secret = "wrong" } } })
    assert(net.wait_until(10, function()
      return ask(env.client()).status == 200
    end))
    assert_six()
  end)

  it("lets requests pass without a login where it may", function()
    start({}, "aws_is_serverless: true", { fault_tolerant = true })
    w:expect_log("{cloud://aws/%x+}: no credentials: none in the config.*instance metadata: "
      .. ".*; it has no value", "any")
    w:expect_log("does not answer", "any")
    for _ = 1, 6 do
      assert.equal(200, ask("203.0.113.9").status)
    end
  end)
end)
