-- kong.vault: references taken to pieces, secrets that plugins ask for, and what
-- happens when somebody refuses one. The vault pdk-count tells how often it was asked.
local lab = require "lab"

describe("kong.vault", function()
  local l = lab.new()

  local pieces = l:route([[
    local v, said = kong.vault, {}
    for i, text in ipairs({ "{vault://env/a}", "{vault://env/a", "vault://env/a", "", false }) do
      said[i] = v.is_reference(text)
    end
    local ref = v.parse_reference("{vault://env/a/b%20c/key?prefix=SSL_#1}")
    said[#said + 1] = { ref.name, ref.resource, ref.key, ref.config.prefix, ref.version }
    said[#said + 1] = select(2, v.parse_reference("nothing"))
    said[#said + 1] = select(2, v.parse_reference("{vault://env}"))
    kong.response.exit(200, said)
  ]])
  local got = l:route([[
    local get, said = kong.vault.get, {}
    said[1] = get("{vault://env/weir-spec-dir}") == os.getenv("WEIR_SPEC_DIR")
    said[2] = get("{vault://pdk-count/a}")
    said[3] = get("{vault://pdk-count/a}")
    said[4] = get("{vault://pdk-count/object/member}")
    kong.response.exit(200, said)
  ]])
  local refused = l:route([[
    local get, said = kong.vault.get, {}
    for i, text in ipairs({ "{vault://zork/a}", "a", "{vault://env/no-such}",
                            "{vault://pdk-count/b?broken=b}", "{vault://pdk-count/object/no}" }) do
      local value, err = get(text)
      said[i] = { value == nil, err }
    end
    kong.response.exit(200, said)
  ]])
  local parallel = l:route([[
    kong.response.exit(200, { kong.vault.get("{vault://pdk-count/parallel}") })
  ]])
  local late = l:route({ log = [[
    kong.log.notice("late: ", (kong.vault.get("{vault://pdk-count/late}")))
  ]] })
  local misuse = l:route([[
    local v, said = kong.vault, {}
    local function try(fn, ...)
      said[#said + 1] = select(2, pcall(fn, ...))
    end
    try(v.get) try(v.get, {}) try(v.parse_reference, 5) try(v.update) try(v.try, 1, {})
    try(v.try, print)
    kong.response.exit(200, said)
  ]])
  local updated = l:route([[
    local options = { user = "u", ["$refs"] = { password = "{vault://pdk-count/u}",
                                                list = { [2] = "{vault://pdk-count/u}" } },
                      list = { "x", "-" },
                      inner = { ["$refs"] = { key = "{vault://pdk-count/u}",
                                              no = "{vault://no/u}" } } }
    options.inner.outer = options
    kong.vault.get("{vault://pdk-count/u}")
    local same = kong.vault.update(options) == options
    kong.response.exit(200, { same, options.user, options.password, options.inner.key,
                              options.list, options.inner.no == nil })
  ]])
  local tried = l:route([[
    local calls, said = {}, {}
    local function options()
      return kong.vault.update({ ["$refs"] = { password = "{vault://pdk-count/t}" } })
    end
    local function once(wanted)
      return kong.vault.try(function(o)
        calls[#calls + 1] = o.password
        if o.password == wanted then
          return "let in", "with " .. wanted
        end
        return nil, "refused"
      end, options())
    end
    kong.vault.get("{vault://pdk-count/t}")
    said[1] = { once("t-1") }
    said[2] = { once("t-2") }
    local _, err = once("never") -- and too soon to be looked up again
    said[3] = err
    said[4] = calls
    kong.response.exit(200, said)
  ]])
  local without = l:route([[
    local calls = 0
    local _, err = kong.vault.try(function()
      calls = calls + 1
      return nil, "no"
    end, { a = 1, b = { c = 2 } })
    kong.response.exit(200, { calls, err })
  ]])

  setup(function()
    l:start()
  end)
  teardown(function()
    l:stop()
  end)
  after_each(function()
    l:check()
  end)

  it("knows references and their parts", function()
    assert.same({ true, false, false, false, false, { "env", "a/b c", "key", "SSL_", 1 },
      "not a reference [nothing]", "reference url is missing path [{vault://env}]" },
      l:json(pieces))
  end)

  it("get looks up what is not known, once", function()
    assert.same({ true, "a-1", "a-1", "m-1" }, l:json(got))
    assert.same({ true, "a-1", "a-1", "m-1" }, l:json(got))
  end)

  it("get says why there is none", function()
    assert.same({
      { true, "could not find vault (zork) [{vault://zork/a}]" },
      { true, "not a reference [a]" },
      { true, "the environment has no NO_SUCH" },
      { true, "there is no b" },
      { true, "subfield no not found in JSON secret" },
    }, l:json(refused))
    l.weir:expect_log("it has no value", "some")
  end)

  it("get is one look-up for all who wait for it", function()
    local fcgi = require "lib.fcgi"
    local connections = {}
    for i = 1, 10 do
      connections[i] = assert(fcgi.connect(l.weir.unix))
      assert(connections[i]:send(fcgi.request({ params = { REQUEST_URI = parallel } })))
    end
    for _, c in ipairs(connections) do
      assert.equal('["parallel-1"]', assert(c:answer(1, 5)).body)
      c:close()
    end
  end)

  it("get waits in the log phase, too", function()
    assert.equal(200, l:ask(late).status)
    assert.is_truthy(l.weir:wait_log("late: late%-1"))
  end)

  it("refuses what is no use", function()
    for i, text in ipairs(l:json(misuse)) do
      assert.is_truthy(text:find("^access:%d+: ") or text:find("must be"), i .. ": " .. text)
    end
  end)

  it("update gives a table the values of its references", function()
    assert.same({ true, "u", "u-1", "u-1", { "x", "u-1" }, true }, l:json(updated))
  end)

  it("try looks a refused secret up once more", function()
    assert.same({ { "let in", "with t-1" }, { "let in", "with t-2" }, "refused",
      { "t-1", "t-1", "t-2", "t-2", "t-2" } }, l:json(tried))
  end)

  it("try fails at once where there is nothing to look up", function()
    assert.same({ 1, "no" }, l:json(without))
  end)
end)
