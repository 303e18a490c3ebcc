-- FastCGI clients and process managers that others wrote: cgi-fcgi, Perl's
-- Net::FastCGI, spawn-fcgi.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local limits = require "lib.limits"
local net = require "lib.net"
local proc = require "lib.proc"
local upstream = require "lib.upstream"
local weir = require "lib.weir"
local signal = require "posix.signal"

describe("an independent client", function()
  local e, service, w, tcp

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    tcp = "127.0.0.1:" .. e:port()
    w = weir.new(e, { yml = limits.sample_yml(service.url), conf = { fastcgi_listen = tcp } })
    w:start()
  end)

  teardown(function()
    w:stop()
    e:destroy()
  end)

  after_each(function()
    e:check()
  end)

  it("is cgi-fcgi of libfcgi", function()
    local client = env.client()
    local address = "127.0.0.1:" .. e:port()
    -- it puts each piece of a record's header where the first one belongs
    local whole = weir.new(e, { name = "whole", prefix = "whole", whole_writes = true,
                                yml = limits.sample_yml(service.url),
                                conf = { fastcgi_listen = address } })
    whole:start()
    limits.assert_six(function()
      local text, code = proc.run({ "cgi-fcgi", "-bind", "-connect", address }, { env = {
        REQUEST_METHOD = "GET", REQUEST_URI = "/echo", REMOTE_ADDR = client,
        SERVER_PROTOCOL = "HTTP/1.1", SERVER_NAME = "localhost", SERVER_PORT = "80" } })
      assert.equal(0, code)
      return fcgi.parse_response(text)
    end, "hello\n")
    whole:stop()
  end)

  it("is Net::FastCGI, two requests at once on one connection", function()
    local client = env.client()
    local host, port = tcp:match("(.+):(%d+)")
    local text, code = proc.run({ "perl", env.srcdir .. "/spec/fixtures/client.pl", host, port,
                                  client })
    assert.equal(0, code, text)
    env.stay_clear(60)
    local remaining = {}
    for status, left in text:gmatch("id %d+ status (%d+) remaining (%d+) end 0/0\n") do
      assert.equal("200", status)
      remaining[#remaining + 1] = left
    end
    table.sort(remaining)
    assert.same({ "3", "4" }, remaining)
  end)

  it("is whoever answers to spawn-fcgi's socket", function()
    local spawned = weir.new(e, { name = "spawned", yml = limits.sample_yml(service.url),
                                  conf = { fastcgi_listen = "stdin" } })
    local vars = weir.mode_environment()
    vars.WEIR_SPEC_DIR = e.dir
    local p = e:spawn({ "spawn-fcgi", "-n", "-s", spawned.socket, "-M", "0666", "--", weir.bin,
                        "start", "--foreground", "-c", spawned.conf_path }, { env = vars })
    assert(env.wait_listening(spawned.unix, p), e:read("log/spawn-fcgi.out"))
    local client = env.client()
    limits.assert_six(function()
      return fcgi.once(spawned.unix, { params = { REMOTE_ADDR = client } })
    end, "hello\n")
    assert.is_true(p:stop(signal.SIGTERM))
    assert.equal(0, p.code)
    assert.same({}, proc.children(p.pid))
    net.sleep(0.05)
    assert.same({}, proc.belonging_to(spawned.conf_path))
  end)
end)
