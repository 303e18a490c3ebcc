-- The router: what each attribute matches, which route wins, and that the
-- cache changes nothing.

require("native")
local router = require("weir.router")

local function from_table(source, name)
  return source[name]
end

-- names of routes are their keys; returns match(method, host, path, headers) -> route name
local function make(routes)
  local list = {}
  for name, route in pairs(routes) do
    route.name, route.id = name, name
    route.created_at = route.created_at or 1
    list[#list + 1] = route
  end
  table.sort(list, function(a, b)
    return a.name < b.name
  end)
  local r = assert(router.new(list, from_table))
  return function(method, host, path, headers)
    local first = r:match(method, host, path, headers)
    -- the second answer may come from the cache
    local second = r:match(method, host, path, headers)
    assert.equal(first and first.route, second and second.route)
    return first and first.route.name, first
  end
end

describe("router, attributes", function()
  it("hosts: exact, with the request's port or without", function()
    local match = make({ a = { hosts = { "a.example" } }, b = { hosts = { "b.example:81" } } })
    assert.equal("a", (match("GET", "a.example", "/")))
    assert.equal("a", (match("GET", "A.Example:8080", "/")))
    assert.equal("b", (match("GET", "b.example:81", "/")))
    assert.is_nil((match("GET", "b.example", "/")))
    assert.is_nil((match("GET", "x.a.example", "/")))
    assert.is_nil((match("GET", "", "/")))
  end)

  it("hosts: a dot at the end, and a colon without a port, mean nothing", function()
    local match = make({
      a = { hosts = { "a.example" } }, b = { hosts = { "b.example.:81" } },
      w = { hosts = { "*.wild.example" } },
    })
    for _, host in ipairs({ "a.example.", "A.Example.:80", "a.example:", "a.example.:" }) do
      assert.equal("a", match("GET", host, "/"))
    end
    assert.equal("b", match("GET", "b.example:81", "/"))
    assert.equal("w", match("GET", "x.wild.example.", "/"))
    assert.is_nil(match("GET", "a.example..", "/"))
    assert.is_nil(match("GET", ".", "/"))
    assert.is_nil(match("GET", "", "/"))
  end)

  it("hosts: addresses in brackets", function()
    local match = make({ a = { hosts = { "[::1]" } } })
    assert.equal("a", (match("GET", "[::1]", "/")))
    assert.equal("a", (match("GET", "[::1]:80", "/")))
  end)

  it("hosts: wildcards", function()
    local match = make({
      l = { hosts = { "*.left.example" } }, p = { hosts = { "*.port.example:81" } },
      r = { hosts = { "right.*" } },
    })
    assert.equal("l", (match("GET", "a.b.left.example", "/")))
    assert.equal("l", (match("GET", "a.left.example:9", "/")))
    assert.is_nil((match("GET", "left.example", "/")))
    assert.is_nil((match("GET", ".left.example", "/")))
    assert.equal("p", (match("GET", "a.port.example:81", "/")))
    assert.is_nil((match("GET", "a.port.example", "/")))
    assert.equal("r", (match("GET", "right.com", "/")))
    assert.equal("r", (match("GET", "right.co.uk:80", "/")))
    assert.is_nil((match("GET", "right.", "/")))
  end)

  it("paths: prefixes without regard to segments", function()
    local match = make({ a = { paths = { "/rou" } } })
    local _, found = match("GET", "", "/route")
    assert.equal("/rou", found.prefix)
    assert.is_nil((match("GET", "", "/ro")))
    assert.is_nil((match("GET", "", "/Rou")))
    assert.is_nil((match("GET", "", "/x/rou")))
  end)

  it("paths: regular expressions, anchored at the start only", function()
    local match = make({ a = { paths = { "~/u/(?<id>\\d+)" } } })
    local name, found = match("GET", "", "/u/17/x")
    assert.equal("a", name)
    assert.equal("/u/17", found.prefix)
    assert.same({ [0] = "/u/17", "17", id = "17" }, found.captures)
    assert.is_nil((match("GET", "", "/v/u/17")))
    assert.is_nil((match("GET", "", "/U/17")))
  end)

  it("methods", function()
    local match = make({ a = { methods = { "GET", "PUT" } } })
    assert.equal("a", (match("PUT", "", "/")))
    assert.is_nil((match("POST", "", "/")))
    assert.is_nil((match("put", "", "/")))
  end)

  it("headers: all names, any value, in any case, or by expression", function()
    local match = make({
      a = { headers = { ["X-A"] = { "one", "two" }, ["x-b"] = { "~*^b+$" } } },
    })
    assert.equal("a", (match("GET", "", "/", { ["x-a"] = { "TWO" }, ["x-b"] = { "bB" } })))
    assert.equal("a", (match("GET", "", "/", { ["x-a"] = { "z", "one" }, ["x-b"] = { "b" } })))
    assert.is_nil((match("GET", "", "/", { ["x-a"] = { "one" } })))
    assert.is_nil((match("GET", "", "/", { ["x-a"] = { "on" }, ["x-b"] = { "b" } })))
    assert.is_nil((match("GET", "", "/", { ["x-a"] = { "one" }, ["x-b"] = { "bc" } })))
    assert.is_nil((match("GET", "", "/", {})))
    assert.is_nil((match("GET", "", "/")))
  end)

  it("need all to hold", function()
    local match = make({ a = { hosts = { "h" }, paths = { "/p" }, methods = { "GET" } } })
    assert.equal("a", (match("GET", "h", "/p")))
    assert.is_nil((match("PUT", "h", "/p")))
    assert.is_nil((match("GET", "i", "/p")))
    assert.is_nil((match("GET", "h", "/q")))
  end)

  it("gives strip, service and no prefix where there is no path", function()
    local service = {}
    local match = make({ a = { hosts = { "h" }, strip_path = true, service = service } })
    local _, found = match("GET", "h", "/p")
    assert.same({ true, service }, { found.strip, found.service })
    assert.is_nil(found.prefix)
    assert.is_nil(found.captures)
  end)
end)

describe("router, precedence", function()
  local function winner(routes, method, host, path, headers)
    return (make(routes)(method or "GET", host or "h", path or "/p/q", headers))
  end

  it("more kinds of attributes", function()
    assert.equal("z", winner({ a = { hosts = { "h" } },
      z = { methods = { "GET" }, paths = { "/" } } }))
  end)

  it("falls back to fewer kinds", function()
    assert.equal("a", winner({ a = { hosts = { "h" } },
      z = { methods = { "PUT" }, paths = { "/" } } }))
  end)

  it("plain hosts before wildcards", function()
    assert.equal("z", winner({ a = { hosts = { "*.h" } }, z = { hosts = { "x.h" } } }, nil, "x.h"))
  end)

  it("a wildcard among the hosts counts as wildcard", function()
    assert.equal("z", winner({ a = { hosts = { "x.h", "*.i" } }, z = { hosts = { "x.h" } } }, nil,
      "x.h"))
  end)

  it("more headers", function()
    assert.equal("z", winner({ a = { headers = { x = { "1" } } },
      z = { headers = { x = { "1" }, y = { "1" } } } }, nil, nil, nil,
      { x = { "1" }, y = { "1" } }))
  end)

  it("regular expressions before prefixes", function()
    assert.equal("z", winner({ a = { paths = { "/p/q" } }, z = { paths = { "~/p" } } }))
  end)

  it("the larger regex_priority", function()
    assert.equal("z", winner({ a = { paths = { "~/p/q" }, regex_priority = 1 },
      z = { paths = { "~/p" }, regex_priority = 2 } }))
  end)

  it("regex_priority means nothing to prefixes", function()
    assert.equal("z", winner({ a = { paths = { "/p" }, regex_priority = 9 },
      z = { paths = { "/p/" } } }))
  end)

  it("the longer prefix, of all the paths of a route by itself", function()
    assert.equal("z", winner({ a = { paths = { "/p", "/pppppppppp" } },
      z = { paths = { "/p/" } } }))
  end)

  it("the older, then the one declared first", function()
    assert.equal("z", winner({ a = { paths = { "/p" }, created_at = 2 },
      z = { paths = { "/p" }, created_at = 1 } }))
    assert.equal("a", winner({ a = { paths = { "/p" } }, z = { paths = { "/p" } } }))
  end)
end)

-- what the order promises, said the slow way: the first of all in order that fits
describe("router, against a plain search", function()
  local function pick(list)
    return list[math.random(#list)]
  end

  local function fits_host(route, host)
    for _, wanted in ipairs(route.hosts or {}) do
      local tail = wanted:match("^%*(.+)$")
      if wanted == host or tail and #host > #tail and host:sub(-#tail) == tail then
        return true
      end
    end
    return not route.hosts
  end

  local function key(route, path)
    local kinds = (route.hosts and 1 or 0) + (route.paths and 1 or 0) + (route.methods and 1 or 0)
    local plain = route.hosts and not route.hosts[1]:find("*", 1, true) and 1 or 0
    local regex = path and path:sub(1, 1) == "~"
    return ("%d%d%d%04d"):format(kinds, plain, regex and 1 or 0, path and not regex and #path or 0)
  end

  local function slow(routes, method, host, path)
    local best, best_key
    for _, route in ipairs(routes) do
      local method_fits = not route.methods or route.methods[1] == method
      for _, wanted in ipairs(route.paths or { false }) do
        local path_fits = not wanted or wanted:sub(1, 1) == "~" and
          path:find("^" .. wanted:sub(2)) or path:sub(1, #wanted) == wanted
        if method_fits and path_fits and fits_host(route, host) then
          local k = key(route, wanted)
          if not best or k > best_key then
            best, best_key = route, k
          end
        end
      end
    end
    return best
  end

  it("agrees", function()
    math.randomseed(7)
    local paths = { "/", "/a", "/a/", "/a/b", "/ab", "~/a/.", "~/b", "/b" }
    local hosts = { "h", "i", "*.h", "x.h" }
    for _ = 1, 200 do
      local routes = {}
      for i = 1, math.random(12) do
        local route = { id = tostring(i), created_at = 1 }
        route.paths = math.random() < 0.7 and { pick(paths), pick(paths) } or nil
        route.hosts = math.random() < 0.4 and { pick(hosts) } or nil
        route.methods = math.random() < 0.3 and { pick({ "GET", "PUT" }) } or nil
        if route.paths or route.hosts or route.methods then
          routes[#routes + 1] = route
        end
      end
      local r = assert(router.new(routes))
      for _ = 1, 40 do
        local method, host = pick({ "GET", "PUT" }), pick({ "h", "x.h", "i", "z" })
        local path = pick({ "/", "/a", "/a/b/c", "/abc", "/b", "/c" })
        local found = r:match(method, host, path)
        assert.equal(slow(routes, method, host, path), found and found.route)
      end
    end
  end)
end)

describe("router, cache", function()
  it("is bounded, and forgets nothing that matters", function()
    local r = assert(router.new({ { id = "a", paths = { "/a" } } }))
    for i = 1, 20000 do
      assert.is_truthy(r:match("GET", "h" .. i % 7, "/a" .. i))
      assert.is_nil(r:match("GET", "h", "/b" .. i))
    end
    local function count(generation)
      local n = 0
      for _, by_host in pairs(generation) do
        for _, by_path in pairs(by_host) do
          for _ in pairs(by_path) do
            n = n + 1
          end
        end
      end
      return n
    end
    assert.is_true(count(r.newer) + count(r.older) <= 5000)
    local kept = r:match("GET", "h", "/akept")
    assert.equal(kept, r:match("GET", "h", "/akept"))
  end)

  it("keeps no long paths", function()
    local r = assert(router.new({ { id = "a", paths = { "/a" } } }))
    local path = "/a" .. ("x"):rep(4000)
    assert.are_not.equal(r:match("GET", "h", path), r:match("GET", "h", path))
  end)

  it("is not asked where a header of the request may decide", function()
    local match = make({ a = { paths = { "/" } },
      b = { paths = { "/" }, headers = { x = { "1" } } } })
    assert.equal("a", (match("GET", "h", "/", {})))
    assert.equal("b", (match("GET", "h", "/", { x = { "1" } })))
    assert.equal("a", (match("GET", "h", "/", { x = { "2" } })))
    assert.equal("a", (match("GET", "h", "/", {})))
    -- an older answer, given without the header, is not asked either
    for i = 1, 2500 do
      match("GET", "h", "/" .. i, {})
    end
    assert.equal("b", (match("GET", "h", "/2499", { x = { "1" } })))
    assert.equal("b", (match("GET", "h", "/", { x = { "1" } })))
  end)
end)

describe("router, services", function()
  it("that are switched off have no routes", function()
    local match = make({ a = { paths = { "/a" }, service = { enabled = false } },
      b = { paths = { "/" }, service = { enabled = true } } })
    assert.equal("b", (match("GET", "h", "/a")))
  end)
end)

describe("router, mistakes", function()
  it("of expressions that backtrack without end do not open the next route", function()
    local r = assert(router.new({ { name = "guard", paths = { "~/(a+)+$" } },
      { name = "open", paths = { "/" } } }))
    assert.equal("open", r:match("GET", "h", "/b").route.name)
    assert.has_error(function()
      r:match("GET", "h", "/" .. ("a"):rep(60) .. "b")
    end, "route guard: match limit exceeded")
  end)

  it("are named with their route", function()
    local r, err = router.new({ { name = "r", paths = { "~(" } } })
    assert.is_nil(r)
    assert.equal("route r: path ~(: missing closing parenthesis at offset 1", err)
    r, err = router.new({ { id = "i", headers = { x = { "~*(" } } } })
    assert.is_nil(r)
    assert.equal("route i: header x: missing closing parenthesis at offset 1", err)
  end)
end)
