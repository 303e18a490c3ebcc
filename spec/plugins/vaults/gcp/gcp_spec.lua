-- The vault gcp: what it asks Secret Manager, and what it makes of the answers.

local answers = require("answers")
local crc32c = require("weir.cloud.crc32c")
local crypto = require("weir.crypto")
local gcp = dofile("plugins/vaults/gcp/init.lua")
local json = require("weir.json")
local loader = require("weir.vault.loader")

local asked = answers.asked
local private = answers.new_key()

local serial = 0

-- A vault's config with credentials of its own, so that no token is kept for it.
local function config(changes)
  serial = serial + 1
  local conf = {
    project_id = "my-project", endpoint = "https://secretmanager.googleapis.com",
    service_account_json = json.encode({
      type = "service_account", project_id = "of-the-key", private_key = private,
      client_email = ("v%d@my-project.iam.gserviceaccount.com"):format(serial),
    }),
  }
  for name, value in pairs(changes or {}) do
    conf[name] = value or nil
  end
  return conf
end

local function reply_token(text)
  answers.reply(200, { access_token = text or "token", expires_in = 3599 })
end

local function reply_secret(bytes, sum)
  answers.reply(200, {
    name = "projects/1/secrets/s/versions/1",
    payload = { data = crypto.base64(bytes), dataCrc32c = sum },
  })
end

describe("the vault gcp", function()
  before_each(function()
    answers.reset()
  end)

  it("asks for the newest version of a secret, with a token", function()
    reply_token("ya29.a")
    reply_secret("pass # word", tostring(crc32c("pass # word")))
    assert.same({ "pass # word" }, { gcp.get(config(), "redis-password") })
    assert.equal("https://secretmanager.googleapis.com/v1/projects/my-project/secrets/"
      .. "redis-password/versions/latest:access", asked[2].url)
    assert.is_nil(asked[2].method)
    assert.same({ Authorization = "Bearer ya29.a" }, asked[2].headers)
  end)

  it("asks for a version, elsewhere, and in the project of the key", function()
    reply_token()
    reply_secret("x")
    local conf = config({ project_id = false, endpoint = "http://127.0.0.1:8123/" })
    assert.equal("x", (gcp.get(conf, "a_b", 12)))
    assert.equal("http://127.0.0.1:8123/v1/projects/of-the-key/secrets/a_b/versions/12:access",
      asked[2].url)
  end)

  it("gives bytes as they are", function()
    local bytes = ("\0\255\n'\"#\\ "):rep(8192)
    reply_token()
    reply_secret(bytes, tostring(crc32c(bytes)))
    local conf = config()
    assert.equal(bytes, (gcp.get(conf, "s")))
    answers.reply(200, { payload = {} }) -- an empty secret
    assert.equal("", (gcp.get(conf, "s")))
    conf.base64_decode = true
    reply_secret("cGFzcw==")
    assert.equal("pass", (gcp.get(conf, "s")))
    reply_secret("pass!")
    assert.same({ nil, "the secret is not base64" }, { gcp.get(conf, "s") })
  end)

  it("checks the checksum that comes with a secret", function()
    assert.equal(0xe3069283, crc32c("123456789")) -- the check value of CRC-32C
    assert.equal(0x8a9136aa, crc32c(("\0"):rep(32))) -- RFC 3720, B.4
    assert.equal(0x62a8ab43, crc32c(("\255"):rep(32)))
    assert.equal(0, crc32c(""))
    reply_token()
    reply_secret("good", tostring(crc32c("bad")))
    assert.same({ nil, "Secret Manager's payload does not have the checksum that it says" },
      { gcp.get(config(), "s") })
  end)

  it("fetches a new token once where one is refused", function()
    local conf = config()
    reply_token("first")
    answers.reply(401, { error = { code = 401, status = "UNAUTHENTICATED" } })
    reply_token("second")
    reply_secret("x")
    assert.equal("x", (gcp.get(conf, "s")))
    assert.equal("Bearer second", asked[4].headers.Authorization)
    answers.advance(15)
    local refusal = { error = { code = 401, status = "UNAUTHENTICATED" } }
    answers.reply(401, refusal)
    reply_token("third")
    answers.reply(401, refusal)
    answers.reply(401, refusal)
    for n = 7, 8 do -- the third is too young to be in doubt
      assert.same({ nil, "Secret Manager answers 401 (UNAUTHENTICATED)" },
        { gcp.get(conf, "s") })
      assert.equal(n, #asked)
    end
  end)

  it("tells a refusal without its text", function()
    local conf = config()
    reply_token()
    for _, case in ipairs({
      { 403, { error = { status = "PERMISSION_DENIED", message = "secret" } },
        "Secret Manager answers 403 (PERMISSION_DENIED)" },
      { 404, { error = { status = "NOT_FOUND" } }, "Secret Manager answers 404 (NOT_FOUND)" },
      { 500, "secret", "Secret Manager answers 500" },
      { 200, "secret", "Secret Manager answers something that is no JSON" },
      { 200, { data = "secret" }, "Secret Manager answers without a payload" },
      { 200, { payload = { data = "secret!" } },
        "Secret Manager answers with a payload that is not base64" },
    }) do
      answers.reply(case[1], case[2])
      assert.same({ nil, case[3] }, { gcp.get(conf, "s") })
    end
    assert.same({ nil, "Secret Manager: cannot connect to nobody: Connection refused" },
      { gcp.get(conf, "s") })
  end)

  it("refuses what no secret can be", function()
    for _, case in ipairs({
      { {}, "a/b", nil, "names of secrets in Secret Manager consist of letters, digits, - and _" },
      { {}, "s", 0, "versions in Secret Manager begin with 1" },
      { { project_id = "a/b" }, "s", nil, "project_id consists of letters, digits, -, . and :" },
      { { service_account_json = "{}" }, "s", nil, "the service account's JSON is not the key of a"
        .. " service account (type service_account); other types of credentials are not"
        .. " supported" },
    }) do
      assert.same({ nil, case[4] }, { gcp.get(config(case[1]), case[2], case[3]) })
    end
    assert.equal(0, #asked)
  end)

  it("has a config that can be checked", function()
    local schema = loader.load({ "plugins" }, { "gcp" }).gcp.schema
    local function accept(fields)
      local entity, errors = schema:accept({ name = "gcp", prefix = "my-gcp", config = fields })
      return entity and entity.config, errors and errors.config
    end
    assert.equal("https://secretmanager.googleapis.com", accept({}).endpoint)
    assert.equal("http://127.0.0.1:1/", accept({ endpoint = "http://127.0.0.1:1/" }).endpoint)
    local _, errors = accept({ endpoint = "http://elsewhere.example" })
    assert.same({ endpoint = "must begin with https://: only this machine is spoken to without"
      .. " TLS" }, errors)
    assert.is_nil((accept({ project_id = "a b" })))
    assert.is_nil((accept({ project = "a" })))
  end)
end)
