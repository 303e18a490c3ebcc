-- UUIDs, against RFC 4122's own example.

require("native")
local uuid = require("weir.uuid")

describe("weir.uuid", function()
  it("derives version 5 from namespace and name", function()
    assert.equal("2ed6657d-e927-568b-95e1-2665a8aea6a2",
      uuid.v5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com"))
  end)

  it("makes random ones of version 4", function()
    local seen = {}
    for _ = 1, 100 do
      local id = uuid.v4()
      assert.is_true(uuid.is_valid(id))
      assert.matches("^........%-....%-4...%-[89ab]", id)
      assert.is_nil(seen[id])
      seen[id] = true
    end
  end)

  it("knows one when it sees it", function()
    assert.is_false(uuid.is_valid("2ed6657d"))
    assert.is_false(uuid.is_valid("2ed6657de927568b95e12665a8aea6a2----"))
    assert.is_false(uuid.is_valid(5))
  end)
end)
