-- The plan: order, scopes, and what a conf holds.

local json = require("weir.json")
local plan = require("weir.plan")

local function plugin(name, priority, phases)
  local handler = { PRIORITY = priority, VERSION = "1.0.0" }
  for _, phase in ipairs(phases) do
    handler[phase] = function()
      return name .. phase
    end
  end
  return { name = name, priority = priority, handler = handler }
end

local function loaded(...)
  local out = {}
  for _, p in ipairs({ ... }) do
    out[p.name] = p
  end
  return out
end

local service = { id = "s1" }
local route = { id = "r1", service = service }
local other = { id = "r2", service = service }
local lonely = { id = "r3" }

local function make(plugins, entities)
  for i, entity in ipairs(entities) do
    entity.id = entity.id or "p" .. i
    entity.config = entity.config or {}
  end
  return assert(plan.new({ services = { service }, routes = { route, other, lonely },
    plugins = entities }, plugins))
end

describe("plan", function()
  it("orders by priority, then by name, both descending", function()
    local plugins = loaded(plugin("a", 5, { "access" }), plugin("b", 5, { "access" }),
      plugin("c", 9, { "access" }), plugin("d", -1, { "access", "log" }))
    local p = make(plugins, { { name = "a" }, { name = "d" }, { name = "c" }, { name = "b" } })
    assert.same({ "c", "b", "a", "d" }, p:lists(route).access.names)
    assert.same({ "d" }, p:lists(route).log.names)
    assert.equal(4, p:lists(route).access.n)
    assert.equal(plugins.c.handler.access, p:lists(route).access.handlers[1])
    assert.equal(plugins.c.handler, p:lists(route).access.plugins[1])
  end)

  it("takes the most specific conf of a plugin, once", function()
    local plugins = loaded(plugin("a", 5, { "access" }))
    local entities = {
      { name = "a", config = { n = "global" } },
      { name = "a", service = service, config = { n = "service" } },
      { name = "a", route = route, config = { n = "route" } },
      { name = "a", route = route, service = service, config = { n = "both" } },
    }
    local function conf_of(list, r)
      local access = make(plugins, list):lists(r).access
      assert.equal(1, access.n)
      return access.confs[1].n
    end
    assert.equal("both", conf_of(entities, route))
    assert.equal("service", conf_of(entities, other))
    assert.equal("global", conf_of(entities, lonely))
    assert.equal("global", conf_of(entities, nil))
    entities[4].enabled = false
    assert.equal("route", conf_of(entities, route))
    entities[3].enabled = false
    assert.equal("service", conf_of(entities, route))
    entities[2].enabled = false
    assert.equal("global", conf_of(entities, route))
  end)

  it("leaves out what does not apply", function()
    local p = make(loaded(plugin("a", 5, { "access" })), {
      { name = "a", route = route }, { name = "a", enabled = false },
    })
    assert.equal(1, p:lists(route).access.n)
    assert.equal(0, p:lists(other).access.n)
    assert.equal(0, p.none.access.n)
  end)

  it("tells handlers who they are, without nulls", function()
    local entity = { name = "a", id = "pid", route = route, service = service, instance_name = "i",
      config = { x = json.null, deep = { y = json.null, z = { 1, 2 } } } }
    local p = make(loaded(plugin("a", 5, { "access" })), { entity })
    assert.same({
      deep = { z = { 1, 2 } }, __plugin_id = "pid", route_id = "r1", service_id = "s1",
      plugin_instance_name = "i",
    }, p:lists(route).access.confs[1])
    assert.equal("pid", p:lists(route).access.ids[1])
    assert.equal(json.null, entity.config.x)
  end)

  it("gives all phases of a plugin the same conf", function()
    local lists = make(loaded(plugin("a", 5, { "access", "header_filter", "body_filter", "log" })),
      { { name = "a" } }):lists(route)
    for _, phase in ipairs({ "header_filter", "body_filter", "log" }) do
      assert.equal(lists.access.confs[1], lists[phase].confs[1])
    end
    assert.is_false(lists.buffered)
  end)

  it("buffers for the response phase", function()
    local p = make(loaded(plugin("a", 5, { "response" })), { { name = "a", route = route } })
    assert.is_true(p:lists(route).buffered)
    assert.is_false(p:lists(other).buffered)
  end)

  it("rewrites with global plugins only", function()
    local p = make(loaded(plugin("a", 5, { "rewrite" }), plugin("b", 5, { "rewrite" })), {
      { name = "a", route = route }, { name = "b", config = { n = 1 } },
      { name = "b", route = route, config = { n = 2 } },
    })
    assert.same({ "b" }, p:lists(route).rewrite.names)
    assert.equal(1, p:lists(route).rewrite.confs[1].n)
    assert.equal(p.none.rewrite, p:lists(route).rewrite)
  end)

  it("starts all that is loaded, and configures with all confs", function()
    local plugins = loaded(plugin("a", 5, { "init_worker", "configure", "access" }),
      plugin("b", 6, { "init_worker", "configure" }))
    local p = make(plugins, { { name = "a", config = { n = 1 } },
      { name = "a", route = route, config = { n = 2 } },
      { name = "a", service = service, enabled = false } })
    assert.same({ "b", "a" }, p.init_worker.names)
    assert.is_false(p.configure.confs[1])
    assert.equal(2, #p.configure.confs[2])
    assert.equal(p.none.access.confs[1], p.configure.confs[2][1])
  end)

  it("refuses a plugin that is not loaded", function()
    local p, err = plan.new({ routes = {}, plugins = { { name = "x", id = "1" } } }, {})
    assert.is_nil(p)
    assert.equal("plugin 'x' is configured but not loaded", err)
  end)
end)
