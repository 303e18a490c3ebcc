-- What can be configured of the vault env.

return {
  name = "env",
  fields = require("weir.schema.vault").fields({
    { prefix = {
      type = "string", match = "^[%a_-][%a%d_-]*$",
      description = "What the names of all variables begin with.",
    } },
    { base64_decode = {
      type = "boolean", default = false,
      description = "The variables hold base64, and what it stands for is the secret.",
    } },
  }),
}
