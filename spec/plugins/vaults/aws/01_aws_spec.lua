-- The vault aws: what it asks Secrets Manager, and what it makes of the answers.

local answers = require("answers")
local crypto = require("weir.crypto")
local json = require("weir.json")
local loader = require("weir.vault.loader")
local aws = dofile("plugins/vaults/aws/init.lua")

local asked = answers.asked

local serial = 0

-- A vault's config with a role of its own, if it has one, so that no credentials are kept for it.
local function config(changes)
  serial = serial + 1
  local conf = { region = "eu-west-1", access_key_id = "AKIDEXAMPLE",
                 secret_access_key = "wJalr", role_session_name = "s" .. serial }
  for name, value in pairs(changes or {}) do
    conf[name] = value or nil
  end
  return conf
end

local function refuse(code, status)
  answers.reply(status or 400, { __type = code, Message = "secret things" })
end

local function reply_role(id)
  answers.reply(200, ("<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>s</Secret"
    .. "AccessKey><SessionToken>t-%s</SessionToken><Expiration>%s</Expiration></Credentials>")
    :format(id, id, os.date("!%Y-%m-%dT%H:%M:%SZ", answers.now() + 3600)))
end

local function role_used(i)
  return asked[i].headers.authorization:match("Credential=([^/]+)/"),
    asked[i].headers["x-amz-security-token"]
end

describe("the vault aws", function()
  before_each(function()
    answers.reset()
    for _, name in ipairs({ "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL" }) do
      answers.setenv(name, nil)
    end
  end)

  it("asks for the current version of a secret, signed", function()
    answers.reply(200, { Name = "redis", SecretString = "pass # word" })
    assert.same({ "pass # word" }, { aws.get(config(), "teams/redis") })
    assert.equal("POST", asked[1].method)
    assert.equal("https://secretsmanager.eu-west-1.amazonaws.com/", asked[1].url)
    assert.same({ SecretId = "teams/redis", VersionStage = "AWSCURRENT" },
      json.decode(asked[1].body))
    local headers = asked[1].headers
    assert.equal("secretsmanager.GetSecretValue", headers["x-amz-target"])
    assert.equal("application/x-amz-json-1.1", headers["content-type"])
    assert.matches("^AWS4%-HMAC%-SHA256 Credential=AKIDEXAMPLE/%d+/eu%-west%-1/secretsmanager/"
      .. "aws4_request, SignedHeaders=content%-type;host;x%-amz%-date;x%-amz%-target, "
      .. "Signature=%x+$", headers.authorization)
  end)

  it("asks for the version before, and knows no others", function()
    answers.reply(200, { SecretString = "old" })
    assert.equal("old", (aws.get(config(), "redis", 2)))
    assert.equal("AWSPREVIOUS", json.decode(asked[1].body).VersionStage)
    assert.same({ nil, "there are versions 1 (AWSCURRENT) and 2 (AWSPREVIOUS) only" },
      { aws.get(config(), "redis", 3) })
    assert.equal(1, #asked)
  end)

  it("gives bytes as they are", function()
    local bytes = ("\0\255\n'\"#\\ "):rep(8192)
    answers.reply(200, { SecretBinary = crypto.base64(bytes) })
    assert.equal(bytes, (aws.get(config(), "s")))
    answers.reply(200, { SecretString = "" })
    assert.equal("", (aws.get(config(), "s")))
    answers.reply(200, { SecretString = "cGFzcw==" })
    assert.equal("pass", (aws.get(config({ base64_decode = true }), "s")))
    answers.reply(200, { SecretString = "pass!" })
    assert.same({ nil, "the secret is not base64" },
      { aws.get(config({ base64_decode = true }), "s") })
  end)

  it("finds the region", function()
    assert.matches("^no region is said", select(2, aws.get(config({ region = false }), "s")))
    answers.setenv("AWS_REGION", "us-east-2")
    aws.get(config({ region = false }), "s")
    aws.get(config({ region = false }), "arn:aws:secretsmanager:eu-north-1:1:secret:s-AbCdEf")
    aws.get(config({ region = "cn-north-1" }), "s")
    aws.get(config({ endpoint_url = "http://127.0.0.1:4566/" }), "s")
    local urls = {}
    for i, one in ipairs(asked) do
      urls[i] = one.url
    end
    assert.same({ "https://secretsmanager.us-east-2.amazonaws.com/",
                  "https://secretsmanager.eu-north-1.amazonaws.com/",
                  "https://secretsmanager.cn-north-1.amazonaws.com.cn/",
                  "http://127.0.0.1:4566/" }, urls)
  end)

  it("says what is wrong, and nothing of the answer", function()
    for code, hint in pairs({
      ResourceNotFoundException =
        "there is no such secret, or no such version of it, in this region",
      AccessDeniedException = "these credentials may not secretsmanager:GetSecretValue it, or not "
        .. "kms:Decrypt with its key",
      DecryptionFailure = "the secret's key does not decrypt it",
      InvalidRequestException = "the secret is marked for deletion, or has no value yet",
      InvalidSignatureException = "the secret access key is not that of the access key",
    }) do
      refuse(code)
      assert.same({ nil, "Secrets Manager in eu-west-1: " .. code .. " (" .. hint .. ")" },
        { aws.get(config(), "s") })
    end
    for body, why in pairs({
      ["<html>secret things"] = "the answer is no JSON",
      ["[]"] = "the answer holds no secret",
      ['{"SecretString": 5}'] = "the answer holds no secret",
      ['{"SecretBinary": "*"}'] = "the answer holds no secret",
    }) do
      answers.reply(200, body)
      assert.same({ nil, why }, { aws.get(config(), "s") })
    end
    assert.equal("Secrets Manager in eu-west-1: cannot connect to nobody: Connection refused",
      select(2, aws.get(config(), "s")))
  end)

  it("takes new credentials of a role once when AWS does not know those any longer", function()
    local conf = config({ assume_role_arn = "arn:aws:iam::1:role/r" })
    reply_role("ONE")
    answers.reply(200, { SecretString = "a" })
    assert.equal("a", (aws.get(conf, "s")))
    refuse("ExpiredTokenException")
    reply_role("TWO")
    answers.reply(200, { SecretString = "b" })
    assert.equal("b", (aws.get(conf, "s")))
    assert.same({ "ONE", "t-ONE" }, { role_used(2) })
    assert.same({ "ONE", "t-ONE" }, { role_used(3) })
    assert.same({ "TWO", "t-TWO" }, { role_used(5) })
    answers.advance(15)
    refuse("UnrecognizedClientException")
    reply_role("THREE")
    refuse("UnrecognizedClientException")
    assert.matches("UnrecognizedClientException", (select(2, aws.get(conf, "s"))))
    assert.equal(8, #asked)
  end)

  it("does not ask again with the same key", function()
    refuse("UnrecognizedClientException")
    local _, err, refused = aws.get(config(), "s")
    assert.matches("UnrecognizedClientException", err)
    assert.is_true(refused) -- that key may have been replaced
    assert.equal(1, #asked)
    refuse("InvalidClientTokenId")
    _, err, refused = aws.get(config({ assume_role_arn = "arn:aws:iam::1:role/r" }), "s")
    assert.matches("InvalidClientTokenId", err)
    assert.is_true(refused)
    refuse("AccessDeniedException")
    assert.is_nil((select(3, aws.get(config(), "s"))))
  end)

  it("gets a role once for all who wait", function()
    answers.waits = true
    local conf = config({ assume_role_arn = "arn:aws:iam::1:role/r" })
    local found, threads = {}, {}
    for i = 1, 5 do
      threads[i] = coroutine.create(function()
        found[i] = aws.get(conf, "s")
      end)
    end
    reply_role("ONE")
    for _ = 1, 5 do
      answers.reply(200, { SecretString = "a" })
    end
    for _ = 1, 4 do
      for _, thread in ipairs(threads) do
        if coroutine.status(thread) ~= "dead" then
          assert(coroutine.resume(thread))
        end
      end
    end
    assert.same({ "a", "a", "a", "a", "a" }, found)
    assert.equal(6, #asked)
  end)

  it("checks its config", function()
    local schema = loader.load({ "plugins" }, { "aws" }).aws.schema
    local function errors_of(values)
      local entity, errors = schema:accept({ name = "aws", prefix = "mine", config = values })
      return entity and entity.config, errors and errors.config
    end
    local good = errors_of({ region = "eu-west-1", ttl = 60,
                             access_key_id = "{vault://env/a-key}" })
    assert.equal("KongVault", good.role_session_name)
    assert.is_false(good.base64_decode)
    for name, value in pairs({ region = "EU west", endpoint_url = "a b", access_key_id = "",
                               sts_endpoint_url = "nowhere", ttl = -1, unknown = 1 }) do
      local _, errors = errors_of({ [name] = value })
      assert.is_truthy(errors and errors[name], name)
    end
  end)
end)
