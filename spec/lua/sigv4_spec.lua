-- Signature Version 4, against what AWS has published: the cases of its test
-- suite, and the examples of the IAM User Guide and of Amazon S3's API reference.

require("native")
local sigv4 = require("weir.cloud.aws.sigv4")

local credentials = {
  access_key_id = "AKIDEXAMPLE",
  secret_access_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
}

-- 2015-08-30T12:36:00Z
local suite = { time = 1440938160, region = "us-east-1", service = "service" }

local function authorization(case, credentials_of, options)
  local request = {
    method = case[1], url = "https://" .. (case.host or "example.amazonaws.com") .. case[2],
    params = case.params, headers = {}, body = case.body,
  }
  for name, value in pairs(case.headers or {}) do
    request.headers[name] = value
  end
  assert(sigv4.sign(request, credentials_of or credentials, options or suite))
  return request.headers.authorization, request
end

local FORM = "application/x-www-form-urlencoded"
local VANILLA = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
local UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

local cases = {
  ["get-vanilla"] = { "GET", "/", VANILLA },
  ["get-vanilla-empty-query-key"] = { "GET", "/", params = { Param1 = "value1" },
    "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb" },
  ["get-vanilla-query-order-key-case"] = { "GET", "/",
    params = { Param2 = "value2", Param1 = "value1" },
    "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500" },
  ["get-vanilla-query-order-key"] = { "GET", "/", params = { Param1 = { "value2", "Value1" } },
    "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1" },
  ["get-vanilla-query-order-value"] = { "GET", "/", params = { Param1 = { "value2", "value1" } },
    "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694" },
  ["get-vanilla-query-unreserved"] = { "GET", "/", params = { [UNRESERVED] = UNRESERVED },
    "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197" },
  ["get-vanilla-utf8-query"] = { "GET", "/", params = { ["\225\136\180"] = "bar" },
    "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04" },
  ["get-unreserved"] = { "GET", "/" .. UNRESERVED,
    "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f" },
  ["get-utf8"] = { "GET", "/\225\136\180",
    "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85" },
  ["get-header-key-duplicate"] = { "GET", "/",
    headers = { ["My-Header1"] = { "value2", "value2", "value1" } },
    "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea" },
  ["get-header-value-order"] = { "GET", "/",
    headers = { ["My-Header1"] = { "value4", "value1", "value3", "value2" } },
    "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01" },
  ["get-header-value-trim"] = { "GET", "/",
    headers = { ["My-Header1"] = " value1", ["My-Header2"] = ' "a   b   c"' },
    "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736" },
  ["get-relative"] = { "GET", "/example/..", VANILLA },
  ["get-relative-relative"] = { "GET", "/example1/example2/../..", VANILLA },
  ["get-slash"] = { "GET", "//", VANILLA },
  ["get-slash-dot-slash"] = { "GET", "/./", VANILLA },
  ["get-slash-pointless-dot"] = { "GET", "/./example",
    "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5" },
  ["get-slashes"] = { "GET", "//example//",
    "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84" },
  ["get-space"] = { "GET", "/example space/",
    "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741" },
  ["post-vanilla"] = { "POST", "/",
    "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b" },
  ["post-vanilla-query"] = { "POST", "/", params = { Param1 = "value1" },
    "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11" },
  ["post-header-key-sort"] = { "POST", "/", headers = { ["My-Header1"] = "value1" },
    "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c" },
  ["post-header-value-case"] = { "POST", "/", headers = { ["My-Header1"] = "VALUE1" },
    "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d" },
  ["post-x-www-form-urlencoded"] = { "POST", "/", headers = { ["Content-Type"] = FORM },
    body = "Param1=value1",
    "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a" },
  ["post-x-www-form-urlencoded-parameters"] = { "POST", "/",
    headers = { ["Content-Type"] = FORM .. "; charset=utf8" }, body = "Param1=value1",
    "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe" },
}

local STS_TOKEN = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwA"
  .. "eMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8p"
  .. "hUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT"
  .. "38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabI"
  .. "Qwj2ICCR/oLxBA=="

describe("weir.cloud.aws.sigv4", function()
  for name, case in pairs(cases) do
    it("signs " .. name .. " of AWS's test suite", function()
      local text = authorization(case)
      assert.equal(case[3], text:match("Signature=(%x+)$"))
    end)
  end

  it("writes the Authorization field as the test suite does", function()
    assert.equal("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
      .. "SignedHeaders=host;x-amz-date, Signature=" .. VANILLA, (authorization({ "GET", "/" })))
  end)

  it("signs post-sts-header-before of AWS's test suite", function()
    local text, request = authorization({ "POST", "/" }, {
      access_key_id = credentials.access_key_id,
      secret_access_key = credentials.secret_access_key, session_token = STS_TOKEN,
    })
    assert.equal(STS_TOKEN, request.headers["x-amz-security-token"])
    assert.equal("85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
      text:match("Signature=(%x+)$"))
  end)

  it("signs the IAM User Guide's request to ListUsers", function()
    local text = authorization({ "GET", "/", host = "iam.amazonaws.com",
      headers = { ["Content-Type"] = FORM .. "; charset=utf-8" },
      params = { Action = "ListUsers", Version = "2010-05-08" } }, nil,
      { time = 1440938160, region = "us-east-1", service = "iam" })
    assert.equal("5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
      text:match("Signature=(%x+)$"))
  end)

  it("presigns the example of S3's API reference", function()
    local url = sigv4.presign({ url = "https://examplebucket.s3.amazonaws.com/test.txt" }, {
      access_key_id = "AKIAIOSFODNN7EXAMPLE",
      secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    }, { time = 1369353600, region = "us-east-1", service = "s3", expires_s = 86400,
         payload = "UNSIGNED-PAYLOAD" })
    assert.equal("https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
      .. "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
      .. "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
      .. "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", url)
  end)

  it("leaves the scheme's own port out of Host", function()
    local function host(url)
      local request = { url = url, headers = {} }
      assert(sigv4.sign(request, credentials, suite))
      return request.headers.host
    end
    assert.equal("a.example", host("https://a.example:443/x"))
    assert.equal("a.example", host("http://a.example:80"))
    assert.equal("a.example:443", host("http://a.example:443"))
    assert.equal("[::1]:4566", host("http://[::1]:4566/"))
  end)

  it("refuses what is no plain URL", function()
    for _, url in ipairs({ "", "ftp://a/", "https://", "https://a/?b=c", "a.example" }) do
      assert.is_nil((sigv4.sign({ url = url, headers = {} }, credentials, suite)), url)
      assert.is_nil((sigv4.presign({ url = url }, credentials, suite)), url)
    end
  end)
end)
