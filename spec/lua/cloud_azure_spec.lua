-- Tokens of Microsoft Entra: what is asked of whom, and who is chosen. The endpoints are
-- stood in for; spec/e2e/76_cloud_tokens_spec.lua speaks to a server.

local answers = require("answers")
local azure = require("weir.cloud.azure")

local asked, setenv = answers.asked, answers.setenv

local VARIABLES = {
  "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE",
  "AZURE_AUTHORITY_HOST", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_ENDPOINT",
  "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "OTHER_CLIENT_ID", "OTHER_CLIENT_SECRET",
  "OTHER_TENANT_ID",
}

local function clear()
  for _, name in ipairs(VARIABLES) do
    setenv(name, nil)
  end
end

local serial = 0

-- Another resource each time: no example gets a token of another.
local function resource()
  serial = serial + 1
  return "https://resource-" .. serial .. ".example"
end

local function good(text)
  answers.reply(200, { access_token = text or "token", expires_in = 3599, token_type = "Bearer" })
end

-- What is asked for a token of these inputs.
local function ask(configured)
  good()
  local name = resource()
  local token, err = azure.token(configured, name)
  return asked[#asked], name, token, err
end

describe("weir.cloud.azure", function()
  before_each(function()
    answers.reset()
    clear()
  end)

  after_each(clear)

  it("shows a client secret to the tenant's token endpoint", function()
    good("eyJ.entra")
    local token, err, ttl_s = azure.redis_password({
      azure_client_id = "client", azure_client_secret = "s&cret =", azure_tenant_id = "my-tenant",
    }, { username = "object-id" })
    assert.same({ "eyJ.entra", nil, 3599 }, { token, err, ttl_s })
    assert.equal("POST", asked[1].method)
    assert.equal("https://login.microsoftonline.com/my-tenant/oauth2/v2.0/token", asked[1].url)
    assert.equal("application/x-www-form-urlencoded", asked[1].headers["Content-Type"])
    assert.same({
      grant_type = "client_credentials", client_id = "client", client_secret = "s&cret =",
      scope = "https://redis.azure.com/.default",
    }, answers.fields_of(asked[1].body))
  end)

  it("takes what the config leaves out from the environment", function()
    setenv("AZURE_CLIENT_ID", "client")
    setenv("AZURE_CLIENT_SECRET", "of the environment")
    setenv("AZURE_TENANT_ID", "tenant")
    setenv("AZURE_AUTHORITY_HOST", "login.chinacloudapi.cn/")
    local request = ask({})
    assert.equal("https://login.chinacloudapi.cn/tenant/oauth2/v2.0/token", request.url)
    assert.equal("of the environment", answers.fields_of(request.body).client_secret)
    request = ask({ client_id = "client", tenant_id = "other" })
    assert.equal("https://login.chinacloudapi.cn/other/oauth2/v2.0/token", request.url)
    -- the secret of the environment is not another client's
    assert.match("^http://169.254.169.254/", ask({ client_id = "another" }).url)
    setenv("OTHER_CLIENT_ID", "c2")
    setenv("OTHER_CLIENT_SECRET", "s2")
    setenv("OTHER_TENANT_ID", "t2")
    request = ask({ prefix = "OTHER" })
    assert.equal("https://login.chinacloudapi.cn/t2/oauth2/v2.0/token", request.url)
    local fields = answers.fields_of(request.body)
    assert.same({ "c2", "s2" }, { fields.client_id, fields.client_secret })
  end)

  it("shows the file of a workload identity, as it is then", function()
    local path = os.tmpname()
    local function write(text)
      local file = assert(io.open(path, "w"))
      file:write(text)
      file:close()
    end
    setenv("AZURE_CLIENT_ID", "client")
    setenv("AZURE_TENANT_ID", "tenant")
    setenv("AZURE_FEDERATED_TOKEN_FILE", path)
    write("a.b.c\n")
    local request, name = ask({})
    assert.equal("https://login.microsoftonline.com/tenant/oauth2/v2.0/token", request.url)
    assert.same({
      grant_type = "client_credentials", client_id = "client", client_assertion = "a.b.c",
      client_assertion_type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
      scope = name .. "/.default",
    }, answers.fields_of(request.body))
    write("d.e.f")
    assert.equal("d.e.f", answers.fields_of(ask({}).body).client_assertion)
    os.remove(path)
    assert.same({ nil, ("AZURE_FEDERATED_TOKEN_FILE: %s: No such file or directory"):format(path) },
      { azure.token({}, resource()) })
  end)

  it("asks the machine for its managed identity", function()
    local request, name = ask({})
    assert.equal("http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01"
      .. "&resource=https%3A%2F%2F" .. name:sub(9), request.url)
    assert.is_nil(request.method)
    assert.same({ Metadata = "true" }, request.headers)
    setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:8123/")
    request, name = ask({ client_id = "assigned" })
    assert.equal("http://127.0.0.1:8123/metadata/identity/oauth2/token?api-version=2018-02-01"
      .. "&resource=https%3A%2F%2F" .. name:sub(9) .. "&client_id=assigned", request.url)
  end)

  it("asks App Service for its managed identity", function()
    setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:41000/msi/token")
    setenv("IDENTITY_HEADER", "header-secret")
    setenv("AZURE_CLIENT_ID", "assigned")
    answers.reply(200, { access_token = "t", expires_on = tostring(answers.now() + 500) })
    local name = resource()
    local token = assert(azure.token({}, name))
    assert.same({ text = "t", ends_at = answers.steady() + 500 }, token)
    assert.equal("http://127.0.0.1:41000/msi/token?api-version=2019-08-01"
      .. "&resource=https%3A%2F%2F" .. name:sub(9) .. "&client_id=assigned", asked[1].url)
    assert.same({ ["X-IDENTITY-HEADER"] = "header-secret" }, asked[1].headers)
  end)

  it("says what it cannot do", function()
    local function refused(err, configured)
      assert.same({ nil, err }, { azure.token(configured or {}, resource()) })
    end
    refused("a client secret needs the client's id and the tenant's",
      { client_secret = "secret", client_id = "client" })
    refused("a tenant's id consists of letters, digits, . and -",
      { client_secret = "secret", client_id = "client", tenant_id = "a/b" })
    setenv("AZURE_AUTHORITY_HOST", "http://login.example")
    refused("AZURE_AUTHORITY_HOST must begin with https://: only this machine is spoken to"
      .. " without TLS", { client_secret = "secret", client_id = "client", tenant_id = "t" })
    setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:40342/metadata/identity/oauth2/token")
    refused("this kind of IDENTITY_ENDPOINT (Azure Arc's or Service Fabric's) is not supported")
    assert.same({ nil, "the Redis of Azure needs the object id of the identity as its username" },
      { azure.redis_password({}, {}) })
    assert.equal(0, #asked)
  end)

  it("tells a refusal by its status and its codes", function()
    answers.reply(401, { error = "invalid_client", error_description = "AADSTS7000215: secret",
      error_codes = { 7000215 } })
    answers.reply(400, { error = "secret", error_codes = { "secret" } })
    local configured = { client_secret = "secret", client_id = "client", tenant_id = "tenant" }
    local name = resource()
    assert.same({ nil, "Entra's token endpoint answers 401 (invalid_client, AADSTS7000215)", true },
      { azure.token(configured, name) })
    answers.advance(1)
    assert.same({ nil, "Entra's token endpoint answers 400", true },
      { azure.token(configured, name) })
    assert.same({ nil, "Entra's token endpoint answers 400", true },
      { azure.token(configured, name) }) -- without asking
    answers.advance(1)
    answers.reply(503)
    assert.same({ nil, "Entra's token endpoint answers 503" }, { azure.token(configured, name) })
  end)

  it("keeps a token for the same credentials only", function()
    local configured = { client_secret = "one", client_id = "client", tenant_id = "tenant" }
    local name = resource()
    good("first")
    assert.equal("first", azure.token(configured, name).text)
    answers.advance(1000)
    assert.equal("first", azure.token(configured, name).text)
    good("second")
    configured.client_secret = "two"
    assert.equal("second", azure.token(configured, name).text)
    good("third")
    answers.advance(3400)
    assert.equal("third", azure.token(configured, name).text)
    assert.equal(3, #asked)
  end)
end)
