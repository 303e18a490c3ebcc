-- One secret of a vault, and all references to it: they share its look-ups, so
-- that the members of a JSON object, such as a user's name and password, change
-- together, and are asked for once.

local json = require "weir.json"
local secret = require "weir.secret"
local timer = require "weir.timer"
local trace = require "weir.trace"

local POLL_S = 0.01

local _M = {}
local source = {}
source.__index = source


-- get(fresh) gives the secret's text | nil, err, ttl_s; it may wait.
function _M.new(get)
  return setmetatable({ get = get, members = {} }, source)
end


local function member(text, key)
  local object = json.decode(text)
  if type(object) ~= "table" or object[1] ~= nil then
    return nil, "the secret is no JSON object, so it has no subfield " .. key
  end
  local value = object[key]
  if value == nil then
    return nil, ("subfield %s not found in JSON secret"):format(key)
  end
  if type(value) ~= "string" then
    return nil, ("unexpected %s value in JSON secret for subfield %s"):format(
      value == json.null and "null" or type(value), key)
  end
  return value
end


-- What an answer holds for one reference: value | nil, err, ttl_s.
local function part(answer, key)
  local value, err = answer.value, answer.err
  if type(value) == "string" and key then
    value, err = member(value, key)
  end
  return value, err, answer.ttl_s
end


-- The answer of the look-up that runs; or of one of its own, and true.
local function ask(self, fresh)
  local answer = self.asking
  if answer then
    repeat
      timer.sleep(POLL_S)
    until answer.done
    return answer
  end
  answer = {}
  self.asking = answer
  local ok
  ok, answer.value, answer.err, answer.ttl_s = xpcall(self.get, trace, fresh)
  if not ok then
    answer.err = "the look-up failed: " .. tostring(answer.value):match("^[^\n]*")
    answer.value = nil
  end
  self.asking, answer.done = nil, true
  return answer, true
end


-- The cell of a reference to this secret, or to the member key of it. options: as secret.keep's.
function source:cell(name, key, options)
  local cell
  local function produce(fresh)
    local answer, is_own = ask(self, fresh)
    if is_own and answer.value ~= nil then
      for other, other_key in pairs(self.members) do
        if other ~= cell then
          secret.offer(other, part(answer, other_key or nil))
        end
      end
    end
    return part(answer, key)
  end
  cell = secret.keep(name, produce, options)
  cell.kin = self.members
  self.members[cell] = key or false
  return cell
end


return _M
