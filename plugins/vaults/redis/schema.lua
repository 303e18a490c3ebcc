-- What can be configured of the vault redis.

return {
  name = "redis",
  fields = require("weir.schema.vault").fields({
    { hash = {
      type = "string",
      description = "The hash whose fields are the secrets; without it, each is a key.",
    } },
    { prefix = {
      type = "string", description = "What the keys begin with, where there is no hash.",
    } },
    { redis = require("weir.schema.redis").record },
  }),
}
