-- What the vault hcv says when it has no secret, or cannot log in; and that a value
-- stays while the server is sealed or away.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local json = require "weir.json"
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

  local MISSING = "there is no such secret %(mount secret, kv v1%)"

  for name, example in pairs({
    ["a token that nobody gave"] = { why = "HashiCorp Vault answers 403: permission denied",
      state = { tokens = { [TOKEN] = json.null } } },
    ["a secret that is not there"] = { why = MISSING, word = "{vault://mine/nowhere/x}" },
    ["a member that is not there"] = { why = "subfield x not found in JSON secret",
      word = "{vault://mine/redis/x}" },
    ["a mount that is not there"] = { why = "HashiCorp Vault answers 404: no handler for route",
      more = "mount: nowhere" },
    ["an engine of the other version"] = {
      why = "HashiCorp Vault answers 404: Invalid path for a versioned K/V secrets engine; "
        .. "set kv: v2", state = { mounts = { secret = { version = 2 } } } },
    ["an engine of the older version"] = { more = "kv: v2",
      why = "there is no such secret %(mount secret, kv v2%)" },
    ["a version of KV 1"] = { word = "{vault://mine/redis/password#1}",
      why = "KV version 1 keeps no versions: #1 needs an engine and a config with kv: v2" },
    ["a version that was deleted"] = { more = "kv: v2, mount: two",
      word = "{vault://mine/redis/password#1}", why = "version 1 was deleted" },
    ["a version that was destroyed"] = { more = "kv: v2, mount: two",
      word = "{vault://mine/redis/password#2}", why = "version 2 was destroyed" },
    ["a newest version that was deleted"] = { more = "kv: v2, mount: two",
      word = "{vault://mine/gone/password}", why = "the newest version was deleted" },
    ["a version that never was"] = { more = "kv: v2, mount: two",
      word = "{vault://mine/redis/password#9}",
      why = "there is no such secret or version %(mount two, kv v2%)" },
    ["a name that leads elsewhere"] = { word = "{vault://mine/..%2F..%2Fsys/health/x}",
      why = "the secret's name must not have %. or %.%. as a part" },
    ["a sealed server"] = { why = "HashiCorp Vault answers 503: Vault is sealed",
      state = { sealed = true } },
    ["too many requests"] = { why = "HashiCorp Vault answers 429: rate limit quota exceeded",
      fault = { status = 429,
        body = '{"errors":["request path \\"secret/redis\\": rate limit quota exceeded"]}' } },
    ["a page in HTML"] = { why = "HashiCorp Vault answers 502",
      fault = { status = 502, body = "<html>" .. TOKEN .. "</html>" } },
    ["garbage"] = { why = "HashiCorp Vault answers something that is no JSON",
      fault = { garbage = true } },
    ["another form"] = { why = "HashiCorp Vault answers without a secret: is the mount of kind "
        .. "kv v1%?", fault = { body = '{"data":7,"first":"' .. TOKEN .. '"}' } },
    ["nothing at all"] = { fault = { drop = true }, why = "HashiCorp Vault: .*" },
    ["half of an answer"] = { fault = { cut = 5, reset = true }, why = "HashiCorp Vault: .*" },
    ["too much"] = { fault = { huge = 3 * 1024 * 1024 },
      why = "HashiCorp Vault: more than 1048576 bytes" },
    ["no answer"] = { fault = { hang = true }, why = "HashiCorp Vault: timeout", slow = true },
    ["a drip"] = { fault = { drip = { bytes = 1, s = 0.5 } }, why = "HashiCorp Vault: timeout",
      slow = true },
    ["a redirection to nowhere"] = { fault = { status = 307 },
      why = "HashiCorp Vault answers 307 without saying where to" },
    ["a redirection to TLS"] = {
      fault = { status = 307, headers = { Location = "https://127.0.0.1:1/v1/secret/redis" } },
      why = "HashiCorp Vault answers 307 to another protocol than http" },
    ["a redirection elsewhere"] = {
      fault = { status = 302, headers = { Location = "http://127.0.0.1:1/v1/secret/redis" } },
      why = "HashiCorp Vault answers 302" },
  }) do
    it("says when it has no secret: " .. name, function()
      s:serve()
      s.hcv:set({ mounts = { two = { version = 2, secrets = {
        redis = { { data = { password = "first" }, deleted = true },
                  { data = { password = "first" }, destroyed = true },
                  { data = { password = "first" } } },
        gone = { { data = { password = "first" }, deleted = true } },
      } } } })
      s.hcv:set(example.state or {})
      s.hcv:faults(example.fault and { example.fault } or {})
      s:start(s.yml(s:by_token(example.more), example.word or "{vault://mine/redis/password}"))
      s.w:expect_log("{vault://mine/[^}]*}: " .. example.why .. "; it has no value")
      if example.slow then
        s.w:expect_log("not found within 5 s; requests are served without it", "maybe")
        assert(s.w:wait_log("it has no value", 8))
      end
      assert.equal(503, s:ask().status)
    end)
  end

  for name, example in pairs({
    ["a role that nobody has"] = { more = "auth_method: approle, approle_role_id: other, "
        .. "approle_secret_id: " .. SECRET_ID,
      why = "login by approle: HashiCorp Vault answers 400: invalid role or secret ID" },
    ["no file of the secret id"] = { more = "auth_method: approle, approle_role_id: role-1, "
        .. "approle_secret_id_file: /nowhere/id",
      why = "login by approle: approle_secret_id_file: /nowhere/id: No such file or directory" },
    ["a wrapping token that was used"] = { more = "auth_method: approle, approle_role_id: role-1, "
        .. "approle_secret_id: hvs.used, approle_response_wrapping: true",
      why = "login by approle: unwrapping the secret id: HashiCorp Vault answers 400: "
        .. "wrapping token is not valid or does not exist" },
    ["no token of a service account"] = { more = "auth_method: kubernetes, kube_role: web, "
        .. "kube_api_token_file: /nowhere/token",
      why = "login by kubernetes: kube_api_token_file: /nowhere/token: No such file or directory" },
    ["a role of Kubernetes that is not there"] = {
      more = "auth_method: kubernetes, kube_role: other, kube_api_token_file: JWT",
      why = "login by kubernetes: HashiCorp Vault answers 400: invalid role name" },
    ["a service account that may not"] = {
      more = "auth_method: kubernetes, kube_role: web, kube_api_token_file: JWT",
      why = "login by kubernetes: HashiCorp Vault answers 403: permission denied" },
  }) do
    it("says when it cannot log in: " .. name, function()
      s:serve_role()
      s.hcv:set({ auth = { kubernetes = { roles = { web = { jwts = { "another" } } } } } })
      s:start(s.yml(s:config((example.more:gsub("JWT", s.e:write("tmp/jwt", JWT)))),
        "{vault://mine/redis/password}"))
      s.w:expect_log("{vault://mine/redis/password}: " .. example.why .. "; it has no value")
      assert.equal(503, s:ask().status)
    end)
  end

  it("keeps the last value while the server is sealed, and says so once", function()
    s:serve_role()
    s:start(s.yml(s:by_role()))
    assert.equal("first", s:ask().body)
    s.w:expect_log("HashiCorp Vault answers 503: Vault is sealed; the last value stays")
    s.hcv:set({ sealed = true })
    assert(s.w:wait_log("the last value stays"))
    net.sleep(1.5)
    assert.equal("first", s:ask().body)
    s.hcv:set({ sealed = json.null })
    s:put("second")
    s:until_body("second")
    assert.equal(1, s:logins())
  end)

  it("keeps the last value while the server is away, and logs in to one that forgot", function()
    s:serve_role()
    s:start(s.yml(s:by_role()))
    assert.equal("first", s:ask().body)
    s.w:expect_log("cannot connect to 127%.0%.0%.1:%d+: Connection refused; the last value stays")
    s.hcv:stop()
    assert(s.w:wait_log("the last value stays"))
    net.sleep(OLD_S)
    s.hcv:start()
    s:put("second")
    s:until_body("second")
  end)
end)
