-- What can be configured of the vault hcv. Kong's names, but for ssl_verify, ca_file and
-- cert_auth_path, which are weir's own.

local typedefs = require("weir.schema.typedefs")

local SERVICE_ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount/token"

local function with(method, check)
  check.if_field, check.if_match = "config.auth_method", { eq = method }
  return check
end

local function needs(method, field)
  return { conditional = with(method, {
    then_field = "config." .. field, then_match = { required = true },
  }) }
end

return {
  name = "hcv",
  fields = require("weir.schema.vault").fields({
    { protocol = {
      type = "string", one_of = { "http", "https" }, default = "http",
      description = "How HashiCorp Vault is spoken to; without TLS, tokens and secrets are seen.",
    } },
    { host = typedefs.host {
      required = true, default = "127.0.0.1",
      description = "Where HashiCorp Vault is: a name or an address.",
    } },
    { port = typedefs.port {
      required = true, default = 8200,
      description = "The port that it listens on.",
    } },
    { namespace = {
      type = "string", len_min = 1, match = "^[^%c%s]+$",
      description = "The namespace that logins and secrets are in, where there are namespaces.",
    } },
    { mount = {
      type = "string", required = true, default = "secret", len_min = 1,
      description = "Where the secrets engine is mounted.",
    } },
    { kv = {
      type = "string", one_of = { "v1", "v2" }, default = "v1",
      description = "The version of that secrets engine.",
    } },
    { auth_method = {
      type = "string", one_of = { "token", "approle", "kubernetes", "cert" }, default = "token",
      description = "How weir shows who it is.",
    } },
    { token = {
      type = "string", len_min = 1, referenceable = true, encrypted = true,
      description = "The token of the method token.",
    } },
    { kube_role = {
      type = "string", len_min = 1,
      description = "The role of the method kubernetes.",
    } },
    { kube_auth_path = {
      type = "string", len_min = 1, default = "kubernetes",
      description = "Where the method kubernetes is mounted.",
    } },
    { kube_api_token_file = {
      type = "string", len_min = 1, default = SERVICE_ACCOUNT,
      description = "The file with the token of the pod's service account.",
    } },
    { approle_auth_path = {
      type = "string", len_min = 1, default = "approle",
      description = "Where the method approle is mounted.",
    } },
    { approle_role_id = {
      type = "string", len_min = 1, referenceable = true,
      description = "The role id of the method approle.",
    } },
    { approle_secret_id = {
      type = "string", len_min = 1, referenceable = true, encrypted = true,
      description = "The secret id of that role.",
    } },
    { approle_secret_id_file = {
      type = "string", len_min = 1,
      description = "A file that holds the secret id; it is read at each login.",
    } },
    { approle_response_wrapping = {
      type = "boolean", default = false,
      description = "In the secret id's place stands a token by which it is unwrapped, once.",
    } },
    { cert_auth_path = {
      type = "string", len_min = 1, default = "cert",
      description = "Where the method cert is mounted.",
    } },
    { cert_auth_role_name = {
      type = "string", len_min = 1,
      description = "The certificate role of the method cert; without it, each is tried.",
    } },
    { cert_auth_cert = {
      type = "string", len_min = 1,
      description = "The file with the client's certificate, in PEM.",
    } },
    { cert_auth_cert_key = {
      type = "string", len_min = 1,
      description = "The file with that certificate's key, in PEM.",
    } },
    { base64_decode = {
      type = "boolean", default = false,
      description = "Members of secrets are text in base64, and what it stands for is the secret.",
    } },
    { ssl_verify = {
      type = "boolean", default = true,
      description = "Whether HashiCorp Vault's certificate must be a good one.",
    } },
    { ca_file = {
      type = "string", len_min = 1,
      description = "The file with the authorities of that certificate, in PEM.",
    } },
  }),
  entity_checks = {
    needs("token", "token"),
    needs("kubernetes", "kube_role"),
    needs("approle", "approle_role_id"),
    { conditional_at_least_one_of = with("approle", {
      then_at_least_one_of = { "config.approle_secret_id", "config.approle_secret_id_file" },
    }) },
    needs("cert", "cert_auth_cert"),
    needs("cert", "cert_auth_cert_key"),
    { conditional = with("cert", {
      then_field = "config.protocol", then_match = { eq = "https" },
      then_err = "must be https, for the client's certificate is shown in TLS",
    }) },
  },
}
