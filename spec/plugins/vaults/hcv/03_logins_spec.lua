-- Logins of the vault hcv: each method, and tokens that are renewed, end, are
-- revoked or refused.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local net = require "lib.net"
local served = require "served"

local TOKEN, SECRET_ID, JWT, OLD_S = served.TOKEN, served.SECRET_ID, served.JWT, served.OLD_S

describe("the vault hcv", function()
  local s

  before_each(function()
    s = served.new()
  end)

  after_each(function()
    s:stop()
  end)

  it("logs in by AppRole once for all that it reads", function()
    s:serve_role()
    s.hcv:set({ mounts = { secret = { secrets = { other = { word = "two" } } } } })
    s:start(s.yml(s:by_role(), "{vault://mine/redis/password}", "{vault://mine/other/word}"))
    assert.equal("first", s:ask().body)
    assert.equal("two", s:ask("/other").body)
    s:put("second")
    s:until_body("second")
    assert.equal(1, s:logins())
  end)

  it("reads a secret id from a file, at each login", function()
    s:serve_role()
    local path = s.e:write("tmp/secret-id", SECRET_ID .. "\n")
    s:start(s.yml(s:by_role("approle_secret_id_file: '" .. path .. "'")))
    assert.equal("first", s:ask().body)
    s.e:write("tmp/secret-id", "the-next-id")
    s.hcv:set({ auth = { approle = { roles = { web = { secret_ids = { "the-next-id" } } } } } })
    net.sleep(OLD_S)
    s.hcv:call("revoke")
    s:put("second")
    s:until_body("second")
    assert.equal(2, s:logins())
    s.told[#s.told + 1] = "the-next-id"
  end)

  it("unwraps a secret id, once", function()
    s:serve_role()
    s.hcv:set({ wrapped = { ["hvs.wrapping"] = { secret_id = SECRET_ID } } })
    s:start(s.yml(s:by_role("approle_secret_id: hvs.wrapping, approle_response_wrapping: true")))
    assert.equal("first", s:ask().body)
    net.sleep(OLD_S)
    s.hcv:call("revoke")
    s:put("second")
    s:until_body("second")
    assert.equal(2, s:logins())
    assert.equal(1, #s.hcv:log("^POST /v1/sys/wrapping/unwrap$"))
  end)

  it("logs in at another mount, in a namespace", function()
    s:serve({ namespaces = { team = {
      mounts = { secret = { version = 1, secrets = { redis = { password = "first" } } } },
      auth = { ["my/role"] = { type = "approle", roles = { web = {
        role_id = "role-1", secret_ids = { SECRET_ID } } } } },
    } } })
    s:start(s.yml(s:by_role("approle_secret_id: '" .. SECRET_ID
      .. "', approle_auth_path: my/role, namespace: team")))
    assert.equal("first", s:ask().body)
    assert.equal(1, s:logins("my/role"))
  end)

  it("logs in by a token of Kubernetes, read at each login", function()
    s:serve({ auth = { ["k8s-east"] = { type = "kubernetes", roles = { web = {
      jwts = { JWT }, token_ttl = 600 } } } } })
    local path = s.e:write("tmp/jwt", JWT)
    s:start(s.yml(s:config("auth_method: kubernetes, kube_role: web, kube_auth_path: k8s-east, "
      .. "kube_api_token_file: '" .. path .. "'")))
    assert.equal("first", s:ask().body)
    s.e:write("tmp/jwt", "the.next.jwt")
    s.hcv:set({ auth = { ["k8s-east"] = { roles = { web = { jwts = { "the.next.jwt" } } } } } })
    net.sleep(OLD_S)
    s.hcv:call("revoke")
    s:put("second")
    s:until_body("second")
    assert.equal(2, s:logins("k8s%-east"))
  end)

  it("does not mix vaults with different credentials", function()
    s:serve({ tokens = { ["hvs.one"] = { paths = { "secret/redis" } },
                       ["hvs.two"] = { paths = { "secret/other" } } } })
    s.hcv:set({ mounts = { secret = { secrets = { other = { word = "two" } } } } })
    s:start(s.yml({ mine = s:config("token: hvs.one"), his = s:config("token: hvs.two") },
      "{vault://mine/redis/password}", "{vault://his/other/word}"))
    assert.equal("first", s:ask().body)
    assert.equal("two", s:ask("/other").body)
  end)

  it("renews a token before it ends", function()
    s:serve_role({ token_ttl = 2 })
    s:start(s.yml(s:by_role()))
    net.sleep(4.5)
    s:put("second")
    s:until_body("second")
    assert.equal(1, s:logins())
    assert.truthy(#s.hcv:log("^POST /v1/auth/token/renew%-self$") >= 2)
  end)

  it("logs in anew when renewal ends", function()
    s:serve_role({ token_ttl = 2, token_max_ttl = 3 })
    s:start(s.yml(s:by_role()))
    net.sleep(5)
    s:put("second")
    s:until_body("second")
    assert.truthy(s:logins() >= 2 and s:logins() <= 4)
  end)

  it("logs in anew when the token was revoked", function()
    s:serve_role()
    s:start(s.yml(s:by_role()))
    net.sleep(OLD_S)
    s.hcv:call("revoke")
    s:put("second")
    s:until_body("second")
    assert.equal(2, s:logins())
  end)

  it("renews a token that stands in the config", function()
    s:serve({ tokens = { [TOKEN] = { ttl = 4 } } })
    s:start(s.yml(s:by_token()))
    net.sleep(6)
    s:put("second")
    s:until_body("second")
    assert.equal(1, #s.hcv:log("^GET /v1/auth/token/lookup%-self$"))
  end)

  it("says when such a token cannot be renewed", function()
    s:serve({ tokens = { [TOKEN] = { ttl = 3, renewable = false } } })
    s:start(s.yml(s:by_token()))
    assert(s.w:wait_log("%[notice%].* the token for 127%.0%.0%.1:%d+ ends in %d s, and cannot"))
    s.w:expect_log("HashiCorp Vault answers 403: permission denied; the last value stays")
    assert(s.w:wait_log("the last value stays"))
    assert.equal("first", s:ask().body)
  end)

  it("says when such a token is not renewed any longer", function()
    s:serve({ tokens = { [TOKEN] = { ttl = 4, max_ttl = 6 } } })
    s:start(s.yml(s:by_token()))
    s.w:expect_log("the token for 127%.0%.0%.1:%d+ ends in %d s, and cannot be renewed beyond that")
    assert(s.w:wait_log("cannot be renewed beyond that", 10)) -- at the second renewal
    assert.equal("first", s:ask().body)
  end)

  it("takes a token for one use", function()
    s:serve({ tokens = { [TOKEN] = { num_uses = 1 } } })
    s:start(s.yml("{ port: " .. s.hcv.port .. ", token: '" .. TOKEN .. "' }"))
    net.sleep(1.5)
    assert.equal("first", s:ask().body)
  end)

  it("does not log in without end where it is refused", function()
    s:serve_role({ secret_ids = {} })
    s:start(s.yml(s:by_role()))
    s.w:expect_log("{vault://mine/redis/password}: login by approle: HashiCorp Vault answers 400: "
      .. "invalid role or secret ID; it has no value")
    net.sleep(3)
    assert.equal(503, s:ask().status)
    assert.truthy(s:logins() <= 3)
    s.hcv:set({ auth = { approle = { roles = { web = { secret_ids = { SECRET_ID } } } } } })
    s:until_body("first", 8)
  end)

  it("does not log in again for what its policies do not allow", function()
    s:serve_role({ paths = { "secret/other", "auth/token/lookup-self" } })
    s:start(s.yml(s:by_role()))
    s.w:expect_log("HashiCorp Vault answers 403: permission denied; it has no value")
    net.sleep(4)
    assert.equal(1, s:logins())
  end)
end)
