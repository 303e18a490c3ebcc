-- What can be configured of the vault pg.

local typedefs = require "weir.schema.typedefs"

return {
  name = "pg",
  fields = require("weir.schema.vault").fields({
    { query = {
      type = "string", default = "SELECT value FROM secrets WHERE name = $1", match = "%$1",
      err = "must have the parameter $1, which is what the reference names",
      description = "The statement that gives a secret; $1 is what the reference names.",
    } },
    { pg = { type = "record", description = "The server; what is missing is that of weir.conf.",
      fields = {
      { host = { type = "string", description = "The server: a name, an address, or the directory "
        .. "of its unix socket." } },
      { port = typedefs.port { description = "Its port." } },
      { user = { type = "string", description = "The user of the database." } },
      { password = { type = "string", len_min = 0, referenceable = true, encrypted = true,
        description = "The password of that user." } },
      { database = { type = "string", description = "The name of the database." } },
      { schema = { type = "string", description = "The schema whose tables come first." } },
      { ssl = { type = "boolean", description = "Whether the server is spoken to by TLS." } },
      { ssl_verify = { type = "boolean",
        description = "Whether the server's certificate is verified." } },
      { timeout = typedefs.timeout { description = "Milliseconds that a look-up may take." } },
    } } },
  }),
}
