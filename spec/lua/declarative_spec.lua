-- Declarative files: what they may say, and how mistakes are reported.

require("native")
package.path = package.path .. ";lua/compat/?.lua"

local declarative = require("weir.store.declarative")
local plugin_entities = require("weir.entities.plugins")
local typedefs = require("weir.schema.typedefs")

local subschemas = {
  limit = assert(plugin_entities.subschema({
    name = "limit",
    fields = {
      { protocols = typedefs.protocols_http },
      { config = { type = "record", fields = {
        { minute = { type = "number", gt = 0 } },
        { second = { type = "number", gt = 0 } },
        { store = { type = "record", fields = { { port = typedefs.port { default = 1 } } } } },
        { optional = { type = "record", required = false, fields = {} } },
      } } },
    },
    entity_checks = { { at_least_one_of = { "config.minute", "config.second" } } },
  })),
  plain = assert(plugin_entities.subschema({
    name = "plain", fields = { { protocols = typedefs.protocols { default = { "http" } } } },
  })),
  bare = assert(plugin_entities.subschema({
    name = "bare", fields = { { route = typedefs.no_route } },
  })),
}

local function parse(text, head, path)
  return declarative.parse((head or '_format_version: "3.0"\n') .. text, subschemas, path)
end

local function good(...)
  local config, errors = parse(...)
  assert(config, errors and declarative.errors_to_string(errors, "f"))
  return config
end

-- the errors as "line path: message"
local function errors_of(...)
  local config, errors = parse(...)
  assert.is_nil(config)
  local out = {}
  for i, err in ipairs(errors) do
    out[i] = (err.line or "-") .. " " .. (err.path ~= "" and err.path .. ": " or "") .. err.message
  end
  return out
end

local nested = [[
services:
- name: a
  url: http://127.0.0.1:9000/base
  routes:
  - name: r
    paths: [/foo]
    plugins:
    - name: limit
      config: {minute: 5}
  plugins:
  - name: limit
    config: {minute: 6}
plugins:
- name: limit
  config: {minute: 7}
]]

describe("declarative, good files", function()
  it("takes nested entities", function()
    local config = good(nested)
    local service, route = config.services[1], config.routes[1]
    assert.equal(service, route.service)
    assert.same({ 1, 1, 3 }, { #config.services, #config.routes, #config.plugins })
    local by_minute = {}
    for _, plugin in ipairs(config.plugins) do
      by_minute[plugin.config.minute] = plugin
    end
    assert.equal(route, by_minute[5].route)
    assert.is_nil(by_minute[5].service)
    assert.equal(service, by_minute[6].service)
    assert.is_nil(by_minute[6].route)
    assert.is_nil(by_minute[7].service)
  end)

  it("takes flat entities, referring by name, by id, and as tables", function()
    local id = "2ed6657d-e927-568b-95e1-2665a8aea6a2"
    local config = good([[
plugins:
- {name: limit, service: a, route: r, config: {second: 1}}
- {name: limit, route: {name: r}, config: {second: 2}}
- {name: limit, service: {id: ]] .. id:upper() .. [[}, config: {second: 3}}
routes:
- {name: r, paths: [/], service: ]] .. id .. [[}
services:
- {name: a, id: ]] .. id .. [[, host: h}
]])
    assert.equal(config.services[1], config.routes[1].service)
    assert.equal(config.services[1], config.plugins[1].service)
    assert.equal(config.routes[1], config.plugins[1].route)
    assert.equal(config.routes[1], config.plugins[2].route)
    assert.equal(config.services[1], config.plugins[3].service)
  end)

  it("lets a nested plugin name its second scope", function()
    local config = good([[
services:
- name: a
  host: h
  routes:
  - name: r
    paths: [/]
    plugins: [{name: plain, service: a}]
]])
    assert.equal(config.services[1], config.plugins[1].service)
    assert.equal(config.routes[1], config.plugins[1].route)
  end)

  it("fills defaults", function()
    local config = good(nested)
    local s, r, p = config.services[1], config.routes[1], config.plugins[1]
    assert.same({ "http", "127.0.0.1", 9000, "/base", 5, 60000, 60000, 60000, true }, {
      s.protocol, s.host, s.port, s.path, s.retries, s.connect_timeout, s.read_timeout,
      s.write_timeout, s.enabled })
    assert.same({ { "http", "https" }, true, false, 0, "v0", 426, true, true }, {
      r.protocols, r.strip_path, r.preserve_host, r.regex_priority, r.path_handling,
      r.https_redirect_status_code, r.request_buffering, r.response_buffering })
    assert.same({ true, 1, nil }, { p.enabled, p.config.store.port, p.config.optional })
    assert.same({ "grpc", "grpcs", "http", "https" }, p.protocols)
  end)

  it("gives ids that stay", function()
    local one, two = good(nested), good(nested)
    for _, kind in ipairs({ "services", "routes", "plugins" }) do
      for i, entity in ipairs(one[kind]) do
        assert.matches("^%x+%-%x+%-5%x+%-%x+%-%x+$", entity.id)
        assert.equal(entity.id, two[kind][i].id)
      end
    end
  end)

  it("gives nameless entities ids that their neighbours do not change", function()
    local route = "- paths: [/x]\n"
    local alone = good("routes:\n" .. route).routes[1].id
    local config = good("routes:\n- paths: [/y]\n" .. route .. route)
    assert.equal(alone, config.routes[2].id)
    assert.are_not.equal(alone, config.routes[3].id)
    assert.are_not.equal(alone, config.routes[1].id)
  end)

  it("drops nulls", function()
    local config = good("services: [{name: a, host: h, path: null, tags: ~}]\nroutes: null")
    assert.is_nil(config.services[1].path)
    assert.is_nil(config.services[1].tags)
  end)

  it("takes empty files and the words that are not entities", function()
    assert.same({ vaults = {}, services = {}, routes = {}, plugins = {} },
      good("_transform: true\n_comment: x\n_ignore: [1]\nservices: []\n"))
    good("services: [{name: a, host: h, _comment: x, _ignore: [1]}]")
  end)

  it("reads JSON", function()
    local config = good('"routes": [{"name": "r", "paths": ["\\/a"]}]}',
      '{"_format_version": "3.0",\n', "f.json")
    assert.same({ "/a" }, config.routes[1].paths)
    good("{\"_format_version\": \"3.0\"}", "\239\187\191", "f.json")
    assert.same({ "3 Expected the end but found T_COMMA at character 5" },
      errors_of("{\n\n},", "", "f.json"))
  end)

  it("marks the regular expressions of older formats", function()
    local text = 'routes: [{paths: ["/a.b-c_d~/x", "/u/\\\\d+", "/v*"]}]'
    for _, version in ipairs({ "1.1", "2.1" }) do
      assert.same({ "/a.b-c_d~/x", "~/u/\\d+", "~/v*" },
        good(text, '_format_version: "' .. version .. '"\n').routes[1].paths)
    end
  end)

  it("has specific errors for a plugin's own narrowing", function()
    assert.same({ "4 routes[1].plugins[1].route: value must be null" },
      errors_of("routes:\n- paths: [/]\n  plugins: [{name: bare}]\n"))
    good("plugins: [{name: bare}]")
  end)
end)

describe("declarative, bad files", function()
  it("wants a version", function()
    assert.same({ "- _format_version: required field missing" }, errors_of("services: []", ""))
    assert.same({ "1 _format_version: expected a string" },
      errors_of("", "_format_version: 3.0\n"))
    assert.same({ "1 _format_version: expected one of: 1.1, 2.1, 3.0" },
      errors_of("", '_format_version: "4.0"\n'))
  end)

  it("knows each key", function()
    assert.same({ "2 consumers: unknown field",
      "3 services[1].host: required field missing", "3 services[1].hots: unknown field" },
      errors_of("consumers: []\nservices: [{name: a, hots: x}]"))
    assert.same({ "2 _transform: expected a boolean" }, errors_of("_transform: 5"))
  end)

  it("wants lists of records", function()
    assert.same({ "2 services: expected an array" }, errors_of("services: {a: 1}"))
    assert.same({ "2 services[1]: expected a record" }, errors_of("services: [a]"))
    assert.same({ "- expected a map with _format_version and lists of entities" },
      errors_of("- a", ""))
  end)

  it("says where YAML breaks", function()
    assert.same({ "3 duplicate key 'a' (first on line 2)" }, errors_of("a: 1\na: 2"))
  end)

  it("names path and line of each mistake in a plugin", function()
    assert.same({
      "9 services[1].routes[1].plugins[1].config.minute: expected a number",
      "10 services[1].routes[1].plugins[1].config.store.port: value should be between 0 and 65535",
      "12 services[1].routes[1].plugins[2].config.zork: unknown field",
    }, errors_of([[
services:
- host: h
  routes:
  - paths: [/]
    plugins:
    - name: limit
      config:
        minute: x
        store: {port: 70000}
    - name: plain
      config: {zork: 1}
]]))
  end)

  it("reports checks over fields at the entity", function()
    assert.same({ "3 plugins[1]: at least one of these fields must be non-empty: "
      .. "'config.minute', 'config.second'" }, errors_of("plugins:\n- name: limit"))
  end)

  it("knows the plugins", function()
    assert.same({ "2 plugins[1].name: plugin 'x' not enabled; "
      .. "add it to the 'plugins' configuration property, or its directory to 'plugin_dir'" },
      errors_of("plugins: [{name: x}]"))
    assert.same({ "2 plugins[1].name: required field missing" }, errors_of("plugins: [{}]"))
    assert.same({ "2 plugins[1].name: expected a string" }, errors_of("plugins: [{name: 5}]"))
  end)

  it("refuses consumers as long as there are none", function()
    assert.same({ "2 plugins[1].consumer: value must be null" },
      errors_of("plugins: [{name: plain, consumer: {id: x}}]"))
  end)

  it("checks a service", function()
    assert.same({ "2 services[1].protocol: expected one of: http" },
      errors_of("services: [{url: 'https://a'}]"))
    assert.same({ "2 services[1].url: missing host in url" },
      errors_of("services: [{url: nope}]"))
    assert.same({ "2 services[1].retries: value should be between 0 and 32767" },
      errors_of("services: [{host: a, retries: -1}]"))
  end)

  it("checks a route", function()
    assert.same({ "2 routes[1]: must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' "
      .. "when 'protocols' is 'https'" }, errors_of("routes: [{name: r}]"))
    assert.same({ "2 routes[1]: must set one of 'methods', 'hosts', 'headers', 'paths' "
      .. "when 'protocols' is 'http'" }, errors_of("routes: [{name: r, protocols: [http]}]"))
    assert.same({ "2 routes[1].protocols[1]: expected one of: http, https" },
      errors_of("routes: [{paths: [/], protocols: [tcp]}]"))
    assert.same({ "2 routes[1].paths[2]: should start with: / (fixed path) or ~/ (regex path)" },
      errors_of("routes: [{paths: [/, a]}]"))
    assert.same({ "2 routes[1].headers.Host: cannot contain 'host' header, which must be "
      .. "specified in the 'hosts' attribute" }, errors_of("routes: [{headers: {Host: [a]}}]"))
    assert.same({ "2 routes[1].methods[1]: invalid value: get" },
      errors_of("routes: [{methods: [get]}]"))
  end)

  it("resolves references", function()
    assert.same({ "2 routes[1].service: invalid reference 'service: x' "
      .. "(no such entry in 'services')" }, errors_of("routes: [{paths: [/], service: x}]"))
    assert.same({ "2 routes[1].service: invalid reference 'service: y' "
      .. "(no such entry in 'services')" },
      errors_of("routes: [{paths: [/], service: {name: y}}]"))
    assert.same({ "2 routes[1].service: expected a string" },
      errors_of("routes: [{paths: [/], service: 5}]"))
    assert.same({ "5 services[1].routes[1].service: this entity stands inside of another service" },
      errors_of("services:\n- name: a\n  host: h\n  routes: [{paths: [/], service: b}]\n"
        .. "- {name: b, host: h}"))
  end)

  it("refuses what is there twice", function()
    assert.same({ "4 services[2]: uniqueness violation: 'services' entity with name set to 'a' "
      .. "already declared" }, errors_of("services:\n- {name: a, host: h}\n- {name: a, host: i}"))
    local id = "2ed6657d-e927-568b-95e1-2665a8aea6a2"
    assert.same({ "4 routes[2]: uniqueness violation: 'routes' entity with id set to '" .. id
      .. "' already declared" },
      errors_of("routes:\n- {id: " .. id .. ", paths: [/]}\n- {id: " .. id .. ", paths: [/]}"))
    assert.same({ "4 plugins[2]: uniqueness violation: 'plugins' entity with name set to 'plain' "
      .. "already declared" }, errors_of("plugins:\n- name: plain\n- name: plain"))
    assert.same({ "4 plugins[2]: uniqueness violation: 'plugins' entity with instance_name set "
      .. "to 'i' already declared" }, errors_of("plugins:\n- {name: plain, instance_name: i}\n"
      .. "- {name: bare, instance_name: i}"))
  end)

  it("matches a plugin's protocols with its route's", function()
    assert.same({ "2 routes[1].plugins[1].protocols: must match the associated route's protocols" },
      errors_of("routes: [{paths: [/], protocols: [https], plugins: [{name: plain, "
        .. "protocols: [http]}]}]"))
  end)

  it("writes errors with file and line", function()
    local _, errors = parse("services: [{host: 5}]\nfoo: 1")
    assert.equal("w.yml:2: services[1].host: expected a string\nw.yml:3: foo: unknown field",
      declarative.errors_to_string(errors, "w.yml"))
  end)
end)
