-- A directory of a spec's own: made by new(), filled by write(), gone by remove().

local folder = {}
folder.__index = folder

local function run(command)
  assert(os.execute(command) == 0, command)
end

function folder.new()
  local pipe = io.popen("mktemp -d")
  local self = setmetatable({ path = pipe:read("*l") }, folder)
  pipe:close()
  return self
end

function folder:write(name, text)
  local path = self.path .. "/" .. name
  run("mkdir -p '" .. path:match("^(.*)/") .. "'")
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- A shell's command line in it.
function folder:run(command)
  run("cd '" .. self.path .. "' && " .. command)
end

-- The text without the path of a folder in it ("p").
function folder:without(name, text)
  return (text:gsub((self.path .. "/" .. name .. "/"):gsub("%p", "%%%0"), ""))
end

function folder:remove()
  run("rm -r '" .. self.path .. "'")
end

return folder
