-- COMPAT(kong): the record that plugins share, with the defaults that they expect to find in it.
return { config_schema = require("weir.schema.redis").complete_record }
