-- Signed tokens, against the example of RFC 7515, appendix A.2, and read by the openssl program.

require("native")
local crypto = require("weir.crypto")
local json = require("weir.json")
local jwt = require("weir.jwt")

-- The key of RFC 7515, A.2.1, as PKCS#1; published there, it protects nothing.
local RFC_KEY = [[
-----BEGIN RSA PRIVATE KEY-----
MIIEowIBAAKCAQEAofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd/wWJcyQoTbji9k0
l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL+yRT+SFd2lZS+pC
gNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb/7OMg0LOL+bSf63kpaSHSX
ndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uD
Zlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxXFvUK+DWNmoudF8NAco9/h9iaGNj8
q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQIDAQABAoIBABKucaRpzQorw35S
bEUAVx8dYXUdZOlJcHtiWQ+dC6V8ljxAHj/PLyzTveyI5QO/xkObCyjIL303l2cf
UhPu2MFaJdjVzqACXuOrLot/eSFvxjvqVidTtAZExqFRJ9mylUVAoLvhowVWmC1O
n95fZCXxTUtxNEG1Xcc7m0rtzJKs45J+N/V9DP1edYH6USyPSWGp6wuA+KgHRnKK
Vf9GRx80JQY7nVNkL17eHoTWEwga+lwi0FEoW9Y7lDtWXYmKBWhUE+U8PGxlJf8f
40493HDw1WRQ/aSLoS4QTp3rn7gYgeHEvfJdkkf0UMhlknlo53M09EFPdadQ4TlU
bjqKc50CgYEA4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH/5IB3jw3bcxGn6QLvnE
tfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw/Py5PJdTJNPY8cQn7ouZ2KKDcmnPG
BY5t7yLc1QlQ5xHdwW1VhvKn+nXqhJTBgIPgtldC+KDV5z+y2XDwGUcCgYEAuQPE
fgmVtjL0Uyyx88GZFF1fOunH3+7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYs
p1ZSe7zFYHj7C6ul7TjeLQeZD/YwD66t62wDmpe/HlB+TnBA+njbglfIsRLtXlnD
zQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdcCgYAHAp9XcCSrn8wVkMVkKdb7
DOX4IKjzdahm+ctDAJN4O/y7OW5FKebvUjdAIt2GuoTZ71iTG+7F0F+lP88jtjP4
U4qe7VHoewl4MKOfXZKTe+YCS1XbNvfgwJ3Ltyl1OH9hWvu2yza7q+d5PCsDzqtm
27kxuvULVeya+TEdAB1ijQKBgQCH/3r6YrVH/uCWGy6bzV1nGNOdjKc9tmkfOJmN
54dxdixdpozCQ6U4OxZrsj3FcOhHBsqAHvX2uuYjagqvo3cOj1TRqNocX40omfCC
Mx3bD1yPPf/6TI2XECva/ggqEY2mYzmIiA5LVVmc5nrybr+lssFKneeyxN2Wq93S
0iJMdQKBgCGHewxzoa1r8ZMD0LETNrToK423K377UCYqXfg5XMclbrjPbEC3YI1Z
NqMtuhdBJqUnBi6tjKMF+34Xf0CUN8ncuXGO2CAYvO8PdyCixHX52ybaDjy1FtCE
6yUXjoKNXKvUm7MWGsAYH6f4IegOetN5NvmUMFStCSkh7ixZLkN1
-----END RSA PRIVATE KEY-----
]]

local RFC_INPUT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly"
  .. "9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

local RFC_SIGNATURE = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0"
  .. "Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6x"
  .. "BArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noO"
  .. "PqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"

local dir

local function run(command)
  local pipe = io.popen("cd " .. dir .. " && (" .. command .. ") 2>&1")
  local text = pipe:read("*a")
  pipe:close()
  return text
end

local function write(name, text)
  local file = assert(io.open(dir .. "/" .. name, "w"))
  file:write(text)
  file:close()
end

local function read(name)
  local file = assert(io.open(dir .. "/" .. name))
  local text = file:read("*a")
  file:close()
  return text
end

-- A key that the openssl program makes, as it writes it.
local function new_key(command)
  run(command .. " -out key.pem")
  return read("key.pem")
end

local function unbase64url(text)
  return crypto.unbase64((text:gsub("-", "+"):gsub("_", "/")))
end

describe("weir.jwt", function()
  setup(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(os.execute("mkdir -m 700 " .. dir) == 0)
  end)

  teardown(function()
    os.execute("rm -rf " .. dir)
  end)

  it("signs as the example of RFC 7515 shows", function()
    assert.equal(RFC_SIGNATURE, crypto.base64url(assert(crypto.sign_rs256(RFC_KEY, RFC_INPUT))))
  end)

  for _, bits in ipairs({ 2048, 4096 }) do
    it("signs with a PKCS#8 key of " .. bits .. " bits so that openssl agrees", function()
      local pem = new_key("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:" .. bits)
      assert.match("BEGIN PRIVATE KEY", pem)
      local token = assert(jwt.sign({ iss = "somebody", iat = 1300819380 }, pem, { kid = "k1" }))
      local head, claims, signature = token:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]+)$")
      assert.same({ alg = "RS256", typ = "JWT", kid = "k1" }, json.decode(unbase64url(head)))
      assert.same({ iss = "somebody", iat = 1300819380 }, json.decode(unbase64url(claims)))
      write("input", head .. "." .. claims)
      write("signature", unbase64url(signature))
      run("openssl pkey -in key.pem -pubout -out public.pem")
      local verify = "openssl dgst -sha256 -verify public.pem -signature signature input"
      assert.match("Verified OK", run(verify))
      write("input", head .. "." .. claims .. "x")
      assert.match("Verification [Ff]ailure", run(verify))
    end)
  end

  it("reads a key between other lines, and with the line ends of others", function()
    assert.truthy(crypto.sign_rs256("Bag Attributes\n" .. RFC_KEY .. "rest", RFC_INPUT))
    assert.truthy(crypto.sign_rs256(RFC_KEY:gsub("\n", "\r\n"), RFC_INPUT))
  end)

  it("says what is wrong with a key, and nothing of it", function()
    local rsa = "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:"
    local cases = {
      { "", "not a private key in PEM" },
      { "secret", "not a private key in PEM" },
      { RFC_KEY:gsub("MIIE", "AAAA"), "not a private key in PEM" },
      { RFC_KEY:sub(1, 800), "not a private key in PEM" },
      { ("x"):rep(65537), "the key is too long" },
      { new_key(rsa .. "1024"), "the RSA key has less than 2048 bits" },
      { new_key("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        "not an RSA key" },
      { new_key("openssl genpkey -algorithm ED25519"), "not an RSA key" },
      { new_key(rsa .. "2048 -aes128 -pass pass:word"), "the key needs a passphrase" },
    }
    for _, case in ipairs(cases) do
      local bytes, err = crypto.sign_rs256(case[1], "input")
      assert.is_nil(bytes)
      assert.equal(case[2], err)
    end
    local token, err = jwt.sign({}, "secret")
    assert.is_nil(token)
    assert.equal("not a private key in PEM", err)
  end)

  it("refuses claims that are none", function()
    assert.is_nil((jwt.sign({ at = 0 / 0 }, RFC_KEY)))
    assert.has_error(function()
      jwt.sign("claims", RFC_KEY)
    end)
  end)
end)
