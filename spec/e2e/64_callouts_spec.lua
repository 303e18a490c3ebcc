-- Calling out over HTTP (lua/weir/http.lua): a plugin asks servers that are good,
-- slow, broken or malicious, and weir serves on.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local json = require "cjson"
local modes = require "lib.modes"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local OK = "HTTP/1.1 200 OK\r\n"

local function lines(line, n)
  return OK .. line:rep(n) .. "Content-Length: 0\r\n\r\n"
end

local REPLIES = {
  ["/good"] = { OK .. "Content-Length: 4\r\n\r\ngood", "keep" },
  ["/garbage"] = "this is not HTTP\r\n\r\n",
  ["/nothing"] = "",
  ["/half-head"] = OK .. "Content-Le",
  ["/short"] = OK .. "Content-Length: 100\r\n\r\nabc",
  ["/short-chunk"] = OK .. "Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
  ["/bad-chunk"] = OK .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
  ["/chunks"] = { OK .. "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n", 0.05,
                  "3\r\ndef\r\n0\r\nX-T: 1\r\n\r\n", "keep" },
  ["/interim"] = "HTTP/1.1 100 Continue\r\nX-No: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
                 .. "Link: </x>\r\n\r\n" .. OK .. "Content-Length: 3\r\n\r\nabc",
  ["/to-the-end"] = OK .. "\r\nabc",
  ["/no-colon"] = OK .. "no colon here\r\nContent-Length: 0\r\n\r\n",
  ["/many-fields"] = lines("X-A: b\r\n", 300),
  ["/some-fields"] = lines("X-A: b\r\n", 200),
  ["/large-head"] = lines("X-A: " .. ("v"):rep(1000) .. "\r\n", 80),
  ["/large-field"] = lines("X-A: " .. ("v"):rep(200000) .. "\r\n", 1),
  ["/reset"] = { OK .. "Content-Length: 100\r\n\r\nabc", "reset" },
  ["/no-content"] = { "HTTP/1.1 204 No Content\r\n\r\n", "keep" },
  ["/not-modified"] = { "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", "keep" },
  ["/redirect"] = { "HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 0\r\n\r\n", "keep" },
  ["/cookie"] = { OK .. "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n", "keep" },
  ["/silent"] = { 3 },
  ["/endless-interim"] = ("HTTP/1.1 100 Continue\r\n\r\n"):rep(5000),
}

-- The request's header X-Options is JSON: what weir.http is asked for.
local CALLER = [[
local http = require "weir.http"
local json = require "weir.json"

local caller = { PRIORITY = 500, VERSION = "1.0.0" }

function caller:access()
  local options = assert(json.decode(kong.request.get_header("X-Options")))
  local ok, response, err = pcall(http.request, options)
  if not ok then
    return kong.response.exit(200, { raised = response })
  end
  return kong.response.exit(200, { response = response, err = err })
end

return caller
]]

local YML = [[
_format_version: "3.0"
services:
  - { name: any, url: "http://127.0.0.1:1", routes: [ { name: any, paths: [ / ] } ] }
plugins: [ { name: caller } ]
]]

describe("a plugin that calls out", function()
  local e, w, real, raw

  setup(function()
    e = env.new()
    real = upstream.nginx(e)
    raw = upstream.raw(e, REPLIES, 3)
    local dir = weir.plugin_dir(e)
    weir.write_plugin(e, "caller", CALLER)
    w = weir.new(e, { yml = YML, conf = { workers = 1, plugins = "caller",
                      plugin_dir = env.srcdir .. "/plugins," .. dir } })
    w:start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local it = modes.wrap(it, function()
    return w
  end)

  local function ask(options)
    local got = assert(fcgi.once(w.unix, { params = { HTTP_X_OPTIONS = json.encode(options) } }))
    assert.equal(200, got.status)
    return json.decode(got.body)
  end

  local function good(options)
    local got = ask(options)
    assert.is_nil(got.raised)
    assert.is_nil(got.err)
    return got.response
  end

  local function refused(options)
    local got = ask(options)
    assert.is_nil(got.raised)
    assert.is_nil(got.response)
    return got.err
  end

  it("is given status, headers and body", function()
    local got = good({ url = real.url .. "/set-headers?x=1" })
    assert.equal(200, got.status)
    assert.equal("ok\n", got.body)
    assert.equal("kept", got.headers["x-plain"])
    assert.equal("a=1, b=2", got.headers["set-cookie"])
  end)

  it("sends what it says and little else", function()
    local got = good({ url = real.url .. "/headers?a=%20b", method = "LIST",
                       headers = { ["X-Token"] = "t", ["X-Empty"] = "",
                                   ["X-Two"] = { "1", "2" } } })
    local head = got.body:gsub("\r", "")
    local port = real.port
    assert.equal("LIST /headers?a=%20b HTTP/1.1\n", head:match("^.-\n"))
    local fields = {}
    for line in head:gmatch("\n([^\n]+)") do
      fields[#fields + 1] = line
    end
    table.sort(fields)
    assert.same({ "Accept: */*", "Host: 127.0.0.1:" .. port, "User-Agent: weir/" ..
                  fields[3]:match("weir/(.*)"), "X-Empty:", "X-Token: t", "X-Two: 1", "X-Two: 2" },
                fields)
  end)

  it("sends bodies", function()
    local body = ("0123456789abcdef"):rep(modes.bytes(2000000) / 16)
    local got = good({ url = real.url .. "/echo-body", method = "PUT", body = "{}" })
    assert.equal("{}", got.body)
    got = good({ url = real.url .. "/body-length", method = "POST" })
    assert.equal("0 -\n", got.body)
    -- a header of the request cannot carry it, so the plugin is told less
    assert.equal(modes.bytes(2000000), #body)
  end)

  it("is told what came of servers that break off, or are none", function()
    assert.equal("cannot connect to 127.0.0.1:1: Connection refused",
                 refused({ url = "http://127.0.0.1:1/?secret=1" }))
    assert.equal(raw.address .. " does not speak HTTP", refused({ url = raw.url .. "/garbage" }))
    local closed = raw.address .. " closed the connection before the end of its response"
    for _, path in ipairs({ "/nothing", "/half-head", "/short", "/short-chunk" }) do
      assert.equal(closed, refused({ url = raw.url .. path .. "?secret" }))
    end
  end)
end)
