-- How the costs in the service's header are read.
local costs = dofile("plugins/response-ratelimiting/costs.lua")

local KNOWN = { video = {}, image = {} }

-- What a value costs, how many of its entries cost nothing, and what is said of the first.
local function read(text, found)
  found = found or {}
  local bad, said = costs.read(text, KNOWN, found)
  return found, bad, said
end

describe("response-ratelimiting: costs", function()
  it("reads one and several", function()
    assert.same({ video = 2 }, (read("video=2")))
    assert.same({ video = 2, image = 3 }, (read("video=2, image=3")))
    assert.same({ video = 2, image = 3 }, (read(" \tvideo = 2\t,image=  3 ")))
    assert.same({ video = 0 }, (read("video=0")))
    assert.same({ video = 7 }, (read("video=007")))
  end)

  it("adds up those of one limit", function()
    assert.same({ video = 6, image = 1 }, (read("video=1,video=2,image=1,video=3")))
    assert.same({ video = -1 }, (read("video=1,video=-2")))
    local found = read("video=1")
    assert.same({ video = 3 }, (read("video=2", found)))
  end)

  it("finds nothing in nothing", function()
    for _, text in ipairs({ "", " ", ",", " , ,," }) do
      local found, bad, said = read(text)
      assert.same({}, found)
      assert.equal(0, bad)
      assert.is_nil(said)
    end
  end)

  it("says why an entry is no cost", function()
    for text, why in pairs({
      ["video"] = '"video" (it has no value)',
      ["video="] = '"video=" (it is not a whole number)',
      ["video=-"] = '"video=-" (it is not a whole number)',
      ["video=1.5"] = '"video=1.5" (it is not a whole number)',
      ["video=1e3"] = '"video=1e3" (it is not a whole number)',
      ["video=0x10"] = '"video=0x10" (it is not a whole number)',
      ["video=+1"] = '"video=+1" (it is not a whole number)',
      ["video=nan"] = '"video=nan" (it is not a whole number)',
      ["video=1=2"] = '"video=1=2" (it is not a whole number)',
      ["video=1 2"] = '"video=1 2" (it is not a whole number)',
      ["Video=1"] = '"Video=1" (there is no such limit)',
      ["=1"] = '"=1" (there is no such limit)',
      ["video=1000000000001"] = '"video=1000000000001" (it is too large)',
      ["video=-99999999999999999999"] = '"video=-99999999999999999999" (it is too large)',
      ['a"\\\1\200=1'] = '"a\\x22\\x5c\\x01\\xc8=1" (there is no such limit)',
    }) do
      local found, bad, said = read(text .. ", image=1")
      assert.same({ image = 1 }, found)
      assert.equal(1, bad)
      assert.equal(why, said)
    end
  end)

  it("tells of the first of several", function()
    local found, bad, said = read("a=1,video=x,video=1")
    assert.same({ video = 1 }, found)
    assert.equal(2, bad)
    assert.equal('"a=1" (there is no such limit)', said)
  end)

  it("keeps its word short", function()
    local _, bad, said = read(("\1"):rep(70000))
    assert.equal(1, bad)
    assert.equal('"' .. ("\\x01"):rep(60) .. '"... (it has no value)', said)
  end)

  it("takes no more than can be counted", function()
    assert.same({ video = 1000000000000 }, (read("video=1000000000000,video=1000000000000")))
    assert.same({ video = -1000000000000 }, (read(("video=-1000000000000,"):rep(9))))
  end)

  it("takes time that grows with the length alone", function()
    local n = 1000000
    local begun = os.clock()
    for _, text in ipairs({ "video=" .. ("0"):rep(n) .. "x", (" "):rep(n) .. "x",
                            "x" .. (" "):rep(n) .. "=", ("a "):rep(n), ("video=1,"):rep(n / 8),
                            "video=" .. ("9"):rep(n), "video=1" .. (" \t"):rep(n / 2) .. "1" }) do
      read(text)
    end
    assert.is_true(os.clock() - begun < 10)
  end)
end)
