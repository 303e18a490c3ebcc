-- Regular expressions over PCRE2.

require("native")
local re = require("weir.re")

describe("weir.re", function()
  it("finds", function()
    local first, last = assert(re.compile("b+")):find("abbc")
    assert.same({ 2, 3 }, { first, last })
    assert.same({ 5, 5 }, { re.compile("b+"):find("abbcb", 4) })
    assert.is_nil((re.compile("b"):find("xyz")))
  end)

  it("gives groups by number and by name, false where one took no part", function()
    local match, behind = re.compile("(?<year>\\d+)-(\\d+)(-\\d+)?"):match("on 2024-05.")
    assert.same({ [0] = "2024-05", "2024", "05", false, year = "2024" }, match)
    assert.equal(11, behind)
  end)

  it("gives groups in the middle that took no part", function()
    assert.same({ [0] = "b", false, "b" }, (re.compile("(a)|(b)"):match("b")))
  end)

  it("obeys options", function()
    assert.is_truthy(re.compile("ABC", "i"):find("abc"))
    assert.is_nil((re.compile("b", "a"):find("ab")))
    assert.is_truthy(re.compile("a b # c", "x"):find("ab"))
    assert.is_truthy(re.compile("a.b", "s"):find("a\nb"))
    assert.is_truthy(re.compile("^b", "m"):find("a\nb"))
    assert.same({ 1, 2 }, { re.compile("^.$", "u"):find("é") })
  end)

  it("keeps compiled patterns apart by options", function()
    assert.equal(re.compile("same"), re.compile("same"))
    assert.are_not.equal(re.compile("same"), re.compile("same", "i"))
    for i = 1, 2000 do
      assert(re.compile("p" .. i))
    end
    assert.is_truthy(re.compile("same"):find("same"))
  end)

  it("says why a pattern is refused", function()
    local pattern, err = re.compile("(a")
    assert.is_nil(pattern)
    assert.equal("missing closing parenthesis at offset 2", err)
    assert.is_nil((re.compile(("a"):rep(70000))))
  end)

  it("gives up where matching would take too long", function()
    -- far beyond what is allowed, and within PCRE2's own default of ten times as much
    for _, n in ipairs({ 60, 20 }) do
      local first, err = re.compile("^(a+)+$"):find(("a"):rep(n) .. "b")
      assert.is_nil(first)
      assert.equal("match limit exceeded", err)
    end
  end)

  it("gives up on broken UTF-8 with option u", function()
    local first, err = re.compile("a", "u"):find("\255a")
    assert.is_nil(first)
    assert.equal("cannot match this text", err)
  end)

  it("takes bytes of zero, empty texts and more groups than are read", function()
    assert.same({ 1, 3 }, { re.compile("a.b", "s"):find("a\0b") })
    assert.same({ 1, 0 }, { re.compile("x*"):find("") })
    assert.is_truthy(re.compile(("(a)"):rep(150)):match(("a"):rep(150)))
  end)
end)
