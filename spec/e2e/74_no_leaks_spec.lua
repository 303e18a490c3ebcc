-- No secret is ever written: weir gets secrets in every way, at log_level debug,
-- and every kind of failure is provoked with them, by vaults whose answers hold
-- secrets in all the wrong places, too. Then all that weir wrote is searched:
-- logs, the access log, what the commands print, responses, its files and shared
-- memory, command lines; and its memory as core dumps would show it.
local signal = require "posix.signal"
local env = require "lib.env"
local fcgi = require "lib.fcgi"
local memory = require "lib.memory"
local modes = require "lib.modes"
local net = require "lib.net"
local proc = require "lib.proc"
local redis = require "lib.redis"
local servers = require "lib.servers"
local upstream = require "lib.upstream"
local vaults = require "lib.vaults"
local weir = require "lib.weir"

local it = modes.first_without_jit(it)

-- Tells its config to the log in every way there is.
local TELLER = [[
local teller = { PRIORITY = 1, VERSION = "1.0.0" }
function teller:access(conf)
  kong.log.inspect(conf)
  for key, value in pairs(conf) do
    kong.log.debug(key, " = ", tostring(value))
  end
  local n = 0
  for _, item in ipairs(conf.list) do
    n = n + #item
  end
  return kong.response.exit(200, "words of " .. #conf.word .. " and " .. n)
end
return teller
]]

local FIELDS = [[
  { word = { type = "string", referenceable = true } },
  { list = { type = "array", elements = { type = "string", referenceable = true } } },
]]

local serial = 0

-- A secret that nothing else looks like. Some have what must be escaped.
local function new_secret(name, tail)
  serial = serial + 1
  return ("S3cr%s%04d%06x%s"):format(name, serial, math.random(0xffffff), tail or "")
end

-- How a text may be written by who does not mean to show it.
local function forms(text)
  local escaped = text:gsub('[%c"\\]', function(c)
    return ({ ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n" })[c]
  end)
  local percent = text:gsub("[^%w_.~-]", function(c) return ("%%%02X"):format(c:byte()) end)
  return { text, escaped, percent }
end

describe("what weir writes", function()
  local e, w, store, service, list, gated, backend
  local cloud = {} -- logins that cloud_authentication shares with vaults
  local given = {}     -- the secrets: text -> what it is
  local written = {}   -- what weir gave out: { what, text }
  local originals = {} -- files of the spec's own, which hold secrets

  local function give(text, what)
    assert(#text >= 8, what)
    given[text] = what
    return text
  end

  local function keep(what, text)
    written[#written + 1] = { what, text }
  end

  local function own_file(name, text)
    originals[e:path(name)] = true
    return e:write(name, text)
  end

  local function route(path, plugin, config)
    return ("      - name: route%s\n        paths: [ %s ]\n        plugins: [ { name: %s, config: "
            .. "{ %s } } ]\n"):format(path:gsub("/", "-"), path, plugin, config)
  end

  local function limited(path, login)
    return route(path, "rate-limiting", ("minute: 1000, policy: redis, fault_tolerant: false, "
      .. "redis: { host: 127.0.0.1, port: %d, timeout: 500, %s }"):format(store.port, login))
  end

  -- The references, and one that is no good in each way.
  local function routes()
    local out = { limited("/literal", "password: " .. give(new_secret("literal"), "weir.yml")),
                  limited("/env", "username: '{vault://env/spec-user}', "
                                  .. "password: '{vault://env/spec-password}'"),
                  limited("/file", "password: '{vault://files/password/}'"),
                  limited("/cloud", ("username: iam, cloud_authentication: { auth_provider: aws, "
                    .. "aws_cache_name: cache, aws_region: eu-west-1, aws_access_key_id: AKIASPEC, "
                    .. "aws_secret_access_key: '%s' }"):format(
                    give(new_secret("iam", "/+x"), "weir.yml's cloud_authentication"))),
                  limited("/sentinel", ("sentinel_master: m, sentinel_role: master, "
                    .. "sentinel_addresses: [ '%s' ], sentinel_password: %s"):format(
                    store.address, give(new_secret("sentinel"), "weir.yml's sentinel_password"))),
                  limited("/cloud-azure", "username: x, cloud_authentication: { auth_provider: "
                    .. "azure, azure_tenant_id: tenant-1, azure_client_id: client-1, "
                    .. "azure_client_secret: " .. cloud.azure .. " }"),
                  limited("/cloud-gcp", ("cloud_authentication: { auth_provider: gcp, "
                    .. "gcp_service_account_json: '%s' }"):format(cloud.gcp)),
                  route("/told", "teller", "word: '{vault://files/password/}', list: [ x, "
                        .. "'{vault://aws-safe/list}' ]") }
    for _, v in ipairs(list) do
      out[#out + 1] = limited("/" .. v.kind, ("password: '%s'"):format(v:reference("redis")))
      out[#out + 1] = limited("/" .. v.kind .. "-member",
                              ("password: '{vault://%s/json/nobody}'"):format(v.prefix))
      out[#out + 1] = limited("/" .. v.kind .. "-plain",
                              ("password: '{vault://%s/redis/nobody}'"):format(v.prefix))
      out[#out + 1] = limited("/" .. v.kind .. "-number",
                              ("password: '{vault://%s/json/number}'"):format(v.prefix))
    end
    return table.concat(out)
  end

  local function yml()
    local out = { '_format_version: "3.0"\nvaults:\n  - { name: fs, prefix: files, config: '
                  .. "{ prefix: " .. e:path("secrets") .. " } }\n" }
    for _, v in ipairs(list) do
      out[#out + 1] = v.entity
    end
    return table.concat(out) .. "services:\n  - name: service\n    url: " .. service.url ..
           "\n    routes:\n" .. routes() .. route("/gate", "rate-limiting",
           ("minute: 1000, policy: redis, fault_tolerant: false, redis: { host: 127.0.0.1, port: "
            .. "%d, username: iam, cloud_authentication: { auth_provider: aws, aws_cache_name: "
            .. "cache, aws_is_serverless: false, aws_region: eu-west-1, aws_access_key_id: "
            .. "AKIAGATE, aws_secret_access_key: '%s' } }"):format(gated.redis_port,
            gated.secret))
  end

  local function put(v)
    v:put("redis", give(new_secret(v.kind, '#"\\ x'), "a password in " .. v.kind))
    v:put("list", give(new_secret(v.kind), "an item in " .. v.kind))
    v:put("json", ('{"number":7,"other":"%s","password":"%s"}'):format(
      give(new_secret(v.kind), "a member in " .. v.kind),
      give(new_secret(v.kind), "a member in " .. v.kind)))
  end

  local function write_password()
    local text = give(new_secret("file", " # '\"x"), "a file")
    own_file("secrets/password.new", text)
    assert(os.rename(e:path("secrets/password.new"), e:path("secrets/password")))
    return text
  end

  -- Every route once; the answers are kept.
  local function ask_all()
    for path in w.yml_text:gmatch("paths: %[ (%S+) %]") do
      local answer, err = fcgi.once(w.unix, { params = { REQUEST_URI = path .. "/echo" } })
      keep("the answer to " .. path, answer and answer.raw .. answer.stderr or err)
    end
  end

  -- The commands, each with all that it prints.
  local function run_commands()
    for _, one in ipairs({ { "check" }, { "status" }, { "config", "show" },
                           { "config", "show", "conf" }, { "vault", "list" },
                           { "vault", "get", "aws-safe/json/nobody" },
                           { "vault", "get", "gcp-safe/redis/nobody" }, { "vault", "get", "x/y" },
                           { "plugins", "list" }, { "plugins", "check" }, { "migrations", "list" },
                           { "counters", "get" }, { "version" } }) do
      local text, code = w:command(one[1], { args = { one[2], one[3] } })
      keep("weir " .. table.concat(one, " ") .. " (exit " .. tostring(code) .. ")", text)
    end
  end

  -- A look-up that met each of these faults leaves its trace in the log; a login before it, if that
  -- is to be made anew.
  local function provoke(v, faults, anew)
    for _, fault in ipairs(faults) do
      v.server:faults({ fault })
      if anew then
        v:expire()
      end
      local before = #v.server:log()
      assert(net.wait_until(10, function()
        local asked = v.server:log()
        return asked[before + 1] and asked[before + 1].fault
      end), v.kind .. " is not asked")
    end
    net.sleep(0.3)
    v.server:faults()
  end

  -- Answers that hold a secret where weir might quote it.
  local function treacherous(secret)
    local quoted = ('{"errors":["%s"],"error":"%s","error_description":"%s","message":"%s",'
                    .. '"Message":"%s"'):gsub("%%s", secret)
    return {
      { status = 403, body = quoted .. "}" }, { status = 500, body = secret },
      { status = 200, body = quoted }, { body = '"' .. secret .. '"' }, { body = secret },
      { body = ('{"SecretString":{"x":"%s"},"value":["%s"],"payload":"%s","data":"%s"}')
               :gsub("%%s", secret) },
      { status = 302, headers = { Location = "http://127.0.0.1:1/?" .. secret } },
      { status = 401, headers = { ["WWW-Authenticate"] = secret, [secret] = "x" } },
      { raw = secret .. "\r\n\r\n" }, { raw = "HTTP/1.1 200 " .. secret .. "\r\n" .. secret },
      { body = secret .. ("x"):rep(1000), cut = 100 },
    }
  end

  local function start_vaults()
    list = {}
    for i, kind in ipairs(vaults.kinds) do
      local v = vaults.start(e, kind, kind .. "-safe")
      list[i] = v
      cloud[kind] = v.credential
      for _, secret in ipairs(v.secrets) do
        give(secret, "the login of " .. kind)
      end
      put(v)
    end
  end

  local function start_gate()
    backend = redis.start(e, { password = give(new_secret("gate"), "a Redis behind a gate") })
    local secret = give(new_secret("key", "/+="), "an access key")
    gated = servers.start("aws", {
      state = { region = "eu-west-1", keys = { AKIAGATE = { secret = secret } },
                cache = { name = "cache", users = { "iam" }, serverless = false } },
      redis = { target = backend.address, password = backend.password },
    }, e)
    gated.secret = secret
  end

  setup(function()
    e = env.new()
    service = upstream.nginx(e)
    start_vaults()
    start_gate()
    store = redis.start(e, { password = write_password() })
    weir.write_plugin(e, "teller", TELLER, FIELDS)
    local vars = { SPEC_PASSWORD = give(new_secret("env"), "a variable"), SPEC_USER = "nobody",
                   WEIR_REDIS_PASSWORD = give(new_secret("variable"), "weir.conf's environment") }
    for _, v in ipairs(list) do
      for name, value in pairs(v.vars) do
        vars[name] = value
      end
    end
    w = weir.new(e, { yml = yml(), conf = {
      log_level = "debug", access_log = e:path("log/access.log"), workers = 1,
      plugin_dir = env.srcdir .. "/plugins," .. weir.plugin_dir(e),
      pg_password = give(new_secret("conf"), "weir.conf"),
    } })
    w.yml_text = e:read("weir.yml")
    originals[w.yml_path], originals[w.conf_path] = true, true
    w:expect_log(".", "any") -- nothing here goes well
    w:start({ vars = vars })
  end)

  teardown(function()
    if w then
      w:stop()
    end
    e:destroy()
  end)

  -- The failures, one after the other; no example, as each of them searches all.
  local function live_through()
    ask_all()
    run_commands()
    for _, v in ipairs(list) do
      local faults = treacherous(give(new_secret("answer"), "an answer of " .. v.kind))
      provoke(v, faults)
      provoke(v, faults, true)
      put(v) -- rotated
    end
    ask_all()
    store:stop()
    ask_all()
    store.password = write_password()
    store:start()
    ask_all()
    for _, v in ipairs(list) do
      v.server:stop()
    end
    net.sleep(1.5)
    ask_all()
    run_commands()
    signal.kill(w:workers()[1], signal.SIGKILL)
    net.wait_until(5, function() return w:log_count("died by signal 9") > 0 end)
    net.sleep(1)
    ask_all()
    for _, v in ipairs(list) do
      v.server:start()
    end
    net.sleep(1.5)
    ask_all()
  end

  -- Configurations that are wrong where a secret stands.
  local function misconfigure()
    local secret = give(new_secret("wrong"), "a wrong weir.yml")
    for _, change in ipairs({
      { "port: %d+, timeout: 500, password: %S+", "port: 1, password: [ " .. secret .. " ]" },
      { "port: %d+, timeout: 500, password: %S+", "port: 1, password: { x: " .. secret },
      { "port: %d+, timeout: 500, password: %S+", "passwort: " .. secret },
      { "port: %d+, timeout: 500, password: %S+", "password: '" .. secret .. " }" },
      { "port: %d+, timeout: 500, password: %S+", "password: *" .. secret },
      { "port: %d+, timeout: 500, password: %S+", "password: !" .. secret .. " x" },
      { "port: %d+, timeout: 500, password: %S+", "password: !!int " .. secret },
      { "aws_region: eu%-west%-1", "aws_region: 7, aws_assume_role_arn: " .. secret },
      { "region: eu%-west%-1", "region: [ 1 ], secret_access_key: " .. secret },
      { "access_key_id: AKIASPEC0000EXAMPLE, ", "" },
    }) do
      local text, n = w.yml_text:gsub(change[1], (change[2]:gsub("%%", "%%%%")), 1)
      assert.equal(1, n, change[1])
      w:write_yml(text)
      keep("weir check of " .. change[2], (w:command("check")))
      keep("weir config show of " .. change[2], (w:command("config", { args = { "show" } })))
      w:reload()
    end
    w:write_yml(w.yml_text)
    for _, line in ipairs({ "pg_password " .. secret, "pg_password = {vault://nowhere/" .. "x}",
                            "pg_passwort = " .. secret, "redis_password = " .. secret .. "\0",
                            "pg_password = " .. ("x"):rep(100000) .. secret }) do
      local conf = e:read("weir.conf")
      own_file("weir.conf", conf:gsub("pg_password = [^\n]*", (line:gsub("%%", "%%%%"))))
      keep("weir check of a weir.conf", (w:command("check")))
      w:reload()
      own_file("weir.conf", conf)
    end
    assert(w:reload(), "the right configuration is refused")
  end

  -- Everything that lies in the environment's directory and in its shared memory, but what the
  -- spec wrote there, or its servers.
  local function collect_files()
    local names = proc.run({ "find", e.dir, "-type", "f" })
    for path in names:gmatch("[^\n]+") do
      local name = path:sub(#e.dir + 2)
      local ours = originals[path] or name:match("^secrets/") or name:match("^redis%-")
                   or name:match("^service%-account") or name:match("^plugins/")
                   or name:match("^log/redis%-")
      if not ours then
        keep("the file " .. name, proc.read_file(path))
      end
    end
    for _, path in ipairs(e:regions()) do
      keep(path, proc.read_file(path))
    end
    for _, pid in ipairs({ w.master, unpack(w:workers()) }) do
      keep("the command line", proc.read_file("/proc/" .. pid .. "/cmdline"))
    end
  end

  local function temporary_secrets()
    local all = { gated }
    for _, v in ipairs(list) do
      all[#all + 1] = v.server
    end
    for _, server in ipairs(all) do
      for _, entry in ipairs(server:log()) do
        if entry.method == "AUTH" then
          give(entry.body, "a token for Redis")
          give(entry.body:match("Signature=(%x+)"), "the signature of a token")
        end
        for _, header in ipairs(entry.headers) do
          local name = header[1]:lower()
          if name == "authorization" or name == "x-vault-token" then
            give(header[2], "what logs in to a vault")
          end
        end
      end
    end
  end

  local function search()
    local found, seen = {}, {}
    for _, one in ipairs(written) do
      for secret, what in pairs(given) do
        for _, form in ipairs(forms(secret)) do
          local at = one[2]:find(form, 1, true)
          if at and not seen[one[1] .. what] then
            seen[one[1] .. what] = true
            found[#found + 1] = ("%s shows a secret, %s: ...%q"):format(one[1], what,
              one[2]:sub(math.max(1, at - 100), at + #form))
          end
        end
      end
    end
    return table.concat(found, "\n")
  end

  it("has no secret in it, whatever fails", function()
    live_through()
    misconfigure()
    temporary_secrets()
    collect_files()
    local all = {}
    for i, one in ipairs(written) do
      all[i] = one[2]
    end
    all = table.concat(all, "\n")
    given["ya29."], given["eyJ0eXAi"] = "an access token of Google's", "one of Azure's"
    for _, word in ipairs({ "{vault://files/password/}", "{vault://env/spec-password}",
                            "{vault://aws-safe/redis}", "the last value stays", "[debug]",
                            "WRONGPASS", "/cloud/echo" }) do
      assert.truthy(all:find(word, 1, true), "nothing tells of " .. word)
    end
    assert.equal("", search())
  end)

  -- C has one copy, in pages that a core dump leaves out; it is gone once it is replaced. Of a
  -- file's content there is no other after a while: Lua's is collected and wiped. Of the C heap
  -- nothing is said where a value came as JSON.
  local function assert_kept_out(current, replaced, of_file)
    local counts
    local all = { unpack(replaced) }
    all[#all + 1] = current
    assert(net.wait_until(8, function()
      counts = assert(memory.find(w:workers()[1], all))
      return counts[current]["kept out"] == 1
    end), "the worker does not have its newest " .. given[current])
    for _, old in ipairs(replaced) do
      assert.equal(0, counts[old]["kept out"], "a replaced one is kept: " .. given[old])
    end
    local found
    assert(not of_file or net.wait_until(10, function()
      counts, found = assert(memory.find(w:workers()[1], all)), nil
      for _, text in ipairs(all) do
        for _, kind in ipairs({ "C heap", "other" }) do
          found = found or counts[text][kind] > 0 and "the " .. kind .. " has " .. given[text]
        end
      end
      return not found
    end), found)
  end

  local function newest(v)
    v:put("redis", give(new_secret(v.kind, '#"\\ x'), "a password in " .. v.kind))
    return v.last
  end

  if env.mode ~= "asan" then -- whose shadow is endless
    it("to memory are values in pages of their own, wiped when they are replaced", function()
      local files = {}
      for i = 1, 3 do
        files[i] = write_password()
        assert_kept_out(files[i], { unpack(files, 1, i - 1) }, true)
      end
      for _, v in ipairs(list) do
        local first = newest(v)
        assert_kept_out(first, {})
        assert_kept_out(newest(v), { first })
      end
    end)
  end
end)
