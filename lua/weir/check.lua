-- Would a worker start? Loads everything as a worker does and says what is
-- wrong, or what it has found: for `weir check`, and before a reload replaces
-- what runs.

local function count(n, what)
  return n .. " " .. what .. (n == 1 and "" or "s")
end


-- "1 service, 2 routes, 1 plugin configured; plugins found: a, b"
local function summary(state)
  local config, names = state.config, {}

  for name in pairs(state.plugins) do
    names[#names + 1] = name
  end
  table.sort(names)
  return ("%s, %s, %s configured; plugins found: %s"):format(
    count(#config.services, "service"), count(#config.routes, "route"),
    count(#config.plugins, "plugin"), #names > 0 and table.concat(names, ", ") or "none")
end


-- C has room for about a thousand bytes of an error (struct err). Of more lines than that, as
-- many as there is room for, and how many the others are.
local ROOM = 960


local function shorten(text)
  local at = #text > ROOM and text:sub(1, ROOM):find("\n[^\n]*$")

  if not at then
    return text
  end

  local _, others = text:sub(at):gsub("\n", "")

  return text:sub(1, at) .. "and " .. count(others, "more mistake")
end


-- nil when all is well, or the text of the errors, a line for each; and what was found.
return function()
  local ok, state, err = pcall(require("weir.config").load)

  if not ok then
    return tostring(state)
  end
  if not state then
    return shorten(err)
  end
  return nil, summary(state)
end
