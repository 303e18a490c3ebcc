-- The vault aws in weir, against a server that verifies what it is asked as AWS
-- documents it: each source of credentials, rotation, what the log says.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local json = require "weir.json"
local env = require "lib.env"
local net = require "lib.net"
local servers = require "lib.servers"
local teller = require "lib.teller"

local ROLE = "arn:aws:iam::123456789012:role/reader"
local ODD = "p@ss # w\"o'rd\\ \n"

describe("the vault aws", function()
  local e, w, aws

  local function yml(config, word)
    return teller.yml("prefix: mine, name: aws, config: " .. config, word)
  end

  -- config and word of the configuration; vars: of weir's environment
  local function start(config, word, vars, clock_off_s)
    w = teller.start(e, { yml = yml(config, word), vars = vars, clock_off_s = clock_off_s })
  end

  local function static(more)
    return ("{ region: eu-west-1, endpoint_url: '%s', sts_endpoint_url: '%s', access_key_id: AKIA1,"
      .. " secret_access_key: 'se/cret+1' %s }"):format(aws.url, aws.url, more or "")
  end

  local function found(more)
    return ("{ region: eu-west-1, endpoint_url: '%s', sts_endpoint_url: '%s' %s }"):format(
      aws.url, aws.url, more or "")
  end

  local function roles_assumed()
    local n = 0
    for _, request in ipairs(aws:log("^POST /$")) do
      n = n + (request.body:find("Action=AssumeRole", 1, true) and 1 or 0)
    end
    return n
  end

  local function shows_no_secret()
    local text = w:log() .. w:output()
    for _, word in ipairs({ "se/cret+1", "from json", "other-key", '"new', "newer" }) do
      assert.is_nil(text:find(word, 1, true))
    end
  end

  before_each(function()
    e = env.new()
    aws = servers.start("aws", { state = {
      region = "eu-west-1",
      keys = { AKIA1 = { secret = "se/cret+1" } },
      secrets = {
        redis = '{"password": "from json", "port": 6379}',
        ["teams/token"] = ODD,
        binary = { binary = "AP8K" },
        turned = { versions = { { id = "2", stages = { "AWSCURRENT" }, string = "new" },
                                { id = "1", stages = { "AWSPREVIOUS" }, string = "old" } } },
      },
      roles = { [ROLE] = { web_identity_tokens = { "web.identity.token" } } },
      imds = { role = "reader" },
      container = { path = "/creds", authorization = "let me", role = "reader" },
    } }, e)
  end)

  after_each(function()
    e:check()
    if w then
      w:stop()
    end
    e:destroy()
    w = nil
  end)

  it("reads a secret with keys of the config", function()
    start(static(), "{vault://mine/teams/token/}")
    assert.equal(ODD, teller.ask(w).body)
    assert.equal(1, #aws:log("^POST /$"))
  end)

  it("reads a member, a version, and bytes", function()
    start(static(), "{vault://mine/redis/password}")
    assert.equal("from json", teller.ask(w).body)
    for word, value in pairs({
      ["{vault://mine/turned#2}"] = "old", ["{vault://mine/turned}"] = "new",
      ["{vault://mine/binary}"] = "\0\255\n",
    }) do
      w:write_yml(yml(static(), word))
      assert.is_true(w:reload())
      teller.until_body(w, value)
    end
  end)

  it("follows a rotation within its ttl", function()
    start(static(", ttl: 1"), "{vault://mine/turned}")
    assert.equal("new", teller.ask(w).body)
    aws:set({ secrets = { turned = "newer" } })
    teller.until_body(w, "newer", 3)
  end)

  it("finds keys in the environment", function()
    start(found(), "{vault://mine/turned}", {
      AWS_ACCESS_KEY_ID = "AKIA1", AWS_SECRET_ACCESS_KEY = "se/cret+1",
    })
    assert.equal("new", teller.ask(w).body)
  end)

  it("asks where the environment says", function()
    start("{ access_key_id: AKIA1, secret_access_key: 'se/cret+1' }", "{vault://mine/turned}",
          { AWS_ENDPOINT_URL = aws.url, AWS_REGION = "eu-west-1" })
    assert.equal("new", teller.ask(w).body)
  end)

  it("is a web identity's role", function()
    local token = e:write("tmp/token", "web.identity.token\n")
    start(found(), "{vault://mine/turned}", {
      AWS_WEB_IDENTITY_TOKEN_FILE = token, AWS_ROLE_ARN = ROLE,
    })
    assert.equal("new", teller.ask(w).body)
  end)

  it("is a container's role", function()
    start(found(), "{vault://mine/turned}", {
      AWS_CONTAINER_CREDENTIALS_FULL_URI = aws.url .. "/creds",
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE = e:write("tmp/token", "let me\n"),
    })
    assert.equal("new", teller.ask(w).body)
  end)

  it("is an instance's role", function()
    start(found(), "{vault://mine/turned}", { AWS_EC2_METADATA_SERVICE_ENDPOINT = aws.url })
    assert.equal("new", teller.ask(w).body)
    assert.equal(1, #aws:log("^PUT /latest/api/token$"))
  end)

  it("assumes a role, and takes it anew when its keys are withdrawn", function()
    start(static(", ttl: 1, assume_role_arn: '" .. ROLE .. "'"), "{vault://mine/turned}")
    assert.equal("new", teller.ask(w).body)
    aws:set({ secrets = { turned = "newer" } })
    teller.until_body(w, "newer", 3)
    assert.equal(1, roles_assumed())
    aws:call("expire")
    aws:set({ secrets = { turned = "newest" } })
    teller.until_body(w, "newest", 3)
    assert.equal(2, roles_assumed())
  end)

  for why, example in pairs({
    ["AccessDeniedException %(these credentials may not secretsmanager:GetSecretValue it, "
     .. "or not kms:Decrypt with its key%)"] =
      { state = { deny = { "AKIA1" } } },
    ["ResourceNotFoundException %(there is no such secret, or no such version of it, in this "
     .. "region%)"] = { word = "{vault://mine/nowhere}" },
    ["InvalidRequestException %(the secret is marked for deletion, or has no value yet%)"] =
      { state = { secrets = { turned = { string = "x", deleted = true } } } },
    ["UnrecognizedClientException %(AWS does not know the access key %(or its session token%)%)"] =
      { state = { keys = { AKIA1 = json.null } } },
    ["InvalidSignatureException %(the secret access key is not that of the access key%)"] =
      { state = { keys = { AKIA1 = { secret = "other-key" } } } },
    ["cannot assume the role: AccessDenied %(the role does not exist, "
     .. "or its trust policy does not allow it%)"] =
      { more = ", assume_role_arn: 'arn:aws:iam::123456789012:role/writer'" },
    ["the answer is no JSON"] = { faults = { { match = "^POST", garbage = true } } },
    ["subfield member not found in JSON secret"] = { word = "{vault://mine/redis/member}" },
  }) do
    it("says when it has no secret: " .. why, function()
      aws:set(example.state or {})
      aws:faults(example.faults)
      start(static(example.more), example.word or "{vault://mine/turned}")
      w:expect_log("{vault://mine/[^}]*}: [^\n]*" .. why .. "; it has no value")
      assert.equal(503, teller.ask(w).status)
      shows_no_secret()
    end)
  end

  if env.mode ~= "asan" then -- what moves the clock must be loaded first; so must ASan
    it("says by how much the clock is off", function()
      start(static(), "{vault://mine/turned}", nil, 1000)
      w:expect_log("this machine's clock is %d+ s ahead of AWS's")
      assert.equal(503, teller.ask(w).status)
    end)
  end

  it("answers weir vault get", function()
    start(static(), "{vault://mine/turned}")
    assert.same({ "from json\n", 0 },
      { w:command("vault", { args = { "get", "{vault://mine/redis/password}" } }) })
    assert.same({ "weir: Secrets Manager in eu-west-1: ResourceNotFoundException (there is no such "
      .. "secret, or no such version of it, in this region)\n", 1 },
      { w:command("vault", { args = { "get", "mine/nowhere" } }) })
  end)

  it("keeps the last value while AWS is away, and says so once", function()
    start(static(", ttl: 1, neg_ttl: 1"), "{vault://mine/turned}")
    assert.equal("new", teller.ask(w).body)
    w:expect_log("{vault://mine/turned}: Secrets Manager in eu%-west%-1: cannot connect to "
      .. "127%.0%.0%.1:%d+: Connection refused; the last value stays")
    aws:stop()
    assert(w:wait_log("the last value stays"))
    net.sleep(2)
    assert.equal("new", teller.ask(w).body)
    aws:start()
    aws:set({ secrets = { turned = "newer" } })
    teller.until_body(w, "newer")
  end)
end)
