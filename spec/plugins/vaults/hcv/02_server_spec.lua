-- The vault hcv in weir, against a server that follows HashiCorp Vault's documented
-- API: secrets of KV 1 and 2, versions, TLS, a standby, `weir vault`.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local json = require "weir.json"
local servers = require "lib.servers"
local served = require "served"

local TOKEN = served.TOKEN
local ODD = "p@ss # w\"o'rd\\ \n"

describe("the vault hcv", function()
  local s

  before_each(function()
    s = served.new()
  end)

  after_each(function()
    s:stop()
  end)

  it("reads secrets of KV 1", function()
    s:serve({ mounts = { secret = { version = 1, secrets = {
      redis = { password = ODD, port = 6379 }, ["teams/a b/token"] = { value = "deep" },
    } } } })
    s:start(s.yml(s:by_token(), "{vault://mine/redis/password}", "{vault://mine/redis/}"))
    assert.equal(ODD, s:ask().body)
    assert.same({ password = ODD, port = 6379 }, json.decode(s:ask("/other").body))
    s:reload(s.yml(s:by_token(), "{vault://mine/teams/a%20b/token/value}"))
    s:until_body("deep")
  end)

  it("reads secrets of KV 2, and their versions", function()
    s:serve({ mounts = { ["kv/two"] = { version = 2, secrets = { redis = {
      { data = { password = "old" } }, { data = { password = "new" } },
    } } } } })
    s:start(s.yml(s:by_token("kv: v2, mount: kv/two"), "{vault://mine/redis/password}",
      "{vault://mine/redis/password#1}"))
    assert.equal("new", s:ask().body)
    assert.equal("old", s:ask("/other").body)
  end)

  it("follows a rotation within its ttl", function()
    s:serve()
    s:start(s.yml(s:by_token()))
    assert.equal("first", s:ask().body)
    s:put("second")
    s:until_body("second", 3)
  end)

  it("reads what is in base64", function()
    s:serve({ mounts = { secret = { version = 1, secrets = {
      redis = { password = "AAEC/w==", user = "not base64!" } } } } })
    s:start(s.yml(s:by_token("base64_decode: true")))
    assert.equal("\0\1\2\255", s:ask().body)
  end)

  it("finds its config in weir.conf, and its token in another vault", function()
    s:serve()
    local vars = { THE_TOKEN = TOKEN .. "\n" }
    s:start(s.yml("{ token: x }", "{vault://hcv/redis/password}"), {
      vault_hcv_port = s.hcv.port, vault_hcv_token = "{vault://env/the-token}",
    }, vars)
    assert.equal("first", s:ask().body)
    local out, code = s.w:command("vault", { args = { "get", "{vault://hcv/redis/password}" },
                                             vars = vars })
    assert.same({ 0, "first\n" }, { code, out })
  end)

  it("takes its config from the reference", function()
    s:serve({ auth = { approle = { roles = { web = { role_id = "role-1",
                                                     bind_secret_id = false } } } } })
    s:start(s.yml("{ token: x }", ("{vault://hcv/redis/password?auth_method=approle&port=%d"
      .. "&approle_role_id=role-1&approle_secret_id_file=/proc/self/comm&unknown=x}"):format(
      s.hcv.port)))
    assert.equal("first", s:ask().body)
  end)

  it("is asked and listed by weir vault", function()
    s:serve()
    s:start(s.yml(s:by_token()))
    local function vault(...)
      local out, code = s.w:command("vault", { args = { ... } })
      return { code, out }
    end
    assert.same({ 0, "first\n" }, vault("get", "{vault://mine/redis/password}"))
    assert.same({ 0, '{"password":"first"}\n' }, vault("get", "mine/redis/"))
    local failed = vault("get", "{vault://mine/nowhere/password}")
    assert.not_equal(0, failed[1])
    assert.truthy(failed[2]:find("there is no such secret (mount secret, kv v1)", 1, true))
    local list = vault("list")
    assert.equal(0, list[1])
    assert.truthy(list[2]:find("{vault://mine/redis/password}", 1, true))
    assert.is_nil(list[2]:find("first", 1, true))
  end)

  it("goes where a standby sends it, once", function()
    s:serve()
    local active = s.hcv
    s:serve({ standby = true, standby_redirect = active.url })
    s:start(s.yml(s:by_token()))
    assert.equal("first", s:ask().body)
    assert.equal(1, #active:log("^GET /v1/secret/redis$"))
    s.w:expect_log("HashiCorp Vault answers 307; the last value stays")
    active:set({ standby = true, standby_redirect = s.hcv.url })
    assert(s.w:wait_log("the last value stays"))
  end)

  local function serve_tls(more)
    local files = servers.certificates(s.e)
    local role = { allowed_common_names = { "weir-client" } }
    s:serve({ auth = { cert = { roles = { web = role } } } }, {
      tls = { cert = files.cert, key = files.key, client_ca = more and files.ca },
    })
    return files
  end

  it("verifies the server's certificate by the authorities of its config", function()
    local files = serve_tls()
    s:start(s.yml(s:by_token("protocol: https, ca_file: '" .. files.ca .. "'")))
    assert.equal("first", s:ask().body)
    s:reload(s.yml(s:by_token("protocol: https, ca_file: '" .. files.other_ca .. "'")))
    s.w:expect_log("HashiCorp Vault: certificate of 127%.0%.0%.1:%d+: .*; it has no value")
    assert(s.w:wait_log("it has no value"))
    s:reload(s.yml(s:by_token("protocol: https, ssl_verify: false")))
    s:until_body("first")
  end)

  it("does not talk TLS to what does not, nor the other way round", function()
    s:serve()
    s:start(s.yml(s:by_token("protocol: https")))
    s.w:expect_log("HashiCorp Vault: .*; it has no value")
    assert.equal(503, s:ask().status)
    assert.equal(0, #s.hcv:log("^GET"))
  end)

  it("logs in by a certificate", function()
    local files = serve_tls(true)
    local conf = "protocol: https, ca_file: '" .. files.ca .. "', auth_method: cert, "
      .. "cert_auth_cert: '%s', cert_auth_cert_key: '%s'"
    s:start(s.yml(s:config(conf:format(files.client_cert, files.client_key))))
    assert.equal("first", s:ask().body)
    assert.equal(1, s:logins("cert"))
    s:reload(s.yml(s:config(conf:format(files.other_cert, files.other_key))))
    s.w:expect_log("login by cert: HashiCorp Vault.*; it has no value")
    assert(s.w:wait_log("it has no value"))
  end)
end)
