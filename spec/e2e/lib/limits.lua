-- What the limit of etc/weir.yml looks like to a client: five answers with
-- falling numbers, then 429.
local assert = require "luassert"
local env = require "lib.env"
local proc = require "lib.proc"

local _M = {}

_M.DENIED = '{"message":"API rate limit exceeded"}'

-- The text of etc/weir.yml with another address of the service.
function _M.sample_yml(url)
  local text = assert(proc.read_file(env.srcdir .. "/etc/weir.yml"))
  local filled, n = text:gsub("http://127%.0%.0%.1:8080", url)
  assert.equal(1, n)
  return filled
end

-- A weir.yml with one service and one route /, limited by plugin configuration (YAML in braces).
function _M.yml(url, limit, service)
  return ([[
_format_version: "3.0"
services:
  - name: service
    url: %s
%s    routes:
      - name: all
        paths: [ / ]
    plugins:
%s
]]):format(url, service or "", limit and
  "      - name: rate-limiting\n        config: " .. limit or "      []")
end

function _M.assert_headers(response, limit, remaining)
  local h = response.headers
  assert.equal(tostring(limit), h["ratelimit-limit"])
  assert.equal(tostring(remaining), h["ratelimit-remaining"])
  assert.equal(tostring(limit), h["x-ratelimit-limit-minute"])
  assert.equal(tostring(remaining), h["x-ratelimit-remaining-minute"])
  local reset = tonumber(h["ratelimit-reset"])
  assert.is_true(reset ~= nil and reset >= 1 and reset <= 60)
end

-- ask() makes one request of the same client each time and returns the response. body: what an
-- allowed one must hold (nil: not checked).
function _M.assert_six(ask, body)
  env.stay_clear(60)
  for remaining = 4, 0, -1 do
    local response = assert(ask())
    assert.equal(200, response.status)
    _M.assert_headers(response, 5, remaining)
    if body then
      assert.equal(body, response.body)
    end
  end
  local response = assert(ask())
  assert.equal(429, response.status)
  _M.assert_headers(response, 5, 0)
  assert.equal(response.headers["ratelimit-reset"], response.headers["retry-after"])
  assert.equal(_M.DENIED, response.body)
  assert.matches("^application/json", response.headers["content-type"])
  return response
end

return _M
