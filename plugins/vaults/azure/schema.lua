-- What can be configured of the vault azure. Kong's names, but for client_secret and
-- secret_version, which are weir's own.

local url = require("weir.cloud.url")

return {
  name = "azure",
  fields = require("weir.schema.vault").fields({
    { vault_uri = {
      type = "string", custom_validator = url.check,
      description = "The Key Vault, such as https://my-vault.vault.azure.net.",
    } },
    { credentials_prefix = {
      type = "string", default = "AZURE", match = "^[%a_][%w_]*$",
      description = "What the names of the variables of the environment begin with that hold"
        .. " credentials: <prefix>_CLIENT_ID, _CLIENT_SECRET and _TENANT_ID.",
    } },
    { type = {
      type = "string", default = "secrets", one_of = { "secrets" },
      description = "What is read of the Key Vault.",
    } },
    { location = {
      type = "string",
      description = "The region of the Key Vault; without effect, vault_uri says where it is.",
    } },
    { client_id = {
      type = "string",
      description = "The client, or the user-assigned managed identity, that asks.",
    } },
    { tenant_id = { type = "string", description = "The tenant of the client." } },
    { client_secret = {
      type = "string", referenceable = true, encrypted = true,
      description = "The secret of the client.",
    } },
    { base64_decode = {
      type = "boolean", default = false,
      description = "The secrets hold base64, and what it stands for is the secret.",
    } },
    { secret_version = {
      type = "string", match = "^%x+$",
      description = "The version of a secret, for the query of a reference; without it the newest.",
    } },
  }),
}
