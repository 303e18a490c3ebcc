-- The path that a service is asked for: every row of the table of
-- path_handling, and the examples that tell v0 from v1.

local build = require("weir.upstream_path").build

local function join(base, prefix, path, strip, version)
  return build({ path = base }, { path_handling = version or "v0" },
    { prefix = prefix, strip = strip }, path)
end

describe("upstream path, v0", function()
  local rows = {
    -- base, prefix, path, strip, wanted
    -- base ends with a slash, not stripped
    { "/", "/a", "/a/b", false, "/a/b" },
    { "/s/", "/a", "/a/b", false, "/s/a/b" },
    { "/s/", "/", "/", false, "/s/" },
    -- base ends with a slash, stripped, nothing left
    { "/", "/a", "/a", true, "/" },
    { "/", "/a/", "/a/", true, "/" },
    { "/s/", "/a/", "/a/", true, "/s/" },
    { "/s/", "/a", "/a", true, "/s" },
    { "/s/", "/", "/", true, "/s/" },
    -- base ends with a slash, stripped, the rest begins with one
    { "/", "/a", "/a/b", true, "/b" },
    { "/s/", "/a", "/a/b", true, "/s/b" },
    { "/s/", "/a", "/a/", true, "/s/" },
    -- base ends with a slash, stripped, the rest begins without
    { "/", "/rou", "/route", true, "/te" },
    { "/s/", "/rou", "/route", true, "/s/te" },
    { "/s/", "/a/", "/a/b", true, "/s/b" },
    -- base ends without a slash, not stripped
    { "/s", "/", "/", false, "/s" },
    { "/s", "/a", "/a/b", false, "/s/a/b" },
    { "/s", "/a", "/a/", false, "/s/a/" },
    -- base ends without a slash, stripped, nothing left
    { "/s", "/a", "/a", true, "/s" },
    { "/s", "/a/", "/a/", true, "/s/" },
    { "/s", "/", "/", true, "/s" },
    -- base ends without a slash, stripped, the rest begins with one
    { "/s", "/a", "/a/b", true, "/s/b" },
    { "/s", "/a", "/a/", true, "/s/" },
    -- base ends without a slash, stripped, the rest begins without
    { "/srv", "/rou", "/roureq", true, "/srv/req" },
    { "/s", "/a/", "/a/b", true, "/s/b" },
    { "/srv", "/rou", "/roureq", false, "/srv/roureq" },
    -- what is left must not climb
    { "/s", "/a", "/a..", true, "/s" },
    { "/s", "/a", "/a.", true, "/s" },
    { "/s", "/a", "/a../b", true, "/s/b" },
    { "/s", "/a", "/a./b", true, "/s/b" },
    { "/s", "/a", "/a.b", true, "/s/.b" },
    -- no path matched
    { nil, nil, "/a/b", true, "/a/b" },
    { "/s", nil, "/a", true, "/s/a" },
    { "/s/", nil, "/", true, "/s/" },
    -- no base
    { nil, "/a", "/a/b", true, "/b" },
    { nil, "/a", "/a", true, "/" },
  }
  for i, row in ipairs(rows) do
    it(("%d: %s + %s"):format(i, tostring(row[1]), row[3]), function()
      assert.equal(row[5], join(row[1], row[2], row[3], row[4]))
    end)
  end
end)

describe("upstream path, v1", function()
  local rows = {
    { "/srv", "/rou", "/roureq", true, "/srvreq" },
    { "/srv", "/rou", "/roureq", false, "/srvroureq" },
    { "/srv/", "/a", "/a/b", true, "/srv/b" },
    { "/srv/", "/a", "/a/b", false, "/srv/a/b" },
    { "/srv", "/a", "/a/b", true, "/srv/b" },
    { "/", "/a", "/a", true, "/" },
    { nil, "/a", "/a/b", true, "/b" },
    { "/srv/", nil, "/a", true, "/srv/a" },
    -- what is left must not climb out of the service's path
    { "/srv/", "/a", "/a../secret", true, "/srv/secret" },
    { "/srv/", "/a", "/a.", true, "/srv/" },
    { "/srv", "/a", "/a../b", true, "/srv../b" },
  }
  for i, row in ipairs(rows) do
    it(("%d: %s + %s"):format(i, tostring(row[1]), row[3]), function()
      assert.equal(row[5], join(row[1], row[2], row[3], row[4], "v1"))
    end)
  end
end)
