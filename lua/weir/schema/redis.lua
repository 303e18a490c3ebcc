-- The record that says where a plugin's Redis is, one description for all plugins:
-- Kong's shared record and that of its larger plugins in one. No field has a default
-- here (but in cloud_authentication): what is missing is filled in where the
-- store is opened, from weir.conf's redis_* if the record names no server of its
-- own. Beside it the flat redis_* names of older configs.

local json = require("weir.json")
local net = require("weir.schema.net")
local site = require("weir.schema.site")
local typedefs = require("weir.schema.typedefs")

local _M = {}

local function check_host(text)
  if text:find("^unix:") then
    if text:find("^unix:/.") then
      return true
    end
    return nil, "invalid value: " .. text
  end
  if text:find("://", 1, true) then -- which may hold a password
    return nil, "must be a name, an address or unix:/path, not a URL"
  end
  return net.check_host(text)
end

-- {host =, port =} from "host:port", brackets kept; nil and why not.
local function address(text)
  local host, port = net.split_port(text)
  if not port or port > 65535 or not net.check_host(host) then
    return nil, "must be of the form host:port: " .. text
  end
  return { host = host, port = port }
end

-- A function from an array of "host:port" to what the field holds; name: the key of the host.
local function from_addresses(field, name)
  return function(list)
    local nodes = {}
    for i, text in ipairs(list) do
      local found, err = nil, "expected a string"
      if type(text) == "string" then
        found, err = address(text)
      end
      if not found then
        return nil, err
      end
      nodes[i] = { [name] = found.host, port = found.port }
    end
    return { [field] = nodes }
  end
end

local function nodes(name, what)
  return {
    type = "array", len_min = 1,
    elements = { type = "record", fields = {
      { [name] = typedefs.host {
        required = true, default = "127.0.0.1", description = "Its name or address.",
      } },
      { port = typedefs.port { default = 6379, description = "Its port." } },
    } },
    description = what,
  }
end

-- A copy of an attribute table under more attributes.
local function with(attrs, more)
  local out = {}
  for name, value in pairs(attrs) do
    out[name] = value
  end
  for name, value in pairs(more) do
    out[name] = value
  end
  return out
end

local secret = { type = "string", len_min = 0, referenceable = true, encrypted = true }

-- ---- what a cloud wants instead of a password

local function text(description)
  return { type = "string", referenceable = true, description = description }
end

local function secret_text(description)
  return { type = "string", referenceable = true, encrypted = true, description = description }
end

local function check_service_account(value)
  local account = json.decode(value)
  if type(account) == "table" and type(account.client_email) == "string"
    and type(account.private_key) == "string" then
    return true
  end
  return nil, "must be the JSON text of a service account's key, with client_email and private_key"
end

local function required_by(provider, field)
  return { conditional = {
    if_field = "auth_provider", if_match = { eq = provider },
    then_field = field, then_match = { required = true },
  } }
end

local cloud_authentication = {
  type = "record", required = false,
  description = "A cloud's login, instead of a password.",
  fields = {
    { auth_provider = { type = "string", required = true, one_of = { "aws", "azure", "gcp" },
      description = "Whose cloud it is." } },
    { aws_cache_name = text("The name of the ElastiCache.") },
    { aws_is_serverless = { type = "boolean", default = true,
      description = "Whether the ElastiCache is a serverless one." } },
    { aws_region = text("The region of the ElastiCache.") },
    { aws_access_key_id = secret_text("The access key; without one, that of the environment, "
      .. "a web identity, the container or the machine.") },
    { aws_secret_access_key = secret_text("The secret that goes with aws_access_key_id.") },
    { aws_assume_role_arn = text("A role that is assumed first.") },
    { aws_role_session_name = text("How the session of that role is called.") },
    { azure_client_id = text("The id of the client, or of a managed identity.") },
    { azure_client_secret = secret_text("The client's secret; without one, a workload identity "
      .. "or the machine's managed identity.") },
    { azure_tenant_id = text("The id of the tenant.") },
    { gcp_service_account_json = { type = "string", referenceable = true, encrypted = true,
      custom_validator = check_service_account,
      description = "The JSON key of a service account; without one, that of the environment or "
        .. "the machine." } },
  },
  entity_checks = {
    required_by("aws", "aws_cache_name"),
    required_by("aws", "aws_region"),
    { mutually_required = { "aws_access_key_id", "aws_secret_access_key" } },
  },
}

-- The fields, in the order that they are listed. The first nine have flat names in Kong, too.
local fields = {
  { "host", { type = "string", custom_validator = check_host, referenceable = true,
    description = "The server: a name, an address, or unix:/path." } },
  { "port", typedefs.port { referenceable = true, description = "Its port." } },
  { "timeout", typedefs.timeout {
    description = "Milliseconds, for each of the three timeouts that is not said.",
  } },
  { "username", { type = "string", referenceable = true,
    description = "The user; without one it is the default user of the server." } },
  { "password", with(secret, { description = "The password of that user." }) },
  { "database", { type = "integer", between = { 0, 65535 },
    description = "The number of the database." } },
  { "ssl", { type = "boolean", description = "Whether the server is spoken to by TLS." } },
  { "ssl_verify", { type = "boolean",
    description = "Whether the server's certificate is verified." } },
  { "server_name", typedefs.sni { referenceable = true,
    description = "The name that is asked for and verified in TLS, if it is not the host." } },
  { "connect_timeout", typedefs.timeout {
    description = "Milliseconds that a connection may take.",
  } },
  { "send_timeout", typedefs.timeout { description = "Milliseconds until a command has left." } },
  { "read_timeout", typedefs.timeout { description = "Milliseconds until a reply is there." } },
  { "sentinel_master", { type = "string",
    description = "The name of the master that Sentinels are asked for." } },
  { "sentinel_role", { type = "string", one_of = { "master", "slave", "any" },
    description = "Which server is read from." } },
  { "sentinel_nodes", nodes("host", "The Sentinels.") },
  { "sentinel_username", { type = "string", referenceable = true,
    description = "The user of the Sentinels." } },
  { "sentinel_password", with(secret, { description = "The password of that user." }) },
  { "cluster_nodes", nodes("ip", "Some nodes of a Redis Cluster; they tell of the others.") },
  { "cluster_max_redirections", { type = "integer", between = { 1, 100 },
    description = "How often one command may be sent on in a Cluster." } },
  { "keepalive_pool_size", { type = "integer", between = { 1, 2147483646 },
    description = "Without effect: a worker has one connection to each server." } },
  { "keepalive_backlog", { type = "integer", between = { 0, 2147483646 },
    description = "Without effect, as keepalive_pool_size." } },
  { "connection_is_proxied", { type = "boolean",
    description = "Whether it is a proxy of several: each call then is about one client." } },
  { "redis_proxy_type", { type = "string", one_of = { "envoy_v1.31" },
    description = "Which proxy it is; without effect." } },
  { "cloud_authentication", cloud_authentication },
}

-- What the fields of Kong's small record are without a word of the config.
local kong_defaults = { port = 6379, timeout = 2000, database = 0, ssl = false, ssl_verify = false }

-- The other way round, for those who read the older form.
local function to_addresses(field, name)
  return function(redis)
    local nodes_of = redis[field]
    if type(nodes_of) ~= "table" then
      return nil
    end
    local list = setmetatable({}, json.array_mt)
    for i, node in ipairs(nodes_of) do
      list[i] = node[name] .. ":" .. node.port
    end
    return list
  end
end

local function address_list(name, field, host_name)
  return { [name] = {
    type = "array", elements = { type = "string" }, func = from_addresses(field, host_name),
    translate_backwards_with = to_addresses(field, host_name),
  } }
end

local function record(defaults)
  local list = {}
  for i, field in ipairs(fields) do
    local name, attrs = field[1], field[2]
    list[i] = { [name] = with(attrs, { default = defaults[name] }) }
  end
  return {
    type = "record", required = true, fields = list,
    shorthand_fields = {
      address_list("sentinel_addresses", "sentinel_nodes", "host"),
      address_list("cluster_addresses", "cluster_nodes", "ip"),
    },
    entity_checks = {
      { mutually_required = { "sentinel_master", "sentinel_role", "sentinel_nodes" } },
      { mutually_exclusive = { "sentinel_master", "cluster_nodes" } },
      { mutually_exclusive = { "password", "cloud_authentication" } },
      { conditional = {
        if_field = "cloud_authentication.auth_provider", if_match = { one_of = { "aws", "azure" } },
        then_field = "username", then_match = { required = true },
        then_err = "required field missing: the cloud's login needs the name of its user",
      } },
    },
    description = "The Redis server; without one it is that of weir.conf's redis_*.",
  }
end

-- The field `redis` of a plugin's config.
_M.record = record({})

-- The same as Kong's shared record is: complete without weir.conf.
_M.complete_record = record(kong_defaults)

-- What has no flat name: lists, and the record that came after them.
local no_alias = { array = true, record = true }

local function alias(plugin, name, attrs)
  return { ["redis_" .. name] = {
    type = attrs.type, elements = attrs.type == "array" and { type = "string" } or nil,
    deprecation = {
      message = ("%s: config.redis_%s is deprecated, please use config.redis.%s instead")
        :format(plugin, name, name),
      removal_in_version = "4.0", replaced_with = { { path = { "redis", name } } },
    },
  } }
end

-- The shorthand_fields of a plugin's config: redis_<name> for each field of its record.
function _M.aliases(plugin)
  local out = {}
  for _, field in ipairs(fields) do
    local name = field[1]
    if not no_alias[field[2].type] then
      out[#out + 1] = alias(plugin, name, field[2])
    end
  end
  for _, name in ipairs({ "sentinel_addresses", "cluster_addresses" }) do
    out[#out + 1] = alias(plugin, name, { type = "array" })
  end
  return out
end

-- Appends to a plugin's entity_checks that config[strategy] = "redis" needs a server, unless
-- weir.conf names one.
function _M.require_target(entity_checks, strategy)
  if not site.names_redis() then
    entity_checks[#entity_checks + 1] = { conditional = {
      if_field = "config." .. strategy, if_match = { eq = "redis" },
      unless_filled = { "config.redis.sentinel_master", "config.redis.cluster_nodes" },
      then_field = "config.redis.host", then_match = { required = true },
    } }
  end
  return entity_checks
end

return _M
