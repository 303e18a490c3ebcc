-- What a cloud lends: how long it is given, and how often it is looked up.

local answers = require("answers")
local leases = require("weir.cloud.leases")

describe("weir.cloud.leases", function()
  local kept, asked, gives

  before_each(function()
    kept, asked, gives = leases.new(), 0, nil
  end)

  local function get(fresh)
    return kept:get("key", function()
      asked = asked + 1
      if gives then
        return gives .. asked, nil, answers.steady() + 600
      end
      return nil, "nobody answers"
    end, fresh)
  end

  it("gives one until shortly before its end", function()
    gives = "a"
    assert.equal("a1", get())
    answers.advance(449)
    assert.equal("a1", get())
    answers.advance(1)
    assert.equal("a2", get())
  end)

  it("gives none that has ended, however short ago its renewal failed", function()
    gives = "a"
    get()
    gives = nil
    answers.advance(590)
    assert.equal("a1", get())
    answers.advance(9)
    assert.equal("a1", get())
    assert.equal(2, asked)
    answers.advance(1)
    assert.same({ nil, "nobody answers" }, { get() })
  end)

  it("gives none for longer because the clock is set back, nor waits longer", function()
    gives = "a"
    get()
    answers.step(-3600)
    answers.advance(600)
    assert.equal("a2", get())
    gives = nil
    answers.advance(600)
    get()
    answers.step(-3600)
    answers.advance(1)
    gives = "a"
    assert.equal("a4", get())
  end)

  it("replaces one that is refused once, not for each who is refused", function()
    gives = "a"
    get()
    for _ = 1, 100 do
      assert.equal("a2", get(true))
    end
    answers.advance(15)
    assert.equal("a3", get(true))
    assert.equal(3, asked)
  end)

  it("asks once a second where it is given none, not for each who asks", function()
    for n = 1, 3 do
      for _ = 1, 100 do
        assert.same({ nil, "nobody answers" }, { get() })
      end
      assert.equal(n, asked)
      answers.advance(1)
    end
    gives = "a"
    assert.equal("a4", get())
    gives = nil
    for _ = 1, 100 do
      assert.same({ nil, "nobody answers" }, { get(true) })
    end
    assert.equal(5, asked)
  end)

  it("leaves one that cannot be replaced to those whom nobody refuses", function()
    gives = "a"
    get()
    gives = nil
    assert.same({ nil, "nobody answers" }, { get(true) })
    assert.equal("a1", get())
    answers.advance(1)
    gives = "a"
    assert.equal("a3", get(true))
    assert.equal("a3", get())
  end)
end)
