-- Turns a table of errors into text: one sentence as Kong's clients know it,
-- or a flat list of (path, message) for reports that name lines.

local sorted_keys = require("weir.sorted_keys")

local _M = {}

local function pretty(value)
  if type(value) ~= "table" then
    return type(value) == "string" and '"' .. value .. '"' or tostring(value)
  end
  local out = {}
  for i, key in ipairs(sorted_keys(value)) do
    local item = pretty(value[key])
    if key == i then
      out[#out + 1] = item
    elseif type(key) == "string" and key:find("^[%a_][%w_]*$") then
      out[#out + 1] = key .. "=" .. item
    else
      out[#out + 1] = "[" .. pretty(key) .. "]=" .. item
    end
  end
  return "{" .. table.concat(out, ",") .. "}"
end

-- "schema violation (config.second: expected a number)", or "2 schema violations (...; ...)".
function _M.to_string(errors)
  local out = {}
  for _, message in ipairs(errors["@entity"] or {}) do
    out[#out + 1] = message
  end
  for _, name in ipairs(sorted_keys(errors)) do
    local err = errors[name]
    if name ~= "@entity" then
      if type(err) == "table" then
        for _, key in ipairs(sorted_keys(err)) do
          local below = err[key]
          out[#out + 1] = name .. "." .. tostring(key) .. ": "
            .. (type(below) == "table" and pretty(below) or tostring(below))
        end
      else
        out[#out + 1] = name .. ": " .. tostring(err)
      end
    end
  end
  local head = #out == 1 and "schema violation" or #out .. " schema violations"
  return head .. " (" .. table.concat(out, "; ") .. ")"
end

local function step(path, key)
  if type(key) == "number" then
    return path .. "[" .. key .. "]"
  end
  return path == "" and key or path .. "." .. key
end

local function flatten(out, path, keys, errors)
  for _, key in ipairs(sorted_keys(errors)) do
    local err = errors[key]
    if key == "@entity" then
      for _, message in ipairs(err) do
        out[#out + 1] = { path = path, keys = keys, message = message }
      end
    else
      local below = {}
      for i = 1, #keys do
        below[i] = keys[i]
      end
      below[#below + 1] = key
      if type(err) == "table" then
        flatten(out, step(path, key), below, err)
      else
        out[#out + 1] = { path = step(path, key), keys = below, message = tostring(err) }
      end
    end
  end
  return out
end

-- The path of what keys lead to, as flatten() has it: "config.list[2]".
function _M.path(prefix, keys)
  for _, key in ipairs(keys) do
    prefix = step(prefix, key)
  end
  return prefix
end

-- An array of {path, keys, message}; path starts with `prefix`, keys are those below it.
function _M.flatten(errors, prefix)
  return flatten({}, prefix or "", {}, errors)
end

return _M
