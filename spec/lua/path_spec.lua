-- Paths: the normal form, and what routes may say.

require("native")
local path = require("weir.path")

describe("weir.path", function()
  it("normalizes", function()
    for given, wanted in pairs({
      ["/"] = "/", ["/a"] = "/a", ["/a/"] = "/a/", ["//a//b"] = "/a/b",
      ["/%61%2f%7e%3a"] = "/a%2F~%3A", ["/a/./b"] = "/a/b", ["/a/../b"] = "/b",
      ["/../.."] = "/",
      ["/../../a"] = "/a", ["/a/.."] = "/", ["/a/."] = "/a/", ["/a/b/../"] = "/a/",
      ["/a/%2e%2e/b"] = "/b", ["/a/...//b"] = "/a/.../b", ["/a%zz"] = "/a%zz",
    }) do
      assert.equal(wanted, path.normalize(given), given)
    end
  end)

  it("is not changed by normalizing twice", function()
    for _, given in ipairs({ "//a/%2E%2e/./b", "/%25%32%65", "/a/..//../b/%41" }) do
      local once = path.normalize(given)
      assert.equal(once, path.normalize(once))
    end
  end)

  local function refused(given, message)
    local ok, err = path.check_router_path(given)
    assert.is_nil(ok)
    assert.equal(message, err)
  end

  it("checks a route's path", function()
    assert.is_true(path.check_router_path("/a/b"))
    assert.is_true(path.check_router_path("~/u/(?<id>\\d+)$"))
    refused("/a//b", "must not have empty segments")
    refused("/a/../b", "non-normalized path, consider use '/b' instead")
    refused("/a b",
      "invalid path: '/a b' (characters outside of the reserved list of RFC 3986 found)")
    refused("/a%2", "invalid url-encoded value: '%2'")
    refused("~/(", "invalid regex: '/(' (PCRE returned: missing closing parenthesis at offset 2)")
  end)
end)
