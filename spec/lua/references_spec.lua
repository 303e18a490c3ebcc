-- Configs bound to secrets: what a field gives is of its type, or an error that says why.
require("native")

local texts = {}
local kept = package.loaded["weir.secret"]
package.loaded["weir.secret"] = { value = function(cell)
  return texts[cell.name], "it is not there"
end }
package.loaded["weir.references"] = nil
local references = require "weir.references"
package.loaded["weir.secret"] = kept
package.loaded["weir.references"] = nil

local NODE = { type = "record", fields = {
  { name = "word", type = "string", referenceable = true },
  { name = "port", type = "integer", referenceable = true },
  { name = "share", type = "number", referenceable = true },
  { name = "flag", type = "boolean", referenceable = true },
  { name = "list", type = "array", elements = { type = "string", referenceable = true } },
  { name = "map", type = "map", values = { type = "boolean", referenceable = true } },
} }

describe("a field that is a reference", function()
  local function bound(name)
    local config = { [name] = "{vault://env/x}" }
    assert(references.bind(NODE, config, function(text)
      return { name = text }
    end))
    return config
  end

  local function read(name, text)
    texts["{vault://env/x}"] = text
    local config = bound(name)
    return pcall(function() return config[name] end)
  end

  it("gives the value in its type", function()
    for _, case in ipairs({
      { "word", "5", "5" }, { "word", "", "" }, { "port", "6380", 6380 }, { "share", "0.5", 0.5 },
      { "flag", "true", true }, { "flag", "on", true }, { "flag", "false", false },
      { "flag", "off", false },
    }) do
      local ok, value = read(case[1], case[2])
      assert.is_true(ok, value)
      assert.equal(case[3], value)
    end
  end)

  it("is an error that says why where it has none, and does not show it", function()
    for _, case in ipairs({
      { "word", nil, "it is not there" }, { "port", "s3cret", "it is no integer" },
      { "port", "1.5", "it is no integer" }, { "port", "", "it is no integer" },
      { "share", "half", "it is no number" }, { "flag", "yes", "it is no boolean" },
    }) do
      local ok, err = read(case[1], case[2])
      assert.is_false(ok)
      assert.equal("no value for {vault://env/x}: " .. case[3], err)
    end
  end)

  it("may be in a list or map, which stays as it is for who holds it", function()
    local config = { list = { "x", "{vault://env/x}" }, map = { a = true, b = "{vault://env/y}" } }
    assert(references.bind(NODE, config, function(text)
      return { name = text }
    end))
    texts["{vault://env/x}"], texts["{vault://env/y}"] = "first", "off"
    local first = config.list
    assert.same({ "x", "first" }, first)
    assert.same({ a = true, b = false }, config.map)
    texts["{vault://env/x}"], texts["{vault://env/y}"] = "second", "on"
    assert.same({ "x", "second" }, config.list)
    assert.same({ a = true, b = true }, config.map)
    assert.same({ "x", "first" }, first)
    texts["{vault://env/x}"] = nil
    assert.is_false((pcall(function() return config.list end)))
    assert.same({ list = { [2] = "{vault://env/x}" }, map = { b = "{vault://env/y}" } },
                config["$refs"])
  end)

  it("stands under $refs", function()
    assert.same({ port = "{vault://env/x}" }, bound("port")["$refs"])
  end)
end)
