-- Bodies as tables: urlencoded forms, JSON and multipart forms, read and
-- written. Shared by requests and responses of the PDK. Pure Lua.

local json = require "weir.json"
local query = require "weir.pdk.query"

local concat = table.concat
local find = string.find
local format = string.format
local gsub = string.gsub
local ipairs = ipairs
local lower = string.lower
local match = string.match
local pairs = pairs
local sort = table.sort
local sub = string.sub
local tostring = tostring
local type = type


local _M = {}

local FORM = "application/x-www-form-urlencoded"
local JSON = "application/json"
local MULTIPART = "multipart/form-data"

-- Parts of a multipart body beyond this number are an error.
local PARTS_MAX = 1000


local function media_type(content_type)
  local essence = match(content_type, "^%s*([^;%s]+)")
  return essence and lower(essence)
end
_M.media_type = media_type


local function boundary_of(content_type)
  return match(content_type, '[bB][oO][uU][nN][dD][aA][rR][yY]="([^"]+)"')
      or match(content_type, '[bB][oO][uU][nN][dD][aA][rR][yY]=([^;%s]+)')
end


local function part_name(head)
  local disposition = match(lower(head), "content%-disposition:[^\r\n]*")
  if not disposition then
    return nil
  end
  local from = find(lower(head), disposition, 1, true)
  local line = sub(head, from, from + #disposition - 1)
  return match(line, '[;%s][nN][aA][mM][eE]="([^"]*)"')
      or match(line, '[;%s][nN][aA][mM][eE]=([^;%s]+)')
end


-- One part: head, empty line, value.
local function read_part(part, out)
  local head_end, value_start = find(part, "\r\n\r\n", 1, true)
  if not head_end then
    return
  end
  local name = part_name(sub(part, 1, head_end - 1))
  if name then
    query.store(out, name, sub(part, value_start + 1))
  end
end


-- Name -> value; of several parts of one name an array of their values.
local function parse_multipart(text, boundary)
  local mark = "--" .. boundary
  local out = {}
  local _, stop = find(text, mark, 1, true)
  for _ = 1, PARTS_MAX do
    if not stop or sub(text, stop + 1, stop + 2) == "--" then
      return out
    end
    local from = find(text, "\r\n", stop + 1, true)
    local next_mark, next_stop = find(text, "\r\n" .. mark, from or #text + 1, true)
    if not from or not next_mark then
      return nil
    end
    -- by itself: what the end of a head is looked for in must not be the whole text each time
    read_part(sub(text, from + 2, next_mark - 1), out)
    stop = next_stop
  end
  return nil
end


local SCALARS = { string = true, number = true, boolean = true }


-- The parts as { name, text }, sorted by name; nil and the reason for values that have no text.
local function parts_of(args)
  local names, parts = {}, {}
  for name in pairs(args) do
    if type(name) ~= "string" then
      return nil, format("invalid key %q: got %s, expected string", tostring(name), type(name))
    end
    names[#names + 1] = name
  end
  sort(names)
  for _, name in ipairs(names) do
    local value = args[name]
    for _, item in ipairs(type(value) == "table" and value or { value }) do
      if not SCALARS[type(item)] then
        return nil, format("invalid value %q: got %s, expected string, number or boolean", name,
                           type(item))
      end
      parts[#parts + 1] = { name, tostring(item) }
    end
  end
  return parts
end


-- A boundary that none of the values holds.
local function free_boundary(parts)
  local boundary = "weir-boundary"
  for _, part in ipairs(parts) do
    while find(part[2], boundary, 1, true) do
      boundary = boundary .. "-x"
    end
  end
  return boundary
end


local function encode_multipart(parts, boundary)
  local out = {}
  for i, part in ipairs(parts) do
    local quoted = gsub(gsub(part[1], '"', "%%22"), "[\r\n]", " ")
    out[i] = format('--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n',
                    boundary, quoted, part[2])
  end
  out[#out + 1] = "--" .. boundary .. "--\r\n"
  return concat(out)
end


-- The table that a body stands for, by its content type. Returns the table, nil and
-- the media type; or nil, the reason and, where it is known, the media type.
function _M.decode(text, content_type, max_args)
  if not content_type then
    return nil, "missing content type"
  end
  local mime = media_type(content_type)
  if mime == FORM then
    local args, err = query.parse(text, max_args)
    return args, err, FORM
  elseif mime == JSON then
    local value = json.decode(text)
    if type(value) ~= "table" then
      return nil, "invalid json body", JSON
    end
    return value, nil, JSON
  elseif mime == MULTIPART then
    local boundary = boundary_of(content_type)
    local parts = boundary and parse_multipart(text, boundary)
    if not parts then
      return nil, "invalid multipart body", MULTIPART
    end
    return parts, nil, MULTIPART
  end
  return nil, "unsupported content type '" .. content_type .. "'", content_type
end


-- The reverse. Returns the text and the content type to send with it; nil and the reason.
function _M.encode(args, content_type)
  local mime = media_type(content_type)
  if mime == FORM then
    local text, err = query.encode(args)
    return text, text and content_type or err
  elseif mime == JSON then
    local text, err = json.encode(args)
    return text, text and content_type or err
  elseif mime == MULTIPART then
    local parts, err = parts_of(args)
    if not parts then
      return nil, err
    end
    local boundary = boundary_of(content_type)
    if not boundary then
      boundary = free_boundary(parts)
      content_type = MULTIPART .. "; boundary=" .. boundary
    end
    return encode_multipart(parts, boundary), content_type
  end
  return nil, "unsupported content type '" .. content_type .. "'"
end


return _M
