-- The plugins and the vault of doc/plugins.md do what the guide says, as they stand there.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local stdlib = require "posix.stdlib"

local guide = assert(proc.read_file(env.srcdir .. "/doc/plugins.md"))

-- The code blocks of a language, in their order.
local function blocks(language)
  local out = {}
  for text in guide:gmatch("\n```" .. language .. "\n(.-)\n```\n") do
    out[#out + 1] = text
  end
  return out
end

-- A service whose policy engine is that, at the path /NAME.
local function asked(name, url, policy)
  return ("  - url: %s/headers\n    name: on-%s\n    routes:\n      - paths: [ /%s ]\n"
          .. "    plugins:\n      - { name: ask-first, config: { url: '%s' } }\n")
         :format(url, name, name, policy)
end

describe("doc/plugins.md", function()
  local e, w

  setup(function()
    local lua = blocks("lua")
    e = env.new()
    local service = upstream.nginx(e)
    e:write("plugins/door/handler.lua", lua[1])
    e:write("plugins/door/schema.lua", lua[2])
    e:write("plugins/vaults/shelf/init.lua", lua[3])
    e:write("plugins/vaults/shelf/schema.lua", lua[4])
    e:write("plugins/upload-bytes/handler.lua", lua[5])
    e:write("plugins/upload-bytes/schema.lua", lua[6])
    e:write("plugins/ask-first/handler.lua", lua[7])
    e:write("plugins/ask-first/schema.lua", lua[8])
    w = weir.new(e, {
      conf = { plugin_dir = env.srcdir .. "/plugins," .. e:path("plugins") },
      yml = '_format_version: "3.0"\n' .. blocks("yaml")[1] .. "\n"
            .. blocks("yaml")[2]:gsub("http://127.0.0.1:8300/secrets", service.url)
            .. "\nservices:\n  - url: " .. service.url
            .. "/headers\n    routes:\n      - paths: [ / ]\n"
            .. "    plugins:\n      - { name: upload-bytes, config: { bytes: 1000 } }\n"
            .. asked("yes", service.url, service.url .. "/body-length")
            .. asked("no", service.url, service.url .. "/status?code=401&length=0")
            .. asked("silent", service.url, "http://127.0.0.1:1/?secret"),
    })
    w:start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  it("keeps strangers out", function()
    local got = assert(fcgi.once(w.unix))
    assert.equal(401, got.status)
    assert.equal('{"message":"no entry"}', got.body)
    assert.is_nil(got.headers["x-door"])
  end)

  it("lets those with the key in, and keeps the key", function()
    local got = assert(fcgi.once(w.unix, { params = { HTTP_X_KEY = "open-sesame" } }))
    assert.equal(200, got.status)
    assert.equal("open", got.headers["x-door"])
    assert.is_nil(got.body:lower():find("x-key", 1, true))
  end)

  it("limits the bytes that a client sends", function()
    env.stay_clear(3600)
    local client = env.client()
    local function send(n)
      return assert(fcgi.once(w.unix, { body = ("x"):rep(n), params = {
        REQUEST_METHOD = "POST", CONTENT_LENGTH = n, HTTP_X_KEY = "open-sesame",
        REMOTE_ADDR = client,
      } }))
    end
    assert.equal("400", send(600).headers["x-bytes-left"])
    local got = send(401)
    assert.equal(429, got.status)
    assert.equal('{"message":"too many bytes in this hour"}', got.body)
    assert.equal("0", send(400).headers["x-bytes-left"])
    assert.equal(200, send(0).status)
    assert.equal(429, send(1).status)
  end)

  it("asks first", function()
    local function status(path)
      return assert(fcgi.once(w.unix, { params = { HTTP_X_KEY = "open-sesame",
                                                   REQUEST_URI = path } })).status
    end
    assert.equal(200, status("/yes"))
    assert.equal(403, status("/no"))
    assert.equal(503, status("/silent"))
    w:expect_log("the policy engine: cannot connect to 127.0.0.1:1: Connection refused", 1)
  end)

  it("looks secrets up in a vault", function()
    stdlib.setenv("SHELF_TOKEN", "open-shelf")
    -- the service answers with the head of the request
    local text, code = w:command("vault", { args = { "get", "books/headers" } })
    local no, no_code = w:command("vault", { args = { "get", "books/status?" } })
    stdlib.setenv("SHELF_TOKEN", nil)
    assert.equal(0, code, text)
    assert.is_truthy(text:find("^GET /headers HTTP/1.1\r\n"), text)
    assert.is_truthy(text:find("\r\nAuthorization: Bearer open-shelf\r\n", 1, true), text)
    assert.equal(1, no_code, no)
    assert.is_truthy(no:find("^weir: the shelf answers %d+\n$"), no)
    text, code = w:command("vault", { args = { "get", "books/headers" } })
    assert.equal(1, code)
    assert.equal("weir: {vault://env/shelf-token}: the environment has no SHELF_TOKEN\n", text)
  end)

  it("is what weir plugins check is happy with", function()
    local text, code = w:command("plugins", { args = { "check" } })
    assert.equal(0, code, text)
  end)
end)
