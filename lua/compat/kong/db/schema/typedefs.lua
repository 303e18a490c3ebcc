return require("weir.schema.typedefs")
