-- The test servers test themselves: each does what its provider's documents
-- say, and its verifiers refuse what is forged. Nothing of weir takes part.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local proc = require "lib.proc"
local env = require "lib.env"

describe("the test servers", function()
  for _, name in ipairs({ "base", "tls", "hcv", "sigv4", "aws", "gcp", "azure" }) do
    it("pass their self-test: " .. name, function()
      local program = env.srcdir .. "/spec/servers/selftest/run.py"
      local text, code = proc.run({ "python3", "-B", program, name }, { timeout = 120 })
      assert.equal(0, code, text)
      assert.truthy(text:match("^[1-9]%d* checks passed\n$"), text)
    end)
  end
end)
