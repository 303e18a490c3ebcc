-- Secrets in the environment and in files, as plugins get them: whole, whatever is
-- in them, and the newest without a reload; what `weir vault` says of them; and
-- that none of them is in anything that weir writes.
package.path = (os.getenv("srcdir") or ".") .. "/spec/e2e/?.lua;" .. package.path
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local modes = require "lib.modes"
local net = require "lib.net"
local proc = require "lib.proc"
local weir = require "lib.weir"
local signal = require "posix.signal"
local stat = require "posix.sys.stat"
local stdlib = require "posix.stdlib"
local unistd = require "posix.unistd"

-- Tells the length and the SHA-256 of the secret in a field.
local MEASURE = [[
local crypto = require "weir.crypto"
local measure = { PRIORITY = 1, VERSION = "1.0.0" }

function measure:access(conf)
  local value = conf[kong.request.get_path():sub(2)]
  return kong.response.exit(200, #value .. ":" .. crypto.hex(crypto.sha256(value)))
end

return measure
]]

local YML = [[
_format_version: "3.0"
vaults:
  - { name: fs, prefix: files, config: { prefix: DIR, neg_ttl: 0.2 } }
  - { name: env, prefix: site-env, config: { prefix: WEIR_SPEC_ } }
services:
  - name: service
    url: http://127.0.0.1:9
    routes: [ { name: all, paths: [ / ] } ]
    plugins: [ { name: measure, config: CONFIG } ]
]]

local AWKWARD = "p#w \"x\" 'y'\\ \t{vault://}\r\n\nend "

-- What the plugin answers for a value.
local function measured(e, value)
  local path = e:write("www/value", value)
  local pipe = io.popen("sha256sum " .. path)
  local digest = pipe:read("*a"):match("^%x+")
  pipe:close()
  return #value .. ":" .. digest
end

local function config_of(fields)
  local out = {}
  for name, value in pairs(fields) do
    out[#out + 1] = ("%s: '%s'"):format(name, value)
  end
  return "{ " .. table.concat(out, ", ") .. " }"
end

local function new_weir(e, fields, opts)
  local schema = {}
  for name in pairs(fields) do
    schema[#schema + 1] = ("{ %s = { type = 'string', referenceable = true } }"):format(name)
  end
  weir.write_plugin(e, "measure", MEASURE, table.concat(schema, ", "))
  local conf = { plugin_dir = env.srcdir .. "/plugins," .. e:path("plugins") }
  for key, value in pairs(opts and opts.conf or {}) do
    conf[key] = value
  end
  return weir.new(e, { conf = conf, yml = (YML:gsub("DIR", e:path("files"))
                                              :gsub("CONFIG", function()
    return config_of(fields)
  end)) })
end

local function ask(w, field)
  local got = assert(fcgi.once(w.unix, { params = { REQUEST_URI = "/" .. field } }))
  return got.status == 200 and got.body or got.status
end

-- Every worker gives the value soon: how long that took, in seconds.
local function await_value(e, w, field, value)
  local wanted, begun, last = measured(e, value), net.now(), nil
  assert(net.wait_until(5, function()
    for _ = 1, 8 do
      last = ask(w, field)
      if last ~= wanted then
        return false
      end
    end
    return true
  end), field .. " stays " .. tostring(last))
  return net.now() - begun
end

describe("a secret in a file", function()
  local e, w

  local function get_weir()
    return w
  end
  local it = modes.wrap(it, get_weir) -- luacheck: ignore 431

  local function run(command)
    assert(os.execute("cd " .. e:path("files") .. " && " .. command) == 0)
  end

  -- As the kubelet does: a directory of its own for each state, and a link that is exchanged.
  local state = 0
  local function publish(value)
    state = state + 1
    local old = state - 1
    e:write(("files/k8s/..%d/password"):format(state), value)
    run(("cd k8s && ln -sfn ..%d ..data_tmp && mv -T ..data_tmp ..data && rm -rf ..%d"):format(
      state, old))
  end

  setup(function()
    e = env.new()
    for name, text in pairs({ plain = "one", renamed = "one", awkward = AWKWARD .. "\n",
                              json = '{"user":"joe","password":"js"}' }) do
      e:write("files/" .. name, text)
    end
    publish("one")
    run("ln -s ..data/password k8s/password")
    w = new_weir(e, {
      plain = "{vault://files/plain}", renamed = "{vault://files/renamed}",
      awkward = "{vault://files/awkward}", member = "{vault://files/json/password}",
      k8s = "{vault://files/k8s/password/}",
    })
    w:start()
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

  it("comes whole, whatever is in it", function()
    for _, value in ipairs({ AWKWARD, "\0\1\255", ("0123456789abcdef"):rep(4096), "x" }) do
      e:write("files/awkward", value .. "\n")
      await_value(e, w, "awkward", value)
    end
  end)

  it("is new as soon as it is written", function()
    for _, value in ipairs({ "two", "three", "one" }) do
      e:write("files/plain", value .. "\n")
      await_value(e, w, "plain", value)
    end
  end)

  it("is new when another file takes its name", function()
    for _, value in ipairs({ "two", "one" }) do
      e:write("files/.new", value)
      run("mv .new renamed")
      await_value(e, w, "renamed", value)
    end
  end)

  it("is new when the link that Kubernetes exchanges leads elsewhere", function()
    for _, value in ipairs({ "two", "three", "one" }) do
      publish(value)
      await_value(e, w, "k8s", value)
    end
  end)

  it("may be a member of a JSON object", function()
    e:write("files/json", '{"user":"joe","password":"a\\n\\u00e9"}')
    await_value(e, w, "member", "a\n\195\169")
    e:write("files/json", '{"user":"joe","password":"js"}')
    await_value(e, w, "member", "js")
  end)

  it("stays as it was when the file is gone, and the log says so once", function()
    local value = "gone " .. net.now()
    e:write("files/plain", value)
    await_value(e, w, "plain", value)
    run("mv plain away")
    net.sleep(0.8) -- some look-ups, none of them said
    await_value(e, w, "plain", value)
    w:expect_log("{vault://files/plain}: [^\n]*/files/plain: No such file or directory; "
      .. "the last value stays", #w:workers())
    local file = assert(io.open(e:path("files/plain"), "w"))
    net.sleep(0.02) -- it is there, and empty: nothing is said of that
    file:write("back")
    file:close()
    await_value(e, w, "plain", "back")
  end)

  it("never turns empty", function()
    e:write("files/plain", "full")
    await_value(e, w, "plain", "full")
    e:write("files/plain", "")
    net.sleep(0.5)
    await_value(e, w, "plain", "full")
    w:expect_log("it is empty now; the last value stays", #w:workers())
    e:write("files/plain", "again")
    await_value(e, w, "plain", "again")
  end)
end)

describe("a secret", function()
  local e, w

  before_each(function()
    e = env.new()
    e:write("files/a", "file-secret-1")
  end)

  after_each(function()
    e:check()
    if w then
      w:stop()
    end
    e:destroy()
    w = nil
  end)

  it("comes out of the environment", function()
    local long = ("0123456789abcdef"):rep(4096)
    w = new_weir(e, {
      plain = "{vault://env/weir-spec-plain}", long = "{vault://site-env/long}",
      member = "{vault://site-env/pg-creds/user-name}", old = "{vault://site-env/plain#2}",
      query = "{vault://env/plain?prefix=weir_spec_}", short = "{vault://env/spec-plain}",
    })
    w:start({ vars = {
      WEIR_SPEC_PLAIN = AWKWARD, WEIR_SPEC_LONG = long, WEIR_SPEC_PLAIN_PREVIOUS = "before",
      WEIR_SPEC_PG_CREDS = '{"user-name":"joe"}', SPEC_PLAIN = "k",
    } })
    for field, value in pairs({ plain = AWKWARD, long = long, member = "joe", old = "before",
                                query = AWKWARD, short = "k" }) do
      assert.equal(measured(e, value), ask(w, field), field)
    end
  end)

  it("of a type has the config that weir.conf gives it", function()
    w = new_weir(e, { a = "{vault://env/a}", b = "{vault://fs/a}" },
             { conf = { vault_env_prefix = "WEIR_SPEC_", vault_fs_prefix = e:path("files") } })
    w:start({ vars = { WEIR_SPEC_A = "env-secret" } })
    assert.equal(measured(e, "env-secret"), ask(w, "a"))
    assert.equal(measured(e, "file-secret-1"), ask(w, "b"))
  end)

  it("of systemd's needs no config", function()
    w = new_weir(e, { a = "{vault://fs/a}" })
    w:start({ vars = { CREDENTIALS_DIRECTORY = e:path("files") } })
    assert.equal(measured(e, "file-secret-1"), ask(w, "a"))
  end)

  it("of a vault without what it needs is refused with the reason", function()
    w = new_weir(e, { a = "{vault://fs/a}" })
    assert.error_matches(function()
      w:start()
    end, "the vault fs is not configured: vault_fs_prefix: required field missing")
    w:expect_log("the vault fs is not configured")
    w = nil
  end)

  it("that the workers cannot read fails those who need it, until they can", function()
    if not env.is_root then
      return
    end
    stat.chmod(e:path("files/a"), 6 * 64)
    w = new_weir(e, { a = "{vault://files/a}" })
    w:start()
    assert.equal(500, ask(w, "a"))
    w:expect_log("files/a: Permission denied; it has no value", 2)
    w:expect_log("no value for {vault://files/a}: [^\n]*Permission denied", "some")
    stat.chmod(e:path("files/a"), 6 * 64 + 4 * 8 + 4)
    await_value(e, w, "a", "file-secret-1")
  end)

  it("outside of the vault's directory is not read", function()
    e:write("outside", "no")
    assert(unistd.link("../outside", e:path("files/link"), true))
    w = new_weir(e, { a = "{vault://files/link}", b = "{vault://files/..%2foutside}" })
    w:start()
    assert.equal(500, ask(w, "a"))
    assert.equal(500, ask(w, "b"))
    w:expect_log("its symbolic links lead out of the directory; it has no value", 2)
    w:expect_log("the name of a file must not contain ..; it has no value", 2)
    w:expect_log("no value for", "some")
  end)

  it("is new for the next generation and for a worker that comes back", function()
    w = new_weir(e, { a = "{vault://files/a}" })
    w:start()
    e:write("files/a", "file-secret-2")
    assert(w:reload())
    assert.equal(measured(e, "file-secret-2"), ask(w, "a"))
    net.sleep(1.1) -- a worker that dies younger comes back later
    local before = w:workers()
    signal.kill(before[1], signal.SIGKILL)
    assert(net.wait_until(5, function()
      local now = w:workers()
      return #now == 2 and now[1] ~= before[1]
    end))
    w:expect_log("died by signal 9")
    e:write("files/a", "file-secret-3")
    await_value(e, w, "a", "file-secret-3")
  end)

  -- A vault as Kong's own are written: a plain schema, and results of get in Kong's order.
  local KONGS = [[
local counts = {}
return {
  VERSION = "1.0.0",
  get = function(conf, resource, version)
    counts[resource] = (counts[resource] or 0) + 1
    return conf.word .. "-" .. resource .. "-" .. (version or 0), nil, nil
  end,
}
]]
  local KONGS_SCHEMA = [[
return { name = "dropped", fields = { { config = { type = "record", fields = {
  { word = { type = "string", default = "kong" } },
} } } } }
]]

  it("may be in a vault that is dropped in, and a broken one changes nothing", function()
    w = new_weir(e, { a = "{vault://files/a}" })
    w:start()
    e:write("plugins/vaults/dropped/init.lua", KONGS)
    e:write("plugins/vaults/dropped/schema.lua", KONGS_SCHEMA)
    w:write_yml((e:read("weir.yml"):gsub("{vault://files/a}", "{vault://dropped/a?word=my#3}")))
    assert(w:reload())
    assert.equal(measured(e, "my-a-3"), ask(w, "a"))
    for file, broken in pairs({
      ["init.lua:4: unexpected symbol near '='"] =
        { "init", KONGS:gsub("= function", "= = function") },
      ["init.lua:1: a vault needs a function get"] = { "init", "return { VERSION = '1.0.0' }" },
      ["schema.lua:2: config.word: unknown type 'sting'"] =
        { "schema", KONGS_SCHEMA:gsub('"string"', '"sting"') },
    }) do
      e:write("plugins/vaults/dropped/" .. broken[1] .. ".lua", broken[2])
      for _, command in ipairs({ "reload", "check" }) do
        local text, code = w:command(command)
        assert.equal(1, code)
        assert.is_truthy(text:find("/plugins/vaults/dropped/" .. file, 1, true), text)
      end
      assert.equal(measured(e, "my-a-3"), ask(w, "a"))
      e:write("plugins/vaults/dropped/init.lua", KONGS)
      e:write("plugins/vaults/dropped/schema.lua", KONGS_SCHEMA)
    end
    w:expect_log("reload failed", 3)
  end)

  it("that is refused is looked up once more by kong.vault.try", function()
    local vars = {}
    if env.mode ~= "asan" then -- which does not bear libfaketime
      proc.move_clock(vars, 0)
      vars.FAKETIME = nil
      vars.FAKETIME_TIMESTAMP_FILE, vars.FAKETIME_NO_CACHE = e:write("clock", "+0s"), 1
    end
    w = new_weir(e, { a = "{vault://pdk-count/a}" }, { conf = {
      workers = 1, plugin_dir = table.concat({ env.srcdir .. "/plugins", e:path("plugins"),
                                  env.srcdir .. "/spec/fixtures/plugins" }, ","),
      plugins = "measure",
    } })
    e:write("plugins/measure/handler.lua", [[
      local measure = { PRIORITY = 1, VERSION = "1.0.0" }
      function measure:access(conf)
        local tried = {}
        local value = kong.vault.try(function(c)
          tried[#tried + 1] = c.a
          return #tried == 2 and "in" or nil, "refused"
        end, conf)
        return kong.response.exit(200, tostring(value) .. ":" .. table.concat(tried, ","))
      end
      return measure
    ]])
    w:start({ vars = vars })
    assert.equal("in:a-1,a-2", ask(w, "a"))
    e:write("clock", "-7200s") -- the clock may be set
    net.sleep(1.1)
    assert.equal("in:a-2,a-3", ask(w, "a"))
  end)

  it("is read now and then where files cannot be watched, and the log says so once", function()
    w = new_weir(e, { a = "{vault://files/a}", b = "{vault://files/a?ttl=1}" },
             { conf = { workers = 1, user = "" } })
    -- in a user namespace, whose bounds are its own
    local vars = weir.mode_environment()
    local limited = "echo 0 >/proc/sys/user/max_inotify_instances && exec \"$@\""
    if os.execute("unshare -Ur sh -c '" .. limited .. "' - true 2>/dev/null") ~= 0 then
      w = nil
      return
    end
    w.proc = e:spawn({ "unshare", "-Ur", "sh", "-c", limited, "-", weir.bin, "start",
                       "--foreground", "-c", w.conf_path },
                     { env = vars, output = e:path("log/weir.out") })
    w.master = w.proc.pid
    assert(net.wait_until(10, function()
      return w:log():find(" serves with ", 1, true)
    end), w:log())
    assert.equal(measured(e, "file-secret-1"), ask(w, "b"))
    w:expect_log("files cannot be watched, so they are looked at every 60 s: ", 1)
    e:write("files/a", "file-secret-2")
    await_value(e, w, "b", "file-secret-2")
    assert.equal(measured(e, "file-secret-1"), ask(w, "a"))
  end)

  it("is in nothing that weir writes", function()
    w = new_weir(e, { a = "{vault://files/a}", b = "{vault://env/weir-spec-b}",
                      c = "{vault://files/a/no-member}" },
             { conf = { log_level = "debug", access_log = e:path("log/access.log") } })
    w:start({ vars = { WEIR_SPEC_B = "env-secret-7" } })
    ask(w, "a")
    ask(w, "c")
    w:expect_log("the secret is no JSON object", 2)
    w:expect_log("no value for {vault://files/a/no%-member}")
    e:write("files/a", "file-secret-9")
    await_value(e, w, "a", "file-secret-9")
    local said = {}
    for _, words in ipairs({ { "status" }, { "check" }, { "vault", "list" },
                             { "config", "show" } }) do
      said[#said + 1] = w:command(words[1], { args = { words[2] } })
    end
    said[#said + 1] = w:log() .. w:output() .. e:read("log/access.log")
    local all = table.concat(said, "\n")
    assert.is_nil(all:find("secret%-%d"))
    assert.is_truthy(all:find("{vault://files/a}", 1, true))
  end)
end)

describe("weir vault", function()
  local e, w

  setup(function()
    e = env.new()
    e:write("files/a", "file-secret")
    w = new_weir(e, { a = "{vault://files/a}", b = "{vault://files/none?ttl=9}", c = "plain" },
                 { conf = { redis_password = "{vault://env/weir-spec-redis}",
                            upstream_keepalive_pool_size = "{vault://env/weir-spec-size}" } })
    stdlib.setenv("WEIR_SPEC_SIZE", "7")
    stdlib.setenv("WEIR_SPEC_REDIS", "env-secret")
  end)

  teardown(function()
    stdlib.setenv("WEIR_SPEC_SIZE", nil)
    stdlib.setenv("WEIR_SPEC_REDIS", nil)
    e:destroy()
  end)

  local function vault(...)
    return w:command("vault", { args = { ... } })
  end

  it("get prints a secret", function()
    for ref, value in pairs({ ["{vault://files/a}"] = "file-secret", ["files/a"] = "file-secret",
                              ["env/weir-spec-redis"] = "env-secret",
                              ["env/redis?prefix=WEIR-SPEC-"] = "env-secret" }) do
      assert.same({ value .. "\n", 0 }, { vault("get", ref) }, ref)
    end
  end)

  it("get prints an empty secret, and says that it is", function()
    stdlib.setenv("WEIR_SPEC_EMPTY", "")
    local text, code = vault("get", "env/weir-spec-empty")
    stdlib.setenv("WEIR_SPEC_EMPTY", nil)
    assert.equal(0, code)
    assert.equal("weir: this secret is there, and empty\n\n", text)
  end)

  it("get says why there is none", function()
    for ref, why in pairs({
      ["files/none"] = "/files/none: No such file or directory",
      ["env/weir-spec-no"] = "the environment has no WEIR_SPEC_NO",
      ["zork/a"] = "could not find vault (zork) [{vault://zork/a}]",
      ["{vault://env}"] = "reference url is missing path [{vault://env}]",
      ["env/a#b"] = "reference url has invalid version [{vault://env/a#b}]",
    }) do
      local text, code = vault("get", ref)
      assert.equal(1, code)
      assert.is_truthy(text:find("^weir: [^\n]*\n$") and text:find(why .. "\n", 1, true), text)
    end
  end)

  it("list shows every reference, and no value", function()
    local text, code = vault("list")
    assert.equal(1, code)
    local rows = {}
    for line in text:gmatch("[^\n]+") do
      rows[#rows + 1] = line:gsub("  +", "  "):gsub(e.dir:gsub("%p", "%%%0"), "")
    end
    assert.same({
      "REFERENCE  VAULT  TTL  STATE",
      "{vault://env/weir-spec-redis}  env  -  ok",
      "{vault://env/weir-spec-size}  env  -  ok",
      "{vault://files/a}  fs  -  ok",
      "{vault://files/none?ttl=9}  fs  -  failed: /files/none: No such file or directory",
    }, rows)
    e:write("files/none", "x")
    text, code = vault("list")
    os.remove(e:path("files/none"))
    assert.equal(0, code)
    assert.is_truthy(text:find("\n{vault://files/none%?ttl=9} +fs +9 +ok\n"), text)
  end)

  it("goes on where weir.conf cannot", function()
    stdlib.setenv("WEIR_SPEC_SIZE", nil)
    local listed, list_code = vault("list")
    local got, get_code = vault("get", "env/weir-spec-redis")
    stdlib.setenv("WEIR_SPEC_SIZE", "7")
    local why = "upstream_keepalive_pool_size: {vault://env/weir-spec-size}: "
      .. "the environment has no WEIR_SPEC_SIZE\n"
    assert.equal(1, list_code)
    assert.is_truthy(listed:find(why, 1, true), listed)
    assert.is_truthy(listed:find("{vault://env/weir-spec-redis}  env    -    ok", 1, true), listed)
    assert.is_truthy(listed:find("of this command's environment", 1, true), listed)
    assert.equal(0, get_code)
    assert.is_truthy(got:find(why .. "env-secret\n", 1, true), got)
  end)

  it("refuses other words", function()
    for _, words in ipairs({ {}, { "get" }, { "list", "x" }, { "get", "a", "b" },
                             { "put", "a" } }) do
      local text, code = vault(unpack(words))
      assert.equal(2, code)
      assert.is_truthy(text:find("expected \"weir vault list\"", 1, true), text)
    end
    local text, code = vault("--help")
    assert.equal(0, code)
    assert.is_truthy(text:find("vault get REFERENCE", 1, true))
  end)
end)
