-- Moments as clouds write them, against what date(1) says of the same.

require("native")
local dates = require("weir.cloud.dates")

describe("weir.cloud.dates", function()
  it("reads RFC 3339", function()
    for text, seconds in pairs({
      ["1970-01-01T00:00:00Z"] = 0, ["2000-02-29T12:00:00Z"] = 951825600,
      ["2000-03-01T00:00:00.123456Z"] = 951868800, ["2015-08-30T12:36:00Z"] = 1440938160,
      ["2026-12-31T23:59:59Z"] = 1798761599, ["2100-03-01T00:00:00Z"] = 4107542400,
    }) do
      assert.equal(seconds, dates.from_rfc3339(text), text)
    end
  end)

  it("agrees with os.date day by day", function()
    for day = 0, 60000 do
      local text = os.date("!%Y-%m-%dT%H:%M:%SZ", day * 86400 + 1)
      assert(dates.from_rfc3339(text) == day * 86400 + 1, text)
    end
  end)

  it("reads the Date field of HTTP", function()
    assert.equal(784111777, dates.from_http("Sun, 06 Nov 1994 08:49:37 GMT"))
  end)

  it("refuses what is neither", function()
    for _, text in ipairs({ "", "2015-08-30", "2015-13-30T12:36:00Z", "2015-08-30T12:36:00+02:00",
                            "Sun, 06 Abc 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT" }) do
      assert.is_nil(dates.from_rfc3339(text))
      assert.is_nil(dates.from_http(text))
    end
  end)
end)
