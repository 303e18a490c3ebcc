-- Small files that others write for weir: tokens, keys. Read whole each time, as
-- they are replaced while weir runs. Blocks, so never for a client's request.

local MAX_BYTES = 65536

-- The text of the file, without white space around it | nil, err. what: what it is, for err.
return function(what, path)
  local file, err = io.open(path, "rb")
  if not file then
    return nil, what .. ": " .. err
  end
  local text = file:read(MAX_BYTES + 1)
  file:close()
  if text and #text > MAX_BYTES then
    return nil, what .. ": " .. path .. " is longer than 64 KiB"
  end
  text = text and text:match("^%s*(.-)%s*$")
  if not text or text == "" then
    return nil, what .. ": " .. path .. " is empty or no file"
  end
  return text
end
