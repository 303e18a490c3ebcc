-- The vault azure: what it asks a Key Vault, and what it makes of the answers.

local answers = require("answers")
local azure = dofile("plugins/vaults/azure/init.lua")
local loader = require("weir.vault.loader")

local asked = answers.asked
local serial = 0

-- A vault's config with a client of its own, so that no token is kept for it.
local function config(changes)
  serial = serial + 1
  local conf = {
    vault_uri = "https://my-vault.vault.azure.net", credentials_prefix = "NOBODY",
    type = "secrets", tenant_id = "tenant", client_id = "client-" .. serial,
    client_secret = "client's secret",
  }
  for name, value in pairs(changes or {}) do
    conf[name] = value or nil
  end
  return conf
end

local function reply_token(text)
  answers.reply(200, { access_token = text or "token", expires_in = 3599 })
end

local function reply_secret(value)
  answers.reply(200, { value = value, id = "https://my-vault.vault.azure.net/secrets/s/0f" })
end

describe("the vault azure", function()
  before_each(function()
    answers.reset()
  end)

  it("asks for the newest version of a secret, with a token", function()
    reply_token("eyJ.a")
    reply_secret("pass # word\n")
    assert.same({ "pass # word\n" }, { azure.get(config(), "redis-password") })
    assert.equal("https://vault.azure.net/.default", answers.fields_of(asked[1].body).scope)
    assert.equal("https://my-vault.vault.azure.net/secrets/redis-password?api-version=7.4",
      asked[2].url)
    assert.is_nil(asked[2].method)
    assert.same({ Authorization = "Bearer eyJ.a" }, asked[2].headers)
  end)

  it("asks for a version", function()
    reply_token()
    reply_secret("x")
    assert.equal("x", (azure.get(config({
      vault_uri = "http://127.0.0.1:8123/", secret_version = "0123456789abcdef",
    }), "s")))
    assert.equal("http://127.0.0.1:8123/secrets/s/0123456789abcdef?api-version=7.4", asked[2].url)
  end)

  it("asks for a token of the cloud that the Key Vault is in", function()
    for uri, scope in pairs({
      ["https://v.vault.azure.cn/"] = "https://vault.azure.cn/.default",
      ["https://My-Vault.Vault.Azure.CN"] = "https://vault.azure.cn/.default",
      ["https://v.vault.usgovcloudapi.net:443"] = "https://vault.usgovcloudapi.net/.default",
      ["https://vault.azure.cn.example"] = "https://vault.azure.net/.default",
    }) do
      answers.reset()
      azure.get(config({ vault_uri = uri }), "s")
      assert.equal(scope, answers.fields_of(asked[1].body).scope)
    end
  end)

  it("gives values as they are", function()
    local value = ("0123456789abcde\n"):rep(4096)
    local conf = config()
    reply_token()
    reply_secret(value)
    assert.equal(value, (azure.get(conf, "s")))
    reply_secret("")
    assert.equal("", (azure.get(conf, "s")))
    conf.base64_decode = true
    reply_secret("cGFzcwD/")
    assert.equal("pass\0\255", (azure.get(conf, "s")))
    reply_secret("pass!")
    assert.same({ nil, "the secret is not base64" }, { azure.get(conf, "s") })
  end)

  it("fetches a new token once where one is refused", function()
    reply_token("first")
    answers.reply(401, { error = { code = "Unauthorized" } })
    reply_token("second")
    reply_secret("x")
    local conf = config()
    assert.equal("x", (azure.get(conf, "s")))
    assert.equal("Bearer second", asked[4].headers.Authorization)
    answers.advance(15)
    answers.reply(401, { error = { code = "Unauthorized" } })
    answers.reply(400, { error = "invalid_client" })
    assert.same({ nil, "Entra's token endpoint answers 400 (invalid_client)", true },
      { azure.get(conf, "s") })
  end)

  it("tells a refusal without its text", function()
    local conf = config()
    reply_token()
    for _, case in ipairs({
      { 403, { error = { code = "Forbidden", message = "secret",
        innererror = { code = "SecretDisabled" } } },
        "the Key Vault answers 403 (Forbidden, SecretDisabled)" },
      { 404, { error = { code = "SecretNotFound" } },
        "the Key Vault answers 404 (SecretNotFound)" },
      { 302, "secret", "the Key Vault answers 302" },
      { 200, "secret", "the Key Vault answers something that is no JSON" },
      { 200, { id = "secret" }, "the Key Vault answers without a value" },
      { 200, { value = { "secret" } }, "the Key Vault answers without a value" },
    }) do
      answers.reply(case[1], case[2])
      assert.same({ nil, case[3] }, { azure.get(conf, "s") })
    end
    assert.same({ nil, "the Key Vault: cannot connect to nobody: Connection refused" },
      { azure.get(conf, "s") })
  end)

  it("refuses what no secret can be", function()
    for _, case in ipairs({
      { {}, "a_b", nil, "names of secrets in a Key Vault consist of letters, digits and -" },
      { {}, "s", 2, "versions in a Key Vault are no numbers: write ?secret_version=... for #2" },
      { { vault_uri = false }, "s", nil,
        "vault_uri is missing: the vault does not say which Key Vault is meant" },
      { { tenant_id = false }, "s", nil,
        "a client secret needs the client's id and the tenant's" },
    }) do
      assert.same({ nil, case[4] }, { azure.get(config(case[1]), case[2], case[3]) })
    end
    assert.equal(0, #asked)
  end)

  it("has a config that can be checked", function()
    local schema = loader.load({ "plugins" }, { "azure" }).azure.schema
    local function accept(fields)
      local entity, errors = schema:accept({ name = "azure", prefix = "my-azure", config = fields })
      return entity and entity.config, errors and errors.config
    end
    local config_ = accept({ vault_uri = "https://my-vault.vault.azure.net/", location = "eastus" })
    assert.equal("AZURE", config_.credentials_prefix)
    assert.equal("secrets", config_.type)
    assert.is_nil((accept({ vault_uri = "http://my-vault.vault.azure.net" })))
    assert.is_nil((accept({ type = "keys" })))
    assert.is_nil((accept({ secret_version = "../x" })))
  end)
end)
