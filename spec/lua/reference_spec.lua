-- References to secrets: what is one, what its parts are, Kong's messages.

local reference = require "weir.vault.reference"


describe("a reference to a secret", function()
  local function parse(text)
    local ref = assert(reference.parse(text))
    return { ref.name, ref.resource, ref.key or false, ref.version or false }
  end

  it("is told by its beginning and its end", function()
    assert.is_true(reference.is("{vault://env/x}"))
    assert.is_true(reference.is("{vault://}"))
    assert.is_false(reference.is("{vault://env/x} "))
    assert.is_false(reference.is("a{vault://env/x}"))
    assert.is_false(reference.is("{vault:/env/x}"))
    assert.is_false(reference.is(1))
    assert.is_false(reference.is(nil))
  end)

  it("has a vault, a resource and the member of a JSON object", function()
    assert.same({ "env", "test", false, false }, parse("{vault://env/test}"))
    assert.same({ "env", "pg-creds", "username", false }, parse("{vault://env/pg-creds/username}"))
    assert.same({ "hcv", "a/b", "c", false }, parse("{vault://hcv/a//b///c}"))
    assert.same({ "hcv", "a/b/c", false, false }, parse("{vault://hcv/a/b/c/}"))
    assert.same({ "my-env", "a b+/c", "d/e", false }, parse("{vault://my-env/a%20b+%2Fc/d%2fe}"))
  end)

  it("has a version", function()
    assert.same({ "env", "test", false, 2 }, parse("{vault://env/test#2}"))
    assert.same({ "env", "test", "k", 10 }, parse("{vault://env/test/k?prefix=A_#10}"))
  end)

  it("has overrides of the vault's config", function()
    local ref = assert(reference.parse("{vault://env/test?prefix=A%5F&base64_decode&x=1}"))
    assert.same({ prefix = "A_", base64_decode = true, x = "1" }, ref.config)
    assert.is_nil(reference.parse("{vault://env/test}").config)
  end)

  it("is refused in Kong's words", function()
    for text, why in pairs({
      ["x"] = "not a reference [x]",
      ["{vault://env}"] = "reference url is missing path [{vault://env}]",
      ["{vault://env/}"] = "reference url has empty path [{vault://env/}]",
      ["{vault://env//}"] = "reference url has invalid path [{vault://env//}]",
      ["{vault://env/x#}"] = "reference url has invalid version [{vault://env/x#}]",
      ["{vault://env/x#1x}"] = "reference url has invalid version [{vault://env/x#1x}]",
      ["{vault:///x}"] = "reference url is missing host [{vault:///x}]",
    }) do
      local ref, err = reference.parse(text)
      assert.is_nil(ref)
      assert.equal(why, err)
    end
    assert.equal("not a reference [nil]", select(2, reference.parse(nil)))
  end)
end)
