-- The vault hcv: what it asks HashiCorp Vault, what it makes of the answers, which
-- tokens it keeps and for how long, and what its schema wants.

local answers = require("answers")
local http = require("weir.http")
local json = require("weir.json")
local loader = require("weir.vault.loader")
local vault_entities = require("weir.entities.vaults")

local asked = answers.asked

-- timers that were set: { delay_s, fn, ... }
local timers = {}
require("weir.timer").start = function(delay_s, fn, ...)
  timers[#timers + 1] = { delay_s, fn, ... }
end

local types, errors = loader.load({ "plugins" }, { "hcv" })
assert.same({}, errors)
local hcv = types.hcv.strategy

local serial = 0

-- A vault's config with credentials of its own, so that no token is kept for it.
local function config(changes)
  serial = serial + 1
  local conf = assert(types.hcv.schema:accept({
    name = "hcv", prefix = "hc-v", config = { token = "hvs." .. serial },
  })).config
  for name, value in pairs(conf) do
    if value == json.null then
      conf[name] = nil
    end
  end
  for name, value in pairs(changes or {}) do
    conf[name] = value or nil
  end
  return conf
end

local function by_role(changes)
  local conf = config({ auth_method = "approle", approle_role_id = "role-" .. serial,
                        approle_secret_id = "secret" })
  for name, value in pairs(changes or {}) do
    conf[name] = value
  end
  return conf
end

local function reply_secret(data)
  answers.reply(200, { data = data or { password = "x" }, lease_duration = 2764800 })
end

local function reply_login(token, lease_s, renewable)
  answers.reply(200, { auth = {
    client_token = token, lease_duration = lease_s or 600, renewable = renewable ~= false,
  } })
end

-- Runs the newest timer, after the time that it waits for.
local function run_timer()
  local timer = table.remove(timers)
  answers.advance(timer[1])
  timer[2](unpack(timer, 3))
  return timer[1]
end

-- the targets of what was asked, from the first on or another
local function targets(first)
  local out = {}
  for i = first or 1, #asked do
    out[#out + 1] = (asked[i].method or "GET") .. " " .. asked[i].url:match("/v1(/.*)$")
  end
  return out
end

local READ, LOGIN = "GET /secret/s", "POST /auth/approle/login"
local LOOK, RENEW = "GET /auth/token/lookup-self", "POST /auth/token/renew-self"

before_each(function()
  answers.reset()
  for i = #timers, 1, -1 do
    timers[i] = nil
  end
end)

describe("the vault hcv asks", function()
  it("for a secret of KV 1", function()
    reply_secret({ password = "p # w\n", port = 6379 })
    local value, err, ttl_s = hcv.get(config({ token = " hvs.padded\n" }), "redis")
    assert.same({ password = "p # w\n", port = 6379 }, json.decode(value))
    assert.same({ nil, 2764800 }, { err, ttl_s })
    assert.equal("http://127.0.0.1:8200/v1/secret/redis", asked[1].url)
    assert.is_nil(asked[1].method)
    assert.same({ ["X-Vault-Token"] = "hvs.padded", ["X-Vault-Request"] = "true" },
      asked[1].headers)
    assert.is_true(asked[1].ssl_verify)
  end)

  it("for a secret of KV 2, whose ttl it leaves to the config", function()
    answers.reply(200, { data = { data = { p = "x" }, metadata = {} }, lease_duration = 5 })
    local conf = config({ kv = "v2", mount = "/kv/two/", namespace = "admin/team",
                          protocol = "https", host = "::1", port = 8300, ca_file = "/ca.pem" })
    assert.same({ '{"p":"x"}' }, { hcv.get(conf, "a/b c", 3) })
    assert.equal("https://[::1]:8300/v1/kv/two/data/a/b%20c?version=3", asked[1].url)
    assert.equal("admin/team", asked[1].headers["X-Vault-Namespace"])
    assert.equal("/ca.pem", asked[1].ca_file)
    assert.is_nil(asked[1].cert_file)
  end)

  it("for nothing outside of the mount", function()
    for _, name in ipairs({ "..", "../sys/mounts", "a/./b", "a/.." }) do
      assert.same({ nil, "the secret's name must not have . or .. as a part" },
        { hcv.get(config(), name) })
    end
    assert.same({ nil, "mount must not have . or .. as a part" },
      { hcv.get(config({ mount = "x/.." }), "s") })
    assert.same({ nil, "mount is empty" }, { hcv.get(config({ mount = "//" }), "s") })
    reply_secret()
    hcv.get(config(), "a?version=1#x%2e%2e")
    assert.equal("http://127.0.0.1:8200/v1/secret/a%3Fversion%3D1%23x%252e%252e", asked[1].url)
    assert.equal(1, #asked)
  end)

  it("for no version of KV 1", function()
    local value, err = hcv.get(config(), "s", 1)
    assert.is_nil(value)
    assert.truthy(err:find("KV version 1 keeps no versions", 1, true))
    assert.equal(0, #asked)
  end)

  it("and decodes what is base64", function()
    reply_secret({ a = "AP8=", b = "no base64!", c = 5 })
    assert.same({ a = "\0\255", c = 5 },
      json.decode((hcv.get(config({ base64_decode = true }), "s"))))
  end)
end)

describe("the vault hcv follows", function()
  local request = http.request
  local locations

  before_each(function()
    locations = {}
    http.request = function(options)
      local response, err = request(options)
      if response then
        response.headers.location = table.remove(locations, 1)
      end
      return response, err
    end
  end)

  after_each(function()
    http.request = request
  end)

  it("one redirection, to the same path elsewhere", function()
    locations = { "http://active:8200/v1/sys/raw/x?y#z" }
    answers.reply(307)
    reply_secret()
    assert.equal('{"password":"x"}', (hcv.get(config(), "s")))
    assert.equal("http://active:8200/v1/secret/s", asked[2].url)
    assert.equal(asked[1].headers["X-Vault-Token"], asked[2].headers["X-Vault-Token"])
  end)

  it("no other", function()
    for location, why in pairs({
      ["https://active:8200/v1/secret/s"] = "307 to another protocol than http",
      ["ftp://active/v1/secret/s"] = "307 without saying where to",
      ["//active/v1/secret/s"] = "307 without saying where to",
      ["/v1/secret/s"] = "307 without saying where to",
      ["http://a@active/v1/secret/s"] = "307 without saying where to",
      ["http://active/v2/secret/s"] = "307 without saying where to",
    }) do
      answers.reset()
      locations = { location }
      answers.reply(307)
      assert.same({ nil, "HashiCorp Vault answers " .. why }, { hcv.get(config(), "s") })
      assert.equal(1, #asked)
    end
    answers.reset()
    locations = { "http://127.0.0.1/v1/", "http://127.0.0.1/v1/" }
    answers.reply(307)
    answers.reply(307)
    assert.same({ nil, "HashiCorp Vault answers 307" }, { hcv.get(config(), "s") })
  end)

  it("none from TLS to none", function()
    locations = { "http://active:8200/v1/secret/s" }
    answers.reply(307)
    assert.same({ nil, "HashiCorp Vault answers 307 to another protocol than https" },
      { hcv.get(config({ protocol = "https" }), "s") })
    assert.equal(1, #asked)
  end)
end)

describe("the vault hcv says", function()
  it("what it knows of an error, and nothing else", function()
    for body, said in pairs({
      ['{"errors":["permission denied"]}'] = ": permission denied",
      ['{"errors":["2 errors occurred:\\n\\t* permission denied\\n\\t* invalid token\\n\\n"]}'] =
        ": permission denied, invalid token",
      ['{"errors":["hunter2 is no good"]}'] = "",
      ['{"errors":"permission denied"}'] = "",
      ['{"errors":[7,{"a":"permission denied"}]}'] = "",
      ["<html>permission denied</html>"] = "",
      ["[]"] = "", ["7"] = "", [""] = "",
    }) do
      answers.reply(400, body)
      assert.same({ nil, "HashiCorp Vault answers 400" .. said }, { hcv.get(config(), "s") })
    end
  end)

  it("that an answer is no secret", function()
    for body, why in pairs({
      ["<html>"] = "answers something that is no JSON", ["7"] = "answers something that is no JSON",
      ["{}"] = "answers without a secret: is the mount of kind kv v2?",
      ['{"data":{"data":7}}'] = "answers without a secret: is the mount of kind kv v2?",
      ['{"data":{"password":"x"}}'] = "answers without a secret: is the mount of kind kv v2?",
    }) do
      answers.reply(200, body)
      assert.same({ nil, "HashiCorp Vault " .. why }, { hcv.get(config({ kv = "v2" }), "s") })
    end
  end)

  it("that a secret is not there", function()
    answers.reply(404, { errors = {} })
    assert.same({ nil, "there is no such secret (mount secret, kv v1)" },
      { hcv.get(config(), "s") })
    answers.reply(404, { data = { data = json.null, metadata = { destroyed = false } } })
    assert.same({ nil, "the newest version was deleted" },
      { hcv.get(config({ kv = "v2" }), "s", 0) })
  end)
end)

describe("a login of the vault hcv", function()
  it("shows what its method has", function()
    local path = os.tmpname()
    local file = io.open(path, "w")
    file:write(" from.the.file \n")
    file:close()
    for _, example in ipairs({
      { by_role({ approle_role_id = "r" }), "/auth/approle/login",
        { role_id = "r", secret_id = "secret" } },
      { config({ auth_method = "approle", approle_role_id = "r", approle_auth_path = "my role/x",
                 approle_secret_id_file = path }), "/auth/my%20role/x/login",
        { role_id = "r", secret_id = "from.the.file" } },
      { config({ auth_method = "kubernetes", kube_role = "k", kube_api_token_file = path }),
        "/auth/kubernetes/login", { role = "k", jwt = "from.the.file" } },
      { config({ auth_method = "cert", protocol = "https", cert_auth_cert = "/c",
                 cert_auth_cert_key = "/k", cert_auth_role_name = "web" }),
        "/auth/cert/login", { name = "web" } },
      { config({ auth_method = "cert", protocol = "https", cert_auth_cert = "/c",
                 cert_auth_cert_key = "/k", cert_auth_path = "other" }),
        "/auth/other/login", {} },
    }) do
      answers.reset()
      reply_login("hvs.new")
      reply_secret()
      local conf = example[1]
      assert(hcv.get(conf, "s"))
      assert.same({ "POST " .. example[2], READ }, targets())
      assert.same(example[3], json.decode(asked[1].body))
      assert.is_nil(asked[1].headers["X-Vault-Token"])
      assert.equal("hvs.new", asked[2].headers["X-Vault-Token"])
      assert.same({ conf.cert_auth_cert, conf.cert_auth_cert_key },
        { asked[1].cert_file, asked[1].key_file })
    end
    os.remove(path)
  end)

  it("is needed once for as long as its token is good", function()
    local conf = by_role()
    reply_login("hvs.a", 100, false)
    reply_secret()
    assert(hcv.get(conf, "s"))
    answers.advance(85)
    reply_secret()
    assert(hcv.get(conf, "s"))
    answers.advance(10) -- so near to its end, it is not used
    reply_login("hvs.b", 0)
    reply_secret()
    assert(hcv.get(conf, "s"))
    answers.advance(1e6)
    reply_secret()
    assert(hcv.get(conf, "s"))
    assert.same({ LOGIN, READ, READ, LOGIN, READ, READ }, targets())
    assert.equal(0, #timers) -- the one cannot be renewed, the other does not end
  end)

  it("is not good for longer, nor put off for longer, because the clock is set back", function()
    local conf = by_role()
    reply_login("hvs.a", 100, false)
    reply_secret()
    assert(hcv.get(conf, "s"))
    answers.step(-3600)
    answers.advance(95)
    hcv.get(conf, "s") -- nobody answers
    assert.equal(LOGIN, targets()[3])
    answers.step(-3600)
    answers.advance(1)
    reply_login("hvs.b", 0)
    reply_secret()
    assert(hcv.get(conf, "s"))
    assert.same({ LOGIN, READ, LOGIN, LOGIN, READ }, targets())
  end)

  it("is one for all that need it at the same time, and for each set of inputs", function()
    local conf, other = by_role(), by_role()
    other.approle_role_id, other.ttl = conf.approle_role_id, 5
    local third = by_role()
    local got = {}
    answers.waits = true
    for i, one in ipairs({ conf, other, third }) do
      got[i] = coroutine.create(function()
        got[i] = hcv.get(one, "s") or "nothing"
      end)
    end
    local waiting = { unpack(got) }
    reply_login("hvs.a")
    reply_login("hvs.b")
    for _ = 1, 3 do
      reply_secret()
    end
    for _ = 1, 5 do
      for _, one in ipairs(waiting) do
        if coroutine.status(one) == "suspended" then
          assert(coroutine.resume(one))
        end
      end
    end
    assert.same({ '{"password":"x"}', '{"password":"x"}', '{"password":"x"}' }, got)
    table.sort(asked, function(a, b) return a.url < b.url end)
    assert.same({ LOGIN, LOGIN, READ, READ, READ }, targets())
  end)

  it("that is refused is not repeated at once", function()
    local conf = by_role()
    local why = { nil, "login by approle: HashiCorp Vault answers 400: invalid role or secret ID",
                  true }
    for _, pause_s in ipairs({ 1, 2, 4, 8, 16, 32, 60, 60 }) do
      answers.reply(400, { errors = { "invalid role or secret ID" } })
      assert.same(why, { hcv.get(conf, "s") })
      local n = #asked
      answers.advance(pause_s - 0.5)
      assert.same(why, { hcv.get(conf, "s") })
      assert.equal(n, #asked)
      answers.advance(0.5)
    end
    conf.approle_secret_id = "another" -- what it shows is new: that may be tried at once
    answers.reply(400, { errors = { "invalid role or secret ID" } })
    hcv.get(conf, "s")
    reply_login("hvs.a")
    reply_secret()
    answers.advance(1)
    assert(hcv.get(conf, "s"))
  end)

  it("that did not come about is repeated", function()
    local conf = by_role()
    for _, status in ipairs({ 429, 500, 503 }) do
      answers.reply(status, "{}")
      local why = { nil, "login by approle: HashiCorp Vault answers " .. status }
      for _ = 1, 100 do -- at once it is not, for others whose secrets need it too
        assert.same(why, { hcv.get(conf, "s") })
      end
      answers.advance(1)
    end
    assert.equal(3, #asked)
    for _, body in ipairs({ { auth = {} }, { auth = { client_token = "" } },
                            { auth = { client_token = "a\r\nb" } }, {} }) do
      answers.reply(200, body)
      assert.same({ nil, "login by approle: HashiCorp Vault answers without a token" },
        { hcv.get(conf, "s") })
      answers.advance(1)
    end
  end)

  it("unwraps a secret id by its token, once", function()
    local conf = by_role({ approle_secret_id = "hvs.wrap", approle_response_wrapping = true })
    answers.reply(200, { data = { secret_id = "inside" } })
    reply_login("hvs.a", 10, false)
    reply_secret()
    assert(hcv.get(conf, "s"))
    answers.advance(10)
    reply_login("hvs.b")
    reply_secret()
    assert(hcv.get(conf, "s"))
    assert.same({ "POST /sys/wrapping/unwrap", LOGIN, READ, LOGIN, READ }, targets())
    assert.equal("hvs.wrap", asked[1].headers["X-Vault-Token"])
    assert.equal("inside", json.decode(asked[2].body).secret_id)
    assert.equal("inside", json.decode(asked[4].body).secret_id)
  end)
end)

describe("a token of the vault hcv", function()
  local function start(conf, token, lease_s)
    reply_login(token, lease_s)
    reply_secret()
    assert(hcv.get(conf, "s"))
    return conf
  end

  it("is renewed when two thirds of its time are over, for as long as that helps", function()
    local conf = start(by_role(), "hvs.a", 90)
    reply_login("hvs.a", 90)
    assert.equal(60, run_timer())
    assert.same({ LOGIN, READ, RENEW }, targets())
    assert.equal("hvs.a", asked[3].headers["X-Vault-Token"])
    reply_login("hvs.a", 30) -- it ends when it would have ended: its last time
    run_timer()
    assert.equal(0, #timers)
    answers.advance(28)
    start(conf, "hvs.b", 90)
    assert.equal(LOGIN, targets()[5])
  end)

  it("is renewed again when the server did not answer", function()
    start(by_role(), "hvs.a", 90)
    answers.reply(503, "{}")
    run_timer()
    assert.equal(7.5, timers[1][1])
    run_timer() -- nobody answers
    assert.equal(5.625, timers[1][1])
    reply_login("hvs.a", 90)
    run_timer()
    assert.equal(60, timers[1][1])
  end)

  it("is gone when its renewal is refused", function()
    local conf = start(by_role(), "hvs.a", 90)
    answers.reply(403, { errors = { "permission denied" } })
    run_timer()
    assert.equal(0, #timers)
    start(conf, "hvs.b", 90)
    assert.same({ LOGIN, READ }, targets(4))
  end)

  it("that was refused is replaced once, if it is gone", function()
    local conf = start(by_role(), "hvs.a", 90)
    answers.advance(3)
    answers.reply(403, "{}")
    answers.reply(403, "{}") -- who it is, it may not ask either
    reply_login("hvs.b", 90)
    answers.reply(403, { errors = { "permission denied" } })
    assert.same({ nil, "HashiCorp Vault answers 403: permission denied" }, { hcv.get(conf, "s") })
    assert.same({ READ, LOOK, LOGIN, READ }, targets(3))
    assert.equal("hvs.b", asked[6].headers["X-Vault-Token"])
    answers.reply(403, "{}")
    hcv.get(conf, "s")
    assert.same({ READ }, targets(7)) -- it is too young to be in doubt
    answers.advance(3)
    answers.reply(403, { errors = { "permission denied" } })
    answers.reply(200, { data = {} })
    assert.same({ nil, "HashiCorp Vault answers 403: permission denied" }, { hcv.get(conf, "s") })
    assert.same({ READ, LOOK }, targets(8)) -- it is good, but may not
  end)

  it("that was refused is not replaced where the server has no time to say whether it is gone",
     function()
    local conf = start(by_role(), "hvs.a", 90)
    answers.advance(3)
    for _, status in ipairs({ 429, 503 }) do
      answers.reply(403, { errors = { "permission denied" } })
      answers.reply(status, "{}")
      assert.same({ nil, "HashiCorp Vault answers 403: permission denied" },
        { hcv.get(conf, "s") })
    end
    answers.reply(403, { errors = { "permission denied" } }) -- then nobody answers
    hcv.get(conf, "s")
    assert.same({ READ, LOOK, READ, LOOK, READ, LOOK }, targets(3))
  end)

  it("that was refused, and cannot be replaced, says why not", function()
    local conf = start(by_role(), "hvs.a", 90)
    answers.advance(3)
    answers.reply(403, "{}")
    answers.reply(403, "{}")
    answers.reply(400, { errors = { "invalid role or secret ID" } })
    assert.same({ nil, "login by approle: HashiCorp Vault answers 400: invalid role or secret ID",
                  true }, { hcv.get(conf, "s") })
  end)

  it("of the config is looked at, later, and renewed", function()
    local conf = config()
    reply_secret()
    assert(hcv.get(conf, "s"))
    assert.same({ READ }, targets())
    answers.reply(200, { data = { ttl = 60, renewable = true } })
    assert.equal(1, run_timer())
    reply_login(conf.token, 120)
    assert.equal(40, run_timer())
    assert.same({ READ, LOOK, RENEW }, targets())
    assert.equal(80, timers[1][1])
  end)

  it("of the config that does not end, or may not look at itself, is left alone", function()
    for _, answer in ipairs({ { 200, { data = { ttl = 0 } } }, { 403, "{}" } }) do
      reply_secret()
      assert(hcv.get(config(), "s"))
      answers.reply(unpack(answer))
      run_timer()
      assert.equal(0, #timers)
    end
  end)

  it("of the config that is refused is not replaced, and said to be gone if it is", function()
    local conf = config()
    for status, gone in pairs({ [200] = false, [403] = true, [503] = false }) do
      answers.reply(403, { errors = { "permission denied" } })
      answers.reply(status, { data = {} })
      assert.same({ nil, "HashiCorp Vault answers 403: permission denied", gone or nil },
        { hcv.get(conf, "s") })
    end
    assert.same({ READ, LOOK, READ, LOOK, READ, LOOK }, targets())
  end)

  it("that the config no longer holds is not renewed", function()
    local conf = config()
    reply_secret()
    assert(hcv.get(conf, "s"))
    conf.token = "hvs.the-next"
    reply_secret()
    assert(hcv.get(conf, "s"))
    assert.equal("hvs.the-next", asked[2].headers["X-Vault-Token"])
    local of_the_first = table.remove(timers, 1)
    of_the_first[2](unpack(of_the_first, 3))
    assert.equal(2, #asked)
    answers.reply(200, { data = { ttl = 60, renewable = true } })
    run_timer()
    assert.equal("hvs.the-next", asked[3].headers["X-Vault-Token"])
  end)

  it("that another config holds as well stays", function()
    local conf = config()
    local other = config({ token = conf.token })
    reply_secret()
    reply_secret()
    assert(hcv.get(conf, "s"))
    assert(hcv.get(other, "s"))
    assert.equal(1, #timers)
    conf.token = "hvs.yet-another"
    reply_secret()
    assert(hcv.get(conf, "s"))
    local of_the_first = table.remove(timers, 1)
    answers.reply(200, { data = { ttl = 60, renewable = true } })
    of_the_first[2](unpack(of_the_first, 3))
    assert.equal(other.token, asked[4].headers["X-Vault-Token"])
    assert.equal(LOOK, targets()[4])
  end)
end)

describe("the schema of the vault hcv", function()
  local vaults = vault_entities.new({ hcv = types.hcv.schema })

  local function errors_of(values)
    local _, found = vaults:accept({ name = "hcv", prefix = "hc-v", config = values })
    return found
  end

  it("completes a config", function()
    local conf = config()
    assert.same({ "http", "127.0.0.1", 8200, "secret", "v1", "token", "approle", "kubernetes",
                  "cert", "/run/secrets/kubernetes.io/serviceaccount/token", false, false, true },
      { conf.protocol, conf.host, conf.port, conf.mount, conf.kv, conf.auth_method,
        conf.approle_auth_path, conf.kube_auth_path, conf.cert_auth_path,
        conf.kube_api_token_file, conf.approle_response_wrapping, conf.base64_decode,
        conf.ssl_verify })
  end)

  it("wants what the method needs", function()
    local missing = "required field missing"
    assert.equal(missing, errors_of({}).config.token)
    assert.equal(missing, errors_of({ auth_method = "kubernetes" }).config.kube_role)
    assert.equal(missing, errors_of({ auth_method = "approle",
                                      approle_secret_id = "x" }).config.approle_role_id)
    assert.truthy(errors_of({ auth_method = "approle", approle_role_id = "x" })["@entity"])
    local found = errors_of({ auth_method = "cert" }).config
    assert.same({ missing, missing }, { found.cert_auth_cert, found.cert_auth_cert_key })
    assert.truthy(found.protocol:find("must be https", 1, true))
    for _, good in ipairs({
      { token = "{vault://env/token}" },
      { auth_method = "kubernetes", kube_role = "r" },
      { auth_method = "approle", approle_role_id = "{vault://env/r}",
        approle_secret_id = "{vault://env/s}" },
      { auth_method = "approle", approle_role_id = "r", approle_secret_id_file = "/f" },
      { auth_method = "cert", protocol = "https", cert_auth_cert = "/c",
        cert_auth_cert_key = "/k" },
    }) do
      assert.is_nil(errors_of(good))
    end
  end)

  it("refuses what cannot be", function()
    for name, value in pairs({
      protocol = "ftp", host = "a b", port = 70000, kv = "v3", auth_method = "ldap",
      namespace = "a b", mount = "", ttl = -1, ssl_verify = "yes",
    }) do
      assert.is_string(errors_of({ token = "t", [name] = value }).config[name], name)
    end
  end)
end)
