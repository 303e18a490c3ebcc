-- JSON: what cjson loses must stay.

local json = require("weir.json")

describe("weir.json", function()
  local function round(text)
    return json.encode(assert(json.decode(text)))
  end

  it("keeps empty arrays apart from empty objects", function()
    assert.equal('[]', round('[]'))
    assert.equal('{}', round('{}'))
    assert.equal('[[],{}]', round('[ [ ] , { } ]'))
    assert.equal('{"a":[]}', round('{"a":[\n]}'))
    assert.equal("[]", json.encode(json.empty_array))
  end)

  it("leaves brackets inside of strings alone", function()
    for _, text in ipairs({ '["[]",[]]', '["\\"[]",[]]', '["\\\\",[]]', '["a\\\\\\"[]",[]]',
      '["empty array",[]]', '[["empty array"],[]]', '{"[]":[]}' }) do
      assert.equal(text, round(text))
    end
  end)

  it("writes integers exactly up to 2^53", function()
    assert.equal("[9007199254740991,-9007199254740992,0]",
      round("[9007199254740991,-9007199254740992,0]"))
    assert.equal("[1532000000000000]", json.encode({ 1532e12 }))
  end)

  it("writes decimals in the fewest digits that read back the same", function()
    assert.equal("[0.1,1.5,0.30000000000000004,1e+300]",
      json.encode({ 0.1, 1.5, 0.1 + 0.2, 1e300 }))
    for _ = 1, 1000 do
      local n = math.random() * 10 ^ math.random(-20, 20)
      assert.equal(n, json.decode(json.encode({ n }))[1])
    end
  end)

  it("escapes what JSON asks for, and no slash", function()
    assert.equal('["a\\"b\\\\c\\n\\u0001/é"]', json.encode({ 'a"b\\c\n\1/é' }))
    assert.same({ "/é\n" }, json.decode('["\\/\\u00e9\\n"]'))
  end)

  it("keeps null", function()
    assert.equal(json.null, json.decode('{"a":null}').a)
    assert.equal('{"a":null}', json.encode({ a = json.null }))
  end)

  it("says what it cannot read", function()
    for _, text in ipairs({ "", "[", "{]", "[NaN]", "[0x10]", "[1,]", '"a', "[1] 2", '["a]',
      "[]]" }) do
      local value, err = json.decode(text)
      assert.is_nil(value, text)
      assert.is_string(err)
    end
    assert.is_nil((json.decode(("["):rep(300) .. ("]"):rep(300))))
  end)

  it("says what it cannot write", function()
    local loop = {}
    loop[1] = loop
    for _, value in ipairs({ { 0 / 0 }, { math.huge }, { print }, loop, { [true] = 1 } }) do
      local text, err = json.encode(value)
      assert.is_nil(text)
      assert.is_string(err)
    end
  end)

  it("refuses to decode what is no text", function()
    assert.has_error(function()
      json.decode(5)
    end)
  end)
end)
