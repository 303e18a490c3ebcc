-- The vault pg: secrets in a table of a PostgreSQL that the site already has. The
-- statement is the operator's; a reference only gives its parameter.

local ask = require "weir.ask"

local _M = { VERSION = "1.0.0" }


-- The keys of weir.conf that a look-up logs in with.
function _M.uses(conf)
  if not conf.pg.host then
    return { "pg_password" }
  end
end


function _M.get(conf, resource, version)
  if version then
    return nil, "the statement of the vault asks for no versions"
  end
  local value, err = ask.postgres(conf.pg, conf.query, resource)
  if value == nil then
    return nil, "PostgreSQL: " .. err
  elseif value == false then
    return nil, "PostgreSQL has no row for " .. resource
  end
  return value
end


return _M
