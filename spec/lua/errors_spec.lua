-- The bodies of generated errors and the choice of their type.
local errors = require "weir.errors"
local json = require "weir.json"

describe("errors", function()
  it("chooses the type that the client likes best", function()
    for accept, want in pairs({
      ["*/*"] = errors.JSON,
      ["application/json"] = errors.JSON,
      ["text/html"] = errors.HTML,
      ["TEXT/HTML"] = errors.HTML,
      ["text/plain"] = errors.PLAIN,
      ["text/*"] = errors.PLAIN,
      ["application/*"] = errors.JSON,
      ["application/xml"] = errors.XML,
      ["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"] = errors.HTML,
      ["text/plain;q=0.5, text/html;q=0.7"] = errors.HTML,
      ["text/plain;q=0.5,text/html;q=0.5"] = errors.PLAIN,
      ["text/html; charset=utf-8; q=0.1, application/xml; q=0.2"] = errors.XML,
      ["image/png"] = errors.JSON,
      ["image/png, text/html;q=0.9"] = errors.JSON,
      ["text/html;q=0"] = errors.JSON,
      ["text/html;q=abc"] = errors.HTML,
      ["text/html;q=..."] = errors.JSON,
      [""] = errors.JSON,
      [",,;,"] = errors.JSON,
    }) do
      assert.equal(want, errors.choose(accept), accept)
    end
    assert.equal(errors.JSON, errors.choose(nil))
  end)

  it("writes the short forms", function()
    assert.equal('{"message":"API rate limit exceeded"}',
                 errors.body("API rate limit exceeded", errors.JSON))
    assert.equal("no\n", errors.body("no", errors.PLAIN))
    assert.equal('<?xml version="1.0" encoding="UTF-8"?>\n<error>\n' ..
                 "  <message>no</message>\n</error>\n", errors.body("no", errors.XML))
    local html = errors.body("no", errors.HTML)
    assert.matches("<title>Error</title>", html, 1, true)
    assert.matches("<p>no.</p>", html, 1, true)
    assert.matches("</html>\n$", html)
  end)

  it("writes the forms with an id", function()
    local id = ("0123456789abcdef"):rep(2)
    assert.equal('{\n  "message":"no",\n  "request_id":"' .. id .. '"\n}',
                 errors.body("no", errors.JSON, id))
    assert.equal("no\nrequest_id: " .. id .. "\n", errors.body("no", errors.PLAIN, id))
    assert.matches("<p>request_id: " .. id .. "</p>", errors.body("no", errors.HTML, id), 1, true)
    assert.matches("<requestid>" .. id .. "<", errors.body("no", errors.XML, id), 1, true)
  end)

  it("escapes what would break the form", function()
    local message = 'say "hi" <b>&\\ \n\1 a/b'
    assert.same({ message = message }, json.decode(errors.body(message, errors.JSON)))
    assert.matches("a/b", errors.body(message, errors.JSON), 1, true)
    assert.matches("&lt;b&gt;&amp;", errors.body(message, errors.HTML), 1, true)
    assert.matches("&lt;b&gt;&amp;", errors.body(message, errors.XML), 1, true)
  end)

  it("forgets old bodies, and remembers right ones", function()
    for round = 1, 2 do
      for i = 1, 1000 do
        local body = errors.body("message " .. i, i % 2 == 0 and errors.JSON or errors.PLAIN)
        assert.equal(i % 2 == 0 and '{"message":"message ' .. i .. '"}' or "message " .. i .. "\n",
                     body, "round " .. round)
      end
    end
  end)

  it("has a message for each status", function()
    assert.equal("Unauthorized", errors.message(401))
    assert.equal("Not found", errors.message(404))
    assert.equal("Too many requests", errors.message(429))
    assert.equal("An unexpected error occurred", errors.message(500))
    assert.equal("The upstream server responded with 599", errors.message(599))
  end)

  it("reads a Content-Type", function()
    assert.equal(errors.PLAIN, errors.type_of("text/plain"))
    assert.equal(errors.XML, errors.type_of("Application/XML; charset=latin1"))
    assert.is_nil(errors.type_of("image/png"))
    assert.is_nil(errors.type_of(""))
  end)
end)
