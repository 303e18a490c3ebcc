-- YAML: values, lines, and what is refused.

local json = require("weir.json")
local yaml = require("weir.yaml")

describe("weir.yaml", function()
  local function fails(text, message, line)
    local value, err, at = yaml.decode(text)
    assert.is_nil(value)
    assert.equal(message, err)
    assert.equal(line, at)
  end

  it("reads the core kinds", function()
    assert.same({
      i = 5, n = -3, o = 8, h = 255, f = 0.5, e = 1e3, t = true, no = false, z = json.null,
      s = "5", w = "a b", v = "10:30", d = "2001-01-01", inf = ".inf", ver = "3.0.1",
    }, yaml.decode([[
i: 5
n: -3
o: 010
h: 0xff
f: 0.5
e: 1e3
t: yes
"no": off
z: ~
s: "5"
w: a b
v: 10:30
d: 2001-01-01
inf: .inf
ver: 3.0.1
]]))
  end)

  it("keeps empty sequences apart from empty maps", function()
    assert.equal('[[],{}]', json.encode(yaml.decode("[[], {}]")))
  end)

  it("makes strings of scalar keys", function()
    assert.same({ ["1"] = "a", ["true"] = "b", ["null"] = "c" },
      yaml.decode("1: a\ntrue: b\nnull: c"))
  end)

  it("obeys explicit core tags and refuses others", function()
    assert.same({ a = "5", b = 5 }, yaml.decode("a: !!str 5\nb: !!int 5"))
    local unfit = "the tag before this value is unknown or does not fit it "
      .. "(a text that begins with ! must be quoted)"
    fails("a: !!int x", "line 1: " .. unfit, 1)
    fails("\na: !foo x", "line 2: " .. unfit, 2)
  end)

  it("gives each use of an alias a value of its own", function()
    local value = yaml.decode("a: &x {p: [1]}\nb: *x\nc: &n 5\nd: *n")
    assert.same({ p = { 1 } }, value.b)
    assert.are_not.equal(value.a, value.b)
    assert.are_not.equal(value.a.p, value.b.p)
    assert.equal(5, value.d)
  end)

  it("merges maps by <<", function()
    assert.same({ p = 1, q = 3 }, yaml.decode("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}").b)
    assert.same({ p = 1, q = 2 }, yaml.decode("a: &x {p: 1}\nc: &y {q: 2}\nb: {<<: [*x, *y]}").b)
    fails("a: {<<: 5}", "line 1: '<<' takes a map or a list of maps", 1)
  end)

  it("knows the line of each value", function()
    local value, lines = yaml.decode("a: 1\nb:\n  - x\n  - y: 2\n    z: 3\n")
    assert.same({ a = 1, b = 2 }, lines[value])
    assert.same({ 3, 4 }, lines[value.b])
    assert.same({ y = 4, z = 5 }, lines[value.b[2]])
  end)

  it("says where it fails", function()
    fails("a: 1\nb: 2\na: 3", "line 3: duplicate key 'a' (first on line 1)", 3)
    fails("a: [1\nb: }",
      "line 2: did not find expected ',' or ']', while parsing a flow sequence", 2)
    fails("--- a\n--- b", "line 2: more than one document", 2)
    fails("a: *x", "line 1: unknown alias (a text that begins with * must be quoted)", 1)
    fails("&a [*a]", "line 1: alias 'a' contains itself", 1)
    fails("? [a]\n: 1", "line 1: a key must be a string", 1)
    fails("a: \195\164\nb: \255\n", "line 2: invalid leading UTF-8 octet", 2)
    fails("a: 1\n\nb: \1\n", "line 3: control characters are not allowed", 3)
  end)

  it("bounds nesting and what aliases expand to", function()
    fails(("["):rep(200) .. ("]"):rep(200), "line 1: nested too deeply", 1)
    local text = { "a0: &a0 [x,x,x,x,x,x,x,x,x,x]" }
    for i = 1, 8 do
      local one = "*a" .. (i - 1)
      text[i + 1] = ("a%d: &a%d [%s]"):format(i, i, (one .. ","):rep(10))
    end
    local value, err = yaml.decode(table.concat(text, "\n"))
    assert.is_nil(value)
    assert.matches("aliases expand too far", err)
  end)

  it("gives null for an empty text", function()
    assert.equal(json.null, (yaml.decode("")))
    assert.equal(json.null, (yaml.decode("# nothing\n")))
  end)
end)
