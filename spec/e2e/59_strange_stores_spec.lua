-- Servers that are no Redis though they listen where one should: none of them
-- makes a request fail or wait long, takes memory, or ends a worker. And stores
-- of different credentials, databases and hosts in one configuration: no
-- connection carries another one's.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local load = require "lib.load"
local net = require "lib.net"
local redis = require "lib.redis"
local stores = require "lib.stores"
local upstream = require "lib.upstream"
local weir = require "lib.weir"

local TIMEOUT_MS = 300

-- Reads something, and answers so, once or as long as somebody asks.
local function once(reply)
  return function(conn)
    if conn:recv(60) then
      conn:send(reply)
      conn:wait_closed(60)
    end
  end
end

local function always(reply)
  return function(conn)
    while conn:recv(60) do
      if not conn:send(reply) then
        return
      end
    end
  end
end

local function garbage(bytes)
  local out = {}
  for i = 1, bytes do
    out[i] = string.char(math.random(0, 255))
  end
  return table.concat(out)
end

-- A bulk string of 512 MB, of which megabytes come.
local function announce(conn)
  if conn:recv(60) then
    conn:send("$536870912\r\n")
    for _ = 1, 64 do
      if not conn:send(("x"):rep(1048576)) then
        return
      end
    end
    conn:wait_closed(60)
  end
end

local IMPOSTORS = {
  { "garbage", once(garbage(4096)) },
  { "greets with garbage", function(conn) conn:send(garbage(64)) conn:wait_closed(60) end },
  { "speaks HTTP", always("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") },
  { "breaks off", function(conn) if conn:recv(60) then conn:send("*3\r\n:1\r\n$5\r\nhe") end end },
  { "announces 512 MB", announce },
  { "announces a long array", once("*1000000000\r\n") },
  { "announces less than nothing", once("$-536870912\r\n") },
  { "nests", once(("*1\r\n"):rep(100000)) },
  { "never answers", function(conn) conn:wait_closed(60) end },
  { "hangs up", function() end },
  { "resets", function(conn) conn:recv(60) conn:reset() end },
  { "answers OK to all", always("+OK\r\n") },
  { "answers nothing to all", always("*0\r\n") },
  { "answers nil to all", always("$-1\r\n") },
  { "answers a number to all", always(":9223372036854775807\r\n") },
  { "answers words for numbers", always("*5\r\n$3\r\nnan\r\n$3\r\ninf\r\n+x\r\n$-1\r\n*-1\r\n") },
  { "refuses all", always("-ERR no\r\n") },
  { "is loading", always("-LOADING Redis is loading the dataset in memory\r\n") },
  { "knows no script, ever", always("-NOSCRIPT No matching script.\r\n") },
  { "is a Cluster that points to itself", always("-MOVED 1 127.0.0.1:1\r\n") },
}

describe("what is no Redis", function()
  local e, service, w

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    local routes = {}
    for i, impostor in ipairs(IMPOSTORS) do
      local port = redis.impostor(e, impostor[2], 3).port
      for _, tolerant in ipairs({ "true", "false" }) do
        routes[#routes + 1] = {
          ("/%d/%s"):format(i, tolerant), "rate-limiting",
          ("minute: 5, policy: redis, fault_tolerant: %s, redis: { host: 127.0.0.1, port: %d, "
           .. "timeout: %d }"):format(tolerant, port, TIMEOUT_MS),
        }
      end
    end
    w = weir.new(e, { yml = stores.yml(service.url, routes) }):start()
  end)

  teardown(function()
    if w then
      w:stop()
    end
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  local function ask(i, tolerant)
    local path = ("/%d/%s"):format(i, tolerant)
    local begun = net.now()
    local got = assert(fcgi.once(w.unix, { params = { REQUEST_URI = path, PATH_INFO = path } }))
    assert.is_true(net.now() - begun < 2 * TIMEOUT_MS / 1000 + 2, "it took too long")
    return got
  end

  for i, impostor in ipairs(IMPOSTORS) do
    it(impostor[1] .. ": a request passes or is a 500, as fault_tolerant says", function()
      w:expect_log("does not answer", 1)
      local workers, kb = table.concat(w:workers(), " "), w:rss_kb()
      for _ = 1, 6 do
        local got = ask(i, "true")
        assert.equal(200, got.status)
        assert.is_nil(got.headers["ratelimit-remaining"])
        got = ask(i, "false")
        assert.equal(500, got.status)
        assert.is_nil(got.headers["ratelimit-remaining"])
      end
      assert.equal(workers, table.concat(w:workers(), " "))
      assert.is_true(w:rss_kb() - kb < 40000, ("%d KiB more"):format(w:rss_kb() - kb))
    end)
  end
end)

describe("stores of several users, databases and hosts", function()
  local e, service, w, hosts

  -- route, host, user, database; each is asked by a client of its own.
  local PLACES = {
    { "/a", 1, "alice", 0 }, { "/b", 1, "alice", 1 }, { "/c", 1, "bob", 0 }, { "/d", 1, "bob", 1 },
    { "/e", 1, nil, 1 }, { "/f", 2, "alice", 1 }, { "/g", 2, nil, 0 },
  }

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    hosts = {}
    for i = 1, 2 do
      hosts[i] = redis.start(e, { users = {
        "user default on >default-secret ~* &* +@all",
        "user alice on >alice-secret" .. i .. " ~* &* +@all",
        "user bob on >bob-secret" .. i .. " ~* &* +@all",
      } })
      hosts[i].password = "default-secret"
    end
    local routes = {}
    for i, place in ipairs(PLACES) do
      local user, host = place[3], place[2]
      place.source = env.client()
      routes[i] = { place[1], "rate-limiting",
        ("hour: 50, policy: redis, fault_tolerant: false, redis: { host: 127.0.0.1, port: %d, "
         .. "database: %d, %spassword: %s }"):format(hosts[host].port, place[4],
          user and ("username: %s, "):format(user) or "",
          user and user .. "-secret" .. host or "default-secret") }
    end
    w = weir.new(e, { yml = stores.yml(service.url, routes), conf = {
      fastcgi_listen = "unix:" .. e:path("run/weir.sock"), workers = 2 } }):start()
  end)

  teardown(function()
    if w then
      w:stop()
    end
    e:destroy()
  end)

  it("never share a connection", function()
    local fronts = require "lib.fronts"
    local front = fronts.lighttpd(e, { sample = "lighttpd/responder.conf", weir = w })
    env.stay_clear(3600, 30)
    local finish = {}
    for i, place in ipairs(PLACES) do
      finish[i] = load.start(e, front.address, { parallel = 8, requests = 200, path = place[1],
                                                 source = place.source })
    end
    for i in ipairs(PLACES) do
      local got = finish[i]()
      assert.equal(50, got.status[200], got.text)
      assert.equal(150, got.status[429], got.text)
    end
    for h, host in ipairs(hosts) do
      local wanted, found = {}, {}
      for _, place in ipairs(PLACES) do
        if place[2] == h then
          wanted[(place[3] or "default") .. " " .. place[4]] = true
          -- the key that counts for this client lies in this database of this host alone
          for g, other in ipairs(hosts) do
            for database = 0, 1 do
              local keys = table.concat(other:keys(database), "\n") .. "\n"
              assert.equal(g == h and database == place[4],
                           keys:find(place.source, 1, true) ~= nil, place[1] .. keys)
            end
          end
        end
      end
      for _, client in ipairs(host:clients()) do
        found[client.user .. " " .. client.db] = true
      end
      assert.same(wanted, found)
    end
    e:check()
    front:stop()
  end)
end)
