-- `weir counters get`, `reset` and `grant`: what a limiting plugin has counted for
-- one identifier. Which keys and windows those are, and in which store, the plugin
-- itself says (handler.counters, see weir.limiting). Runs in a coroutine: stores
-- are waited for.

local columns = require "weir.cli.columns"
local config = require "weir.config"
local counter = require "weir.counter"
local plan = require "weir.plan"
local secret = require "weir.secret"
local timer = require "weir.timer"
local weir = require "weir.ffi"

local C, sv, str = weir.C, weir.sv, weir.str
local LOCAL = 0
local EXCHANGE_S = 0.3 -- for other nodes' counts to come, where they come now and then

local _M = {}

_M.help = [[
Usage: weir counters get PLUGIN IDENTIFIER [OPTIONS]
       weir counters reset PLUGIN IDENTIFIER [OPTIONS]
       weir counters grant PLUGIN IDENTIFIER N [OPTIONS]

PLUGIN is a plugin's name, or the id of its entry; IDENTIFIER is what requests are counted
by, such as the client's address; for several kinds at once their values with commas between.

  --service NAME|ID    the service that the entry belongs to
  --route NAME|ID      the route that it belongs to
  --by KIND            IDENTIFIER is of this kind (ip, header, path, ...), not of the entry's
]]

local VERBS = { get = 2, reset = 2, grant = 3 } -- and their words
local KINDS = { ip = true, consumer = true, credential = true, service = true, route = true,
                header = true, path = true }
local OPTIONS = { ["--service"] = "service", ["--route"] = "route", ["--by"] = "by" }


-- { verb =, plugin =, identifier =, amount =, service =, route =, by = } | nil, what is wrong.
local function parse(args)
  local words, out, i = {}, {}, 1
  while args[i] do
    local word, value = args[i]:match("^(%-%-[^=]+)=(.*)$")
    word = word or args[i]
    if word == "--" then
      for j = i + 1, #args do
        words[#words + 1] = args[j]
      end
      break
    elseif OPTIONS[word] then
      if not value then
        i = i + 1
        value = args[i]
      end
      if not value or value == "" then
        return nil, word .. " needs a value"
      end
      out[OPTIONS[word]] = value
    elseif word:sub(1, 1) == "-" then
      return nil, "unknown option " .. word
    else
      words[#words + 1] = args[i]
    end
    i = i + 1
  end
  if out.by and not KINDS[out.by] then
    return nil, "--by " .. out.by .. ": no such kind"
  end
  out.verb, out.plugin, out.identifier, out.amount = words[1], words[2], words[3], words[4]
  if not VERBS[out.verb] or #words ~= VERBS[out.verb] + 1 then
    return nil, "expected a verb and its words"
  end
  if out.verb == "grant" then
    out.amount = tonumber(out.amount)
    if not out.amount or out.amount < 1 or out.amount ~= math.floor(out.amount)
      or out.amount > 2 ^ 42 then
      return nil, "N must be a whole number, 1 or more"
    end
  end
  return out
end


-- ---- which entry

local function is_of(entity, name)
  return name == nil or (entity and (entity.id == name or entity.name == name)) or false
end


local function scope_of(entity)
  local parts = {}
  for _, kind in ipairs({ "route", "service" }) do
    local other = entity[kind]
    if other then
      parts[#parts + 1] = kind .. " " .. tostring(other.name or other.id)
    end
  end
  return #parts > 0 and table.concat(parts, ", ") or "all requests"
end


local function find(entities, wanted)
  local found, lines = {}, {}
  for _, entity in ipairs(entities) do
    if (entity.name == wanted.plugin or entity.id == wanted.plugin)
      and is_of(entity.route, wanted.route) and is_of(entity.service, wanted.service) then
      found[#found + 1] = entity
      lines[#lines + 1] = "\n  " .. entity.id .. "  " .. scope_of(entity)
    end
  end
  if #found == 1 then
    return found[1]
  elseif #found == 0 then
    return nil, "no plugin " .. wanted.plugin .. " is configured"
      .. ((wanted.route or wanted.service) and " for that scope" or "")
  end
  return nil, wanted.plugin .. " is configured more than once: say --route, --service, or an id:"
    .. table.concat(lines)
end


-- ---- what was counted

local function place_of(store)
  if store == LOCAL then
    return "the memory of this machine"
  end
  C.weir_store_name(store, sv)
  return str(sv[0])
end


local function number(n)
  return ("%.2f"):format(n):gsub("%.?0+$", "")
end


local function add_rows(rows, set)
  local windows = set.windows
  for i = 0, windows.n - 1 do
    local limit, used = windows.limit[i], windows.used[i]
    rows[#rows + 1] = {
      (set.name ~= "" and set.name .. " " or "") .. set.titles[i + 1],
      number(used), number(limit), number(math.max(0, math.floor(limit - used))),
      math.ceil(tonumber(windows.reset_ms[i]) / 1000) .. " s",
    }
  end
end


-- With a sync_rate the first look only asks the other nodes.
local function peek(set, conf)
  local used, err = counter.peek(set.store, set.identity, set.windows)
  if used and set.store ~= LOCAL and (conf.sync_rate or 0) > 0 then
    timer.sleep(EXCHANGE_S)
    used, err = counter.peek(set.store, set.identity, set.windows)
  end
  local failure = counter.failure(set.store) -- with a sync_rate our own counts are the answer then
  if failure then
    return nil, failure
  end
  return used, err
end


-- How much a reset takes off: each window then stops at 0.
local function most_used(windows)
  local most = 0
  for i = 0, windows.n - 1 do
    most = math.max(most, math.ceil(windows.used[i]))
  end
  return most
end


-- Does it, and looks what became of it: true | nil, why not.
local function change(set, wanted, conf)
  local used, err = peek(set, conf)
  if used and wanted.verb ~= "get" then
    local amount = wanted.amount or most_used(set.windows)
    if amount > 0 then
      counter.charge(set.store, set.identity, set.windows, -amount)
      -- what is asked behind a charge comes back behind it, unless Redis must be given
      -- the charge's script first: then what is asked after that does
      peek(set, conf)
    end
    used, err = peek(set, conf)
  end
  return used and true, err
end


-- The weight of the window before is what a reset leaves.
local function note(sets, wanted)
  if wanted.verb == "get" then
    return
  end
  for _, set in ipairs(sets) do
    for i = 0, set.windows.n - 1 do
      if set.windows.sliding == 1 and set.windows.previous[i] > 0 and set.windows.used[i] > 0 then
        io.stdout:write("What was counted in the window before still weighs until this one ends.\n")
        return
      end
    end
  end
end


local function complain(text)
  io.stderr:write("weir: ", tostring(text), "\n")
  return 1
end


local function run(wanted, is_running)
  local state, err = config.load()
  if not state then
    return complain(err)
  end
  local entity
  entity, err = find(state.config.plugins, wanted)
  if not entity then
    return complain(err)
  end
  local plugin = state.plugins[entity.name]
  local counters = plugin.handler.counters
  if type(counters) ~= "function" then
    return complain("the plugin " .. entity.name .. " does not count requests")
  end
  local conf, sets
  conf, err = plan.conf_of(entity, plugin, config.bind)
  if not conf then
    return complain(err)
  end
  secret.prepare()
  sets, err = counters(conf, wanted.identifier, wanted.by)
  if not sets then
    return complain(err)
  end
  local rows = { { "WINDOW", "USED", "LIMIT", "REMAINING", "RESET" } }
  for _, set in ipairs(sets) do
    if set.store == LOCAL and not is_running then
      return complain("weir is not running, and these counters are in its memory")
    end
    local ok
    ok, err = change(set, wanted, conf)
    if not ok then
      return complain(err)
    end
    add_rows(rows, set)
  end
  io.stdout:write(entity.name, " (", scope_of(entity), "), ", wanted.identifier, ", in ",
                  place_of(sets[1].store), "\n")
  columns.write(rows, io.stdout, true)
  note(sets, wanted)
  return 0
end


-- args: whether the instance runs ("running" or "stopped"), then what follows `counters`.
-- The exit status.
function _M.run(args)
  local wanted, err = parse({ unpack(args, 2) })
  if not wanted then
    io.stderr:write("weir: ", err, "\n", _M.help)
    return 2
  end
  local ok, status = pcall(run, wanted, args[1] == "running")
  if not ok then
    return complain(status)
  end
  return status
end


return _M
