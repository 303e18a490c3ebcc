-- Google Cloud and Azure for specs: started as spec/servers have them, with some
-- secrets; and how weir gets credentials there, by each way that there is.
local json = require "weir.json"
local proc = require "lib.proc"
local servers = require "lib.servers"

local EMAIL = "weir@my-project.iam.gserviceaccount.com"
local TENANT, CLIENT = "0a1b2c3d-tenant", "11111111-client"
local CLIENT_SECRET = "client~secret&#="
local OID, SYSTEM_OID = "22222222-oid", "33333333-oid"
local VERSION = "0123456789abcdef0123456789abcdef"

-- What a secret may hold: Secret Manager keeps bytes, a Key Vault text.
local BYTES, TEXT = "pass # w'ord\"\n\1\255", "pass # w'ord\"\n\195\164"

local function base64(e, bytes)
  local text = proc.run({ "base64", "-w0", e:write("run/bytes", bytes) })
  return (text:gsub("%s", ""))
end

local function escape(url)
  return (url:gsub(":", "%%3A"):gsub("/", "%%2F"))
end

local function new_key(e)
  local path = e:path("run/account.pem")
  proc.run({ "openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
             "-out", path })
  return proc.read_file(path), (proc.run({ "openssl", "pkey", "-in", path, "-pubout" }))
end

-- Each cloud: start(e, options) -> server; vault(server): the config of its vault; query(server):
-- the same for a reference; secrets: what references give; known: texts that must not be written;
-- token: the pattern of a request for one. sources: name -> function(server, e) -> variables of
-- weir's environment, more fields of cloud_authentication or nil, username or nil; main: the name
-- of the usual one. spoil(), mend(server), deny(), allow(): states in which credentials are (not)
-- good, and reading the secret password is (not) denied. refusal, denial: what the log tells then.
-- missing: a reference to nothing, and what the log tells.
local gcp = {
  name = "gcp", token = "^POST /token", main = "a key in GCP_SERVICE_ACCOUNT",
  known = { "PRIVATE KEY", "in JSON", BYTES },
  secrets = {
    ["{vault://my-gcp/password}"] = BYTES, ["{vault://my-gcp/password#1}"] = "old",
    ["{vault://my-gcp/json/pass}"] = "in JSON", ["{vault://my-gcp/empty}"] = "",
    ["{vault://my-gcp/long}"] = ("0123456789abcde\n"):rep(4096),
  },
  refusal = "Google's token endpoint answers 40%d %(invalid_grant%)",
  denial = "Secret Manager answers 403 %(PERMISSION_DENIED%)",
  missing = { "{vault://my-gcp/nothing}", "Secret Manager answers 404 %(NOT_FOUND%)" },
}

function gcp.start(e, options)
  local private, public = new_key(e)
  local path = "projects/my-project/secrets/"
  options.state = {
    token_s = options.token_s or 3600,
    accounts = { [EMAIL] = { public_key = public, kid = "key-1" } },
    metadata = { project = "my-project", email = "machine@my-project.iam.gserviceaccount.com",
                 scopes = { "https://www.googleapis.com/auth/cloud-platform" } },
    secrets = {
      [path .. "password"] = { { data = "old" }, { binary = base64(e, BYTES) } },
      [path .. "json"] = '{"user":"u","pass":"in JSON"}', [path .. "empty"] = "",
      [path .. "long"] = gcp.secrets["{vault://my-gcp/long}"],
    },
  }
  local server = servers.start("gcp", options, e)
  server.account = json.encode({
    type = "service_account", project_id = "my-project", private_key_id = "key-1",
    private_key = private, client_email = EMAIL, token_uri = server.url .. "/token",
  })
  e:write("run/account.json", server.account)
  return server
end

function gcp.vault(server)
  return ("{ project_id: my-project, endpoint: %q }"):format(server.url)
end

function gcp.query(server)
  return "project_id=my-project&endpoint=" .. escape(server.url)
end

function gcp.spoil()
  return { accounts = { [EMAIL] = json.null } }
end

function gcp.mend(server)
  return { accounts = server.options.state.accounts }
end

function gcp.deny()
  return { deny = { EMAIL } }
end

function gcp.allow()
  return { deny = json.empty_array }
end

gcp.sources = {
  ["a key in the config"] = function(server)
    return { SPEC_ACCOUNT = server.account },
      'gcp_service_account_json: "{vault://env/spec-account}"'
  end,
  ["a key in GCP_SERVICE_ACCOUNT"] = function(server)
    return { GCP_SERVICE_ACCOUNT = server.account }
  end,
  ["a key in a file"] = function(_, e)
    return { GOOGLE_APPLICATION_CREDENTIALS = e:path("run/account.json") }
  end,
  ["the metadata server"] = function(server)
    return { GCE_METADATA_HOST = server.address }
  end,
}

local azure = {
  name = "azure", token = "/oauth2/v2.0/token", main = "a client secret in the environment",
  known = { CLIENT_SECRET, "app-service-header", "federated.asser.tion", "in JSON", TEXT },
  secrets = {
    ["{vault://my-azure/password}"] = TEXT, ["{vault://my-azure/json/pass}"] = "in JSON",
    ["{vault://my-azure/turned?secret_version=" .. VERSION .. "}"] = "old",
    ["{vault://my-azure/empty}"] = "",
    ["{vault://my-azure/long}"] = ("0123456789abcde\n"):rep(4096),
  },
  refusal = "Entra's token endpoint answers 40%d %(invalid_client",
  denial = "the Key Vault answers 403 %(Forbidden, SecretDisabled%)",
  missing = { "{vault://my-azure/nothing}", "the Key Vault answers 404 %(SecretNotFound%)" },
}

function azure.start(e, options)
  options.state = {
    token_s = options.token_s or 3599,
    tenants = { [TENANT] = { [CLIENT] = {
      secrets = { CLIENT_SECRET }, assertions = { "federated.asser.tion" }, oid = OID,
    } } },
    identities = { ["system-client"] = { oid = SYSTEM_OID, system = true } },
    app_service = { path = "/msi/token", header = "app-service-header" },
    secrets = {
      password = { value = TEXT }, turned = { versions = { [VERSION] = "old" } },
      json = '{"user":"u","pass":"in JSON"}', empty = "",
      long = azure.secrets["{vault://my-azure/long}"],
    },
    cache = { users = { OID, SYSTEM_OID } },
  }
  e:write("run/federated", "federated.asser.tion\n")
  return servers.start("azure", options, e)
end

function azure.vault(server)
  return ("{ vault_uri: %q }"):format(server.url)
end

function azure.query(server)
  return "vault_uri=" .. escape(server.url)
end

local function client(changes)
  return { tenants = { [TENANT] = { [CLIENT] = changes } } }
end

function azure.spoil()
  return client({ secrets = { "another" } })
end

function azure.mend()
  return client({ secrets = { CLIENT_SECRET } })
end

function azure.deny()
  return { secrets = { password = { disabled = true } } }
end

function azure.allow()
  return { secrets = { password = { disabled = json.null } } }
end

-- The environment of a client of Entra.
local function entra(server, more)
  local vars = { AZURE_AUTHORITY_HOST = server.url }
  for name, value in pairs(more) do
    vars[name] = value
  end
  return vars
end

azure.sources = {
  ["a client secret in the config"] = function(server)
    return entra(server, { SPEC_SECRET = CLIENT_SECRET }),
      ('azure_client_id: "%s", azure_tenant_id: "%s", '
       .. 'azure_client_secret: "{vault://env/spec-secret}"'):format(CLIENT, TENANT), OID
  end,
  ["a client secret in the environment"] = function(server)
    return entra(server, { AZURE_CLIENT_ID = CLIENT, AZURE_TENANT_ID = TENANT,
                           AZURE_CLIENT_SECRET = CLIENT_SECRET }), nil, OID
  end,
  ["a workload identity"] = function(server, e)
    return entra(server, { AZURE_CLIENT_ID = CLIENT, AZURE_TENANT_ID = TENANT,
                           AZURE_FEDERATED_TOKEN_FILE = e:path("run/federated") }), nil, OID
  end,
  ["the machine's identity"] = function(server)
    return { AZURE_POD_IDENTITY_AUTHORITY_HOST = server.url }, nil, SYSTEM_OID
  end,
  ["the identity of App Service"] = function(server)
    return { IDENTITY_ENDPOINT = server.url .. "/msi/token",
             IDENTITY_HEADER = "app-service-header" }, nil, SYSTEM_OID
  end,
}

return { gcp, azure }
