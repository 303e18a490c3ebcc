-- Queries and bodies, to tables and back: what kong.request.get_query,
-- get_body and kong.service.request.set_body stand on.
local body = require "weir.pdk.body"
local query = require "weir.pdk.query"
local inspect = require "weir.pdk.inspect"

describe("query", function()
  it("reads arguments", function()
    for text, want in pairs({
      [""] = {},
      ["a=1"] = { a = "1" },
      ["a=1&a=2&a"] = { a = { "1", "2", true } },
      ["a&b="] = { a = true, b = "" },
      ["a=1=2"] = { a = "1=2" },
      ["a%20b=c+d%2B"] = { ["a b"] = "c d+" },
      ["&&a=1&&"] = { a = "1" },
      ["=x&a=1"] = { a = "1" },
      ["a=%zz%4"] = { a = "%zz%4" },
    }) do
      assert.same(want, (query.parse(text, 100)), text)
    end
  end)

  it("stops at the maximum and says so", function()
    local args, err = query.parse("a=1&b=2&c=3", 2)
    assert.same({ a = "1", b = "2" }, args)
    assert.equal("truncated", err)
    args, err = query.parse("a=1&b=2", 2)
    assert.same({ a = "1", b = "2" }, args)
    assert.is_nil(err)
  end)

  it("writes arguments sorted", function()
    assert.equal("bar=baz&bar=bla&bar&foo=hello%20world&zzz",
                 query.encode({ foo = "hello world", bar = { "baz", "bla", true }, zzz = true,
                                off = false }))
    assert.equal("a%26b=c%3Dd&n=1.5", query.encode({ ["a&b"] = "c=d", n = 1.5 }))
    assert.equal("", query.encode({}))
  end)

  it("refuses values that have no form", function()
    local text, err = query.encode({ a = print })
    assert.is_nil(text)
    assert.matches("^invalid value for argument 'a': got function", err)
    assert.is_nil(query.encode({ "x" }))
  end)

  it("takes an argument out and leaves the bytes of the others", function()
    assert.equal("a=%41&c", query.without("a=%41&b=1&c&b=2&%62", "b"))
    assert.equal("", query.without("b", "b"))
    assert.equal("a=1", query.without("a=1", "b"))
  end)

  it("gives the first of several", function()
    assert.equal("1", query.first("a=1&a=2", "a", 100))
    assert.is_true(query.first("a", "a", 100))
    assert.is_nil(query.first("a", "b", 100))
  end)
end)

local MULTIPART = "multipart/form-data; boundary=XX"

describe("body", function()
  it("reads a form", function()
    local got, err, mime = body.decode("a=1&b", "application/x-www-form-urlencoded; charset=x", 10)
    assert.same({ a = "1", b = true }, got)
    assert.is_nil(err)
    assert.equal("application/x-www-form-urlencoded", mime)
  end)

  it("reads JSON and keeps empty arrays", function()
    local got, _, mime = body.decode('{"a":[],"b":{}}', "Application/JSON")
    assert.equal("[]", (body.encode(got.a, "application/json")))
    assert.equal("{}", (body.encode(got.b, "application/json")))
    assert.equal("application/json", mime)
    for _, text in ipairs({ "", "{", "17", '"x"' }) do
      local bad, err = body.decode(text, "application/json")
      assert.is_nil(bad)
      assert.equal("invalid json body", err)
    end
  end)

  it("reads a multipart form", function()
    local text = '--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n' ..
                 '--XX\r\ncontent-disposition: form-data; filename="f"; name=b\r\n' ..
                 'Content-Type: text/plain\r\n\r\ntwo\r\n\r\nlines\r\n--XX--\r\n'
    local got, _, mime = body.decode(text, MULTIPART)
    assert.same({ a = "one", b = "two\r\n\r\nlines" }, got)
    assert.equal("multipart/form-data", mime)
    assert.same({ a = "" }, body.decode(
      '--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n--XX--', MULTIPART))
  end)

  it("has all values of a multipart form's name", function()
    local args = { a = { "1", "2", "3" }, b = "4" }
    local text, content_type = body.encode(args, "multipart/form-data")
    assert.same(args, (body.decode(text, content_type)))
  end)

  it("refuses values that a multipart form has no place for", function()
    for _, args in ipairs({ { a = { {} } }, { a = { { "x" } } }, { a = print } }) do
      local text, err = body.encode(args, "multipart/form-data")
      assert.is_nil(text)
      assert.matches('^invalid value "a": got %a+, expected string, number or boolean$', err)
    end
    assert.equal('invalid key "1": got number, expected string',
                 (select(2, body.encode({ "x" }, "multipart/form-data"))))
  end)

  it("refuses a broken multipart form", function()
    for _, text in ipairs({ "--XX\r\n", "--XX", "--XX\r\nContent-Disposition: x\r\n\r\nno end",
                            ("--XX\r\n\r\nx\r\n"):rep(2000) }) do
      local got, err = body.decode(text, MULTIPART)
      assert.is_nil(got)
      assert.equal("invalid multipart body", err)
    end
    assert.is_nil((body.decode("x", "multipart/form-data")))
  end)

  it("names what it cannot read", function()
    local got, err, mime = body.decode("x", "text/csv")
    assert.is_nil(got)
    assert.equal("unsupported content type 'text/csv'", err)
    assert.equal("text/csv", mime)
    assert.equal("missing content type", (select(2, body.decode("x", nil))))
  end)

  it("writes what it reads", function()
    local args = { a = "one", b = 'two "quoted"\r\nlines --weir-boundary' }
    for _, mime in ipairs({ "application/json", "application/x-www-form-urlencoded",
                            "multipart/form-data", MULTIPART }) do
      local text, content_type = body.encode(args, mime)
      assert.matches("^" .. mime:match("^[^;]+"):gsub("[-.]", "%%%0"), content_type)
      assert.same(args, (body.decode(text, content_type, 100)))
    end
    assert.is_nil((body.encode(args, "text/csv")))
  end)
end)

describe("inspect", function()
  it("shows values with their fields sorted", function()
    assert.equal('"a\\\nb"', inspect("a\nb"))
    assert.equal("{}", inspect({}))
    assert.equal('{\n  "x",\n  b = {\n    c = true\n  },\n  ["d e"] = 1\n}',
                 inspect({ "x", ["d e"] = 1, b = { c = true } }))
  end)

  it("is bounded", function()
    local loop = {}
    loop.self = loop
    assert.matches("self = <table: ", inspect(loop))
    local deep, big = {}, {}
    for _ = 1, 100 do
      deep = { deep }
    end
    for i = 1, 100000 do
      big[i] = i
    end
    assert.is_true(#inspect(deep) < 1000)
    assert.is_true(#inspect(big) < 20000)
  end)
end)
