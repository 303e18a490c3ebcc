-- Tokens of Google Cloud: what is asked of whom, and who is chosen. The endpoints are
-- stood in for; spec/e2e/76_cloud_tokens_spec.lua speaks to a server.

local answers = require("answers")
local crypto = require("weir.crypto")
local gcp = require("weir.cloud.gcp")
local json = require("weir.json")

local asked, setenv = answers.asked, answers.setenv
local private, public = answers.new_key()

local VARIABLES = {
  "GCP_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST",
}

local EMAIL = "weir-%d@my-project.iam.gserviceaccount.com"

local serial = 0

-- The key of a new service account, in JSON.
local function account(changes)
  serial = serial + 1
  local fields = {
    type = "service_account", project_id = "my-project", private_key_id = "key-" .. serial,
    private_key = private, client_email = EMAIL:format(serial),
    token_uri = "https://oauth2.example/token",
  }
  for name, value in pairs(changes or {}) do
    fields[name] = value ~= false and value or nil
  end
  return json.encode(fields)
end

local function redis_password(text, fresh)
  return gcp.redis_password({ gcp_service_account_json = text }, {}, fresh)
end

local function decode_part(token, i)
  local parts = {}
  for part in token:gmatch("[^.]+") do
    parts[#parts + 1] = part
  end
  return json.decode(crypto.unbase64((parts[i]:gsub("-", "+"):gsub("_", "/"))))
end

describe("weir.cloud.gcp", function()
  before_each(function()
    answers.reset()
    for _, name in ipairs(VARIABLES) do
      setenv(name, nil)
    end
  end)

  after_each(function()
    for _, name in ipairs(VARIABLES) do
      setenv(name, nil)
    end
  end)

  it("shows the token endpoint an assertion signed with the key", function()
    answers.reply(200, { access_token = "ya29.token", expires_in = 3599, token_type = "Bearer" })
    local token, err, ttl_s = redis_password(account())
    assert.equal("ya29.token", token)
    assert.is_nil(err)
    assert.equal(3599, ttl_s)
    assert.equal(1, #asked)
    assert.equal("POST", asked[1].method)
    assert.equal("https://oauth2.example/token", asked[1].url)
    assert.equal("application/x-www-form-urlencoded", asked[1].headers["Content-Type"])
    local fields = answers.fields_of(asked[1].body)
    assert.equal("urn:ietf:params:oauth:grant-type:jwt-bearer", fields.grant_type)
    local now = answers.now()
    assert.same({ alg = "RS256", typ = "JWT", kid = "key-" .. serial },
      decode_part(fields.assertion, 1))
    assert.same({
      iss = EMAIL:format(serial),
      scope = "https://www.googleapis.com/auth/cloud-platform",
      aud = "https://oauth2.example/token", iat = now, exp = now + 3600,
    }, decode_part(fields.assertion, 2))
    assert.is_true(answers.is_signed_by(fields.assertion, public))
  end)

  it("asks the metadata server where there is no key", function()
    setenv("GCE_METADATA_HOST", "127.0.0.1:8123")
    answers.reply(200, { access_token = "of-the-machine", expires_in = 100 })
    assert.equal("of-the-machine", (redis_password()))
    assert.equal("http://127.0.0.1:8123/computeMetadata/v1/instance/service-accounts/default/token",
      asked[1].url)
    assert.same({ ["Metadata-Flavor"] = "Google" }, asked[1].headers)
    setenv("GCE_METADATA_HOST", nil)
    assert.same({ nil, "Google's metadata server: cannot connect to nobody: Connection refused;"
      .. " no service account's key is configured" }, { redis_password() })
    assert.match("^http://metadata.google.internal/", asked[2].url)
  end)

  it("takes the key of the config, then of Kong's variable, then of Google's file", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write((account({ token_uri = "https://file.example/" })))
    file:close()
    setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
    redis_password()
    assert.equal("https://file.example/", asked[1].url)
    setenv("GCP_SERVICE_ACCOUNT", account({ token_uri = "https://variable.example/" }))
    redis_password()
    assert.equal("https://variable.example/", asked[2].url)
    redis_password(account({ token_uri = "https://config.example/" }))
    assert.equal("https://config.example/", asked[3].url)
    redis_password(account({ token_uri = false }))
    assert.equal("https://oauth2.googleapis.com/token", asked[4].url)
    os.remove(path)
  end)

  it("says what is wrong with credentials, and nothing of them", function()
    local cases = {
      { "{secret", "the service account's JSON is no JSON object" },
      { '{"type":"external_account","client_secret":"secret"}',
        "the service account's JSON is not the key of a service account (type service_account);"
          .. " other types of credentials are not supported" },
      { account({ client_email = false }), "the service account's JSON has no client_email" },
      { account({ private_key = json.null }), "the service account's JSON has no private_key" },
      { account({ private_key = "secret" }),
        "private_key of the service account: not a private key in PEM" },
      { account({ token_uri = "http://elsewhere.example/" }), "token_uri in the service account's"
        .. " JSON must begin with https://: only this machine is spoken to without TLS" },
      { account({ token_uri = "https://user:secret@elsewhere.example/" }),
        "token_uri in the service account's JSON must be a URL, https://..." },
    }
    for _, case in ipairs(cases) do
      assert.same({ nil, case[2] }, { redis_password(case[1]) })
    end
    setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    assert.same({ nil, "GOOGLE_APPLICATION_CREDENTIALS: /nowhere/key.json: No such file or"
      .. " directory" }, { redis_password() })
    setenv("GOOGLE_APPLICATION_CREDENTIALS", "/tmp")
    assert.same({ nil, "GOOGLE_APPLICATION_CREDENTIALS: /tmp is empty or no file" },
      { redis_password() })
    assert.equal(0, #asked)
  end)

  it("tells a refusal by its status and its code", function()
    answers.reply(400, { error = "invalid_grant", error_description = "secret" })
    answers.reply(500, "secret")
    answers.reply(401, { error = "secret" })
    answers.reply(200, "secret")
    answers.reply(200, { token = "secret" })
    answers.reply(200, { access_token = "secret\nsecret", expires_in = 3600 })
    answers.reply(200, { access_token = "secret" })
    answers.reply(200, { access_token = "secret", expires_in = 0 })
    local text = account()
    for _, reason in ipairs({
      "answers 400 (invalid_grant)", "answers 500", "answers 401",
      "answers something that is no JSON", "answers without a token", "answers without a token",
      "does not say how long its token is good for", "answers with a token that has ended",
    }) do
      assert.same({ nil, "Google's token endpoint " .. reason, reason:find(" 40") and true or nil },
        { redis_password(text) })
      answers.advance(1)
    end
  end)

  it("keeps a token until it is near its end, or refused", function()
    local text = account()
    answers.reply(200, { access_token = "first", expires_in = 100 })
    assert.equal("first", (redis_password(text)))
    answers.advance(50)
    local token, _, ttl_s = redis_password(text)
    assert.same({ "first", 50 }, { token, ttl_s })
    answers.reply(200, { access_token = "second", expires_in = 100 })
    assert.equal("second", (redis_password(text, true)))
    answers.advance(80)
    answers.reply(200, { access_token = "third", expires_in = 100 })
    assert.equal("third", (redis_password(text)))
    assert.equal(3, #asked)
    answers.reply(200, { access_token = "other", expires_in = 100 })
    assert.same({ "other", nil, 100 }, { redis_password(account()) })
  end)

  it("fetches once for all who need a token at once", function()
    local text = account()
    local found = {}
    answers.waits = true
    answers.reply(200, { access_token = "one", expires_in = 100 })
    local waiting = {}
    for i = 1, 5 do
      waiting[i] = coroutine.create(function()
        found[i] = redis_password(text)
      end)
    end
    for _ = 1, 3 do
      for _, co in ipairs(waiting) do
        if coroutine.status(co) ~= "dead" then
          assert(coroutine.resume(co))
        end
      end
    end
    assert.same({ "one", "one", "one", "one", "one" }, found)
    assert.equal(1, #asked)
  end)
end)
