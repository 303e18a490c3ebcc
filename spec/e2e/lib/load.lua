-- Thousands of requests at once, counted exactly: compiles httpload.c into the
-- environment and runs it. What it counted comes back as a table.
local env = require "lib.env"
local proc = require "lib.proc"

local _M = {}

local function program(e)
  local path = e:path("bin/httpload")
  if not e.httpload then
    os.execute("mkdir -p '" .. e:path("bin") .. "'")
    local text, code = proc.run({ os.getenv("CC") or "cc", "-std=gnu11", "-O2", "-o", path,
                                  env.srcdir .. "/spec/e2e/httpload.c" })
    assert(code == 0, text)
    e.httpload = path
  end
  return path
end

local function arguments(e, address, opts)
  local host, port = address:match("^(.+):(%d+)$")
  local argv = { program(e), "-c", opts.parallel or 64, "-n", opts.requests or 1000000000 }
  local function add(...)
    for _, word in ipairs({ ... }) do
      argv[#argv + 1] = word
    end
  end
  if opts.seconds then
    add("-t", opts.seconds)
  end
  if opts.keep then
    add("-k")
  end
  if opts.source then
    add("-s", opts.source)
  end
  for _, header in ipairs(opts.headers or {}) do
    add("-H", header)
  end
  add(host, port, opts.path or "/")
  return argv
end

-- "status 200 5" lines and the like into { status = {[200] = 5}, errors = {}, failed = 0, ... }.
local function parse(text)
  local result = { status = {}, errors = {}, failed = 0, text = text }
  for code, n in text:gmatch("status (%d+) (%d+)") do
    result.status[tonumber(code)] = tonumber(n)
  end
  for why, n in text:gmatch("error (%a+) (%d+)") do
    result.errors[why] = tonumber(n)
    result.failed = result.failed + tonumber(n)
  end
  result.sent = assert(tonumber(text:match("sent (%d+)")), text)
  for name, ms in text:gmatch("(%w+_ms) ([%d.]+)") do
    result[name] = tonumber(ms)
  end
  return result
end

-- opts: parallel, requests and/or seconds, keep, source, headers ("Name: value"), path.
function _M.run(e, address, opts)
  local text, code = proc.run(arguments(e, address, opts), { timeout = 300, files = 8192 })
  assert(code == 0, "httpload: " .. tostring(code) .. " " .. text)
  return parse(text)
end

-- The same beside what the spec does meanwhile; the returned function waits for the result.
function _M.start(e, address, opts)
  e.loads = (e.loads or 0) + 1
  local output = e:path("log/httpload." .. e.loads)
  local p = e:spawn(arguments(e, address, opts), { output = output, files = 8192 })
  local function finish()
    local code = p:wait(300)
    local text = proc.read_file(output)
    assert(code == 0, "httpload: " .. tostring(code) .. " " .. text)
    return parse(text)
  end
  return finish, p
end

return _M
