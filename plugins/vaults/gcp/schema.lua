-- What can be configured of the vault gcp. Kong's names, but for service_account_json and
-- endpoint, which are weir's own.

local url = require("weir.cloud.url")

return {
  name = "gcp",
  fields = require("weir.schema.vault").fields({
    { project_id = {
      type = "string", match = "^[%w.:-]+$",
      description = "The project whose secrets these are; without it, that of the key.",
    } },
    { base64_decode = {
      type = "boolean", default = false,
      description = "The secrets hold base64, and what it stands for is the secret.",
    } },
    { service_account_json = {
      type = "string", referenceable = true, encrypted = true,
      description = "The key of a service account, as Google gives it out: its JSON.",
    } },
    { endpoint = {
      type = "string", default = "https://secretmanager.googleapis.com",
      custom_validator = url.check, description = "Where Secret Manager is asked.",
    } },
  }),
}
