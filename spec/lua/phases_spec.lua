-- The set of phases and the message for a call in the wrong one.
local phases = require "weir.phases"

describe("phases", function()
  it("has one bit and one name for each phase", function()
    local seen = 0
    for _, name in ipairs(phases.order) do
      local bits = phases[name]
      assert.equal(name, phases.names[bits])
      assert.equal(0, bit.band(seen, bits))
      seen = bit.bor(seen, bits)
    end
    assert.equal(10, #phases.order)
  end)

  it("lists a set in the order of a request", function()
    assert.equal("rewrite, access", phases.list(phases.access + phases.rewrite))
    assert.equal("rewrite, access, balancer, response, header_filter, body_filter, log",
                 phases.list(phases.request))
  end)

  it("names the phase, the phases that are allowed and the line of the caller", function()
    local function pdk_function()
      phases.wrong({ phase = phases.log }, phases.rewrite + phases.access)
    end
    local line
    local ok, err = pcall(function()
      line = debug.getinfo(1, "l").currentline + 1
      pdk_function()
    end)
    assert.is_false(ok)
    assert.matches("phases_spec%.lua:" .. line .. ": function cannot be called in log phase " ..
                   "%(only in: rewrite, access%)$", err)
  end)

  it("calls the time before any phase init", function()
    local ok, err = pcall(phases.wrong, nil, phases.log)
    assert.is_false(ok)
    assert.matches("cannot be called in init phase %(only in: log%)$", err)
  end)
end)
