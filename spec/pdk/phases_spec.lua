-- Every function of the PDK in every phase, called inside a real request: each
-- works in exactly the phases of spec/pdk/functions.lua, and the error in the
-- others names the phase, the phases that are allowed, and the caller.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local net = require "lib.net"
local phases = require "weir.phases"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local rows = dofile("spec/pdk/functions.lua")

local YML = [[
_format_version: "3.0"
plugins:
  - name: pdk-probe
services:
  - name: s
    url: %s
    routes:
      - name: r
        paths: [ / ]
  - name: buffered
    url: %s
    routes:
      - name: buffered
        paths: [ /buffered ]
        plugins:
          - name: pdk-probe-response
]]

-- "request", "all" or names -> set of bits
local function allowed(row)
  local set = 0
  for _, name in ipairs(phases.order) do
    if row == "all" or row == "request" and bit.band(phases.request, phases[name]) ~= 0
       or (" " .. row .. " "):find(" " .. name .. " ", 1, true)
    then
      set = set + phases[name]
    end
  end
  return set
end

describe("PDK", function()
  local e, w

  -- What the functions said in a phase: name -> "-" or the error.
  local function probed(phase)
    local text
    net.wait_until(5, function()
      text = e:read("run/probe-" .. phase .. ".txt")
      return text ~= ""
    end)
    local out = {}
    for name, said in text:gmatch("(kong%.%S+) ([^\n]*)") do
      out[name] = said
    end
    return out
  end

  setup(function()
    e = env.new()
    local service = upstream.nginx(e)
    w = weir.new(e, {
      yml = YML:format(service.url, service.url),
      conf = { workers = 1, plugin_dir = env.srcdir .. "/plugins," .. env.srcdir
                                         .. "/spec/fixtures/plugins" },
    })
    w:start()
    for _, uri in ipairs({ "/", "/buffered" }) do
      assert(fcgi.once(w.unix, { params = { REQUEST_URI = uri } }))
    end
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  it("has a row for each function, and each row has a function", function()
    local said = probed("access")
    for name in pairs(said) do
      assert.is_truthy(rows[name] or name:find("^kong%.log%.inspect%."), name)
    end
    for name in pairs(rows) do
      assert.is_truthy(said[name], name)
    end
  end)

  for _, phase in ipairs(phases.order) do
    it("checks each call in " .. phase, function()
      local said = probed(phase)
      for name, row in pairs(rows) do
        local set = allowed(row)
        local text = assert(said[name], name .. " was not called in " .. phase)
        local wrong = "function cannot be called in " .. phase .. " phase (only in: "
                      .. phases.list(set) .. ")"
        if bit.band(set, phases[phase]) ~= 0 then
          assert.is_nil(text:find("cannot be called", 1, true), name .. " in " .. phase .. ": "
                                                                .. text)
        else
          assert.is_truthy(text:find(wrong, 1, true), name .. " in " .. phase .. ": " .. text)
          assert.is_truthy(text:find("pdk%-probe/probe%.lua:%d+: function"),
                           name .. " names not its caller: " .. text)
        end
      end
    end)
  end

  it("checks each call while a plugin is being loaded", function()
    local said = probed("init")
    for name, row in pairs(rows) do
      local text = assert(said[name], name)
      if row ~= "all" then
        assert.is_truthy(text:find("cannot be called in init phase", 1, true), name .. ": " .. text)
      end
    end
  end)
end)
