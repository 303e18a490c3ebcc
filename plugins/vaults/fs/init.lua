-- The vault fs: a secret is a file below a directory, as Kubernetes and systemd
-- hand them over. Files are watched, so that a new one counts at once. Reading
-- blocks, which local files of at most 1 MiB may: it happens in the background,
-- once for each change.

local weir = require("weir.ffi")

local C, sv, str = weir.C, weir.sv, weir.str

local MAX_BYTES = 1024 * 1024
local WRITING_S = 0.2 -- from a file's making to its first bytes

local _M = { VERSION = "1.0.0" }

-- Whether a name stays below the directory as it is written; where its links lead, C checks.
local function check_name(resource)
  if resource:find("%z") then
    return nil, "the name of a file holds no NUL"
  end
  if resource:sub(1, 1) == "/" then
    return nil, "the name of a file must not begin with a slash"
  end
  for part in resource:gmatch("[^/]+") do
    if part == ".." then
      return nil, "the name of a file must not contain .."
    end
  end
  return true
end

local function path_of(conf, resource)
  return (conf.prefix:gsub("/+$", "")) .. "/" .. resource
end

local function read(conf, resource)
  local code = C.weir_file_read(conf.prefix, resource, MAX_BYTES, sv)
  local text = str(sv[0])
  C.weir_file_wipe()
  if code < 0 then
    return nil, path_of(conf, resource) .. ": " .. text
  end
  return text
end

function _M.get(conf, resource, version)
  if version and version ~= 1 then
    return nil, "files have no versions"
  end
  local ok, err = check_name(resource)
  if not ok then
    return nil, err
  end
  local text
  text, err = read(conf, resource)
  if text == "" then -- somebody may be about to write it
    require("weir.timer").sleep(WRITING_S)
    text, err = read(conf, resource)
  end
  if not text then
    return nil, err
  end
  if conf.base64_decode then
    text = require("weir.crypto").unbase64(text)
    return text, not text and path_of(conf, resource) .. ": it is not base64" or nil
  end
  return (text:gsub("\r?\n$", "")) -- as editors and echo end a file
end

-- Calls changed() when the file may hold something else.
function _M.watch(conf, resource, changed)
  if check_name(resource) then
    require("weir.watch").file(path_of(conf, resource), changed)
  end
end

return _M
