-- Digests and codings, against the examples of RFC 4231, RFC 4648 and FIPS 180.

require("native")
local crypto = require("weir.crypto")

describe("weir.crypto", function()
  it("computes SHA-256", function()
    assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      crypto.hex(crypto.sha256("")))
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      crypto.hex(crypto.sha256("abc")))
  end)

  it("computes HMAC-SHA-256", function()
    local function hmac(key, bytes)
      return crypto.hex(crypto.hmac_sha256(key, bytes))
    end
    assert.equal("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
      hmac(("\11"):rep(20), "Hi There"))
    assert.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      hmac("Jefe", "what do ya want for nothing?"))
    assert.equal("773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
      hmac(("\170"):rep(20), ("\221"):rep(50)))
    assert.equal("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
      hmac(("\170"):rep(131), "Test Using Larger Than Block-Size Key - Hash Key First"))
    assert.equal("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad", hmac("", ""))
  end)

  it("writes and reads base64", function()
    local examples = { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==",
                       fooba = "Zm9vYmE=", foobar = "Zm9vYmFy", ["\0"] = "AA==" }
    for bytes, text in pairs(examples) do
      assert.equal(text, crypto.base64(bytes))
      assert.equal(bytes, crypto.unbase64(text))
      assert.equal(bytes, crypto.unbase64((text:gsub("=", ""))))
    end
    assert.equal("foobar", crypto.unbase64("Zm9v\r\nYmFy\n"))
    local all = {}
    for code = 0, 255 do
      all[#all + 1] = string.char(code)
    end
    all = table.concat(all)
    assert.equal(all, crypto.unbase64(crypto.base64(all)))
  end)

  it("refuses what is not base64", function()
    for _, text in ipairs({ "Z", "Zg=", "Z===", "====", "=", "Zg==Zg==", "Zm9*", "Zm9-", "Zm9\0",
                            "Z=9v" }) do
      assert.is_nil(crypto.unbase64(text), text)
    end
  end)

  it("writes base64 for URLs", function()
    assert.equal("-_8", crypto.base64url("\251\255"))
    assert.equal("Zg", crypto.base64url("f"))
  end)

  it("compares", function()
    assert.is_true(crypto.equal("", ""))
    assert.is_true(crypto.equal("a\0b", "a\0b"))
    assert.is_false(crypto.equal("a\0b", "a\0c"))
    assert.is_false(crypto.equal("a", "ab"))
  end)

  it("makes one digest of several texts", function()
    local seen = {}
    for _, texts in ipairs({ {}, { "" }, { "-" }, { "a", "b" }, { "ab" }, { "a,1:b" }, { "b", "a" },
                             { "1:a" }, { n = 1 }, { "a", nil, "b", n = 3 }, { "a", "b", n = 3 },
                             { true } }) do
      local digest = crypto.digest(unpack(texts, 1, texts.n or #texts))
      assert.equal(32, #digest)
      assert.is_nil(seen[digest])
      seen[digest] = true
    end
    assert.equal(crypto.digest("a", nil, 5), crypto.digest("a", nil, "5"))
  end)
end)
