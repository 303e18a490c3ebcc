-- Addresses and sets of CIDR blocks.
local ip = require "weir.ip"

local GOOD = {
  "0.0.0.0", "255.255.255.255", "192.0.2.1", "::", "::1", "1::", "2001:db8::1",
  "1:2:3:4:5:6:7:8", "::ffff:192.0.2.1", "1:2:3:4:5:6:192.0.2.1", "[2001:DB8::1]",
}
local BAD = {
  "", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.4 ", "a.b.c.d", "1.2.3.-4", ":", ":::",
  "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::8:9", "::12345", "::g", ":1",
  "1:", "[::1", "::1]", "[1.2.3.4", "1.2.3.4::", "::1.2.3.4:1", "fe80::1%eth0", "::1/128",
  ("1"):rep(100), ("::1"):rep(1000),
}

describe("ip", function()
  it("knows an address", function()
    for _, text in ipairs(GOOD) do
      assert.is_true(ip.is_address(text), text)
    end
    for _, text in ipairs(BAD) do
      assert.is_false(ip.is_address(text), text)
    end
  end)

  it("finds addresses in blocks", function()
    local set = assert(ip.new_set({ "10.0.0.0/8", "192.0.2.7", "2001:db8::/33", "::1" }))
    for text, is_in in pairs({
      ["10.0.0.0"] = true, ["10.255.255.255"] = true, ["11.0.0.0"] = false,
      ["9.255.255.255"] = false, ["192.0.2.7"] = true, ["192.0.2.6"] = false,
      ["2001:db8:7fff::1"] = true, ["2001:db8:8000::1"] = false, ["::1"] = true, ["::"] = false,
      ["::ffff:10.1.2.3"] = true, ["unix:"] = false, ["nonsense"] = false, [""] = false,
    }) do
      assert.equal(is_in, set:contains(text), text)
      assert.equal(is_in, set:contains(text), text .. ", asked again")
    end
  end)

  it("knows every prefix length", function()
    for bits = 0, 32 do
      local set = assert(ip.new_set({ "255.255.255.255/" .. bits }))
      assert.equal(bits == 0, set:contains("0.0.0.0"))
      assert.is_true(set:contains("255.255.255.255"))
      assert.equal(bits < 32, set:contains("255.255.255.254"))
    end
    for bits = 1, 128 do
      local set = assert(ip.new_set({ "8000::/" .. bits }))
      assert.is_true(set:contains("8000::"))
      assert.is_false(set:contains("::"))
      assert.equal(bits < 128, set:contains("8000::1"))
    end
  end)

  it("holds everything in a block of length 0", function()
    assert.is_true(assert(ip.new_set({ "0.0.0.0/0" })):contains("203.0.113.1"))
    assert.is_false(assert(ip.new_set({ "0.0.0.0/0" })):contains("2001:db8::1"))
    assert.is_true(assert(ip.new_set({ "::/0" })):contains("2001:db8::1"))
  end)

  it("lets unix: stand for peers without an address", function()
    assert.is_true(assert(ip.new_set({ "unix:" })):contains("unix:"))
    assert.is_false(assert(ip.new_set({ "unix:" })):contains("127.0.0.1"))
    assert.is_false(assert(ip.new_set({})):contains("127.0.0.1"))
  end)

  it("keeps its memory of answers bounded", function()
    local set = assert(ip.new_set({ "10.0.0.0/8" }))
    for i = 1, 5000 do
      set:contains("10.0." .. i % 256 .. "." .. math.floor(i / 256))
    end
    assert.is_true(set.seen_count <= 1024)
  end)

  it("refuses what is no block", function()
    for _, text in ipairs({ "10.0.0.0/33", "::/129", "10.0.0.0/", "/8", "x/8", "10.0.0.0/8/8" }) do
      local set, err = ip.new_set({ "127.0.0.1", text })
      assert.is_nil(set)
      assert.equal("invalid ip or cidr range: '" .. text .. "'", err)
    end
  end)

  it("splits a port off", function()
    local function check(text, address, port)
      local got_address, got_port = ip.split_port(text)
      assert.equal(address, got_address)
      assert.equal(port, got_port)
    end
    check("192.0.2.1", "192.0.2.1", nil)
    check("192.0.2.1:80", "192.0.2.1", 80)
    check("[::1]:8080", "::1", 8080)
    check("[::1]", "::1", nil)
    check("2001:db8::1", "2001:db8::1", nil)
    check("192.0.2.1:99999", "192.0.2.1", nil)
    check("unknown", nil, nil)
    check("192.0.2.1:http", nil, nil)
  end)
end)
