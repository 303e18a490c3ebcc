-- What can be configured of the vault aws.

local typedefs = require("weir.schema.typedefs")

return {
  name = "aws",
  fields = require("weir.schema.vault").fields({
    { region = {
      type = "string", match = "^[%l%d-]+$",
      description = "The region of the secrets; without it, AWS_REGION or AWS_DEFAULT_REGION.",
    } },
    { endpoint_url = typedefs.url {
      description = "The URL of Secrets Manager, where it is not the region's own.",
    } },
    { access_key_id = {
      type = "string", len_min = 1, referenceable = true,
      description = "An access key; without one, credentials are found as AWS's SDKs do.",
    } },
    { secret_access_key = {
      type = "string", len_min = 1, referenceable = true, encrypted = true,
      description = "The secret of access_key_id.",
    } },
    { assume_role_arn = {
      type = "string", len_min = 1,
      description = "The ARN of a role to assume.",
    } },
    { role_session_name = {
      type = "string", len_min = 1, default = "KongVault", -- COMPAT(kong): trust policies name it
      description = "The name of the session of the role, for AWS's own logs and policies.",
    } },
    { sts_endpoint_url = typedefs.url {
      description = "The URL of STS, where it is not the region's own.",
    } },
    { base64_decode = {
      type = "boolean", default = false,
      description = "Secrets are text in base64, and what it stands for is the secret.",
    } },
  }),
}
