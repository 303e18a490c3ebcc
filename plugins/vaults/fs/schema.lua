-- What can be configured of the vault fs.

local credentials = os.getenv("CREDENTIALS_DIRECTORY") -- by systemd's LoadCredential=

if credentials and not credentials:find("^/") then
  credentials = nil
end

local function check_directory(path)
  if path:find("%z") then
    return nil, "must not contain NUL"
  end
  return true
end

return {
  name = "fs",
  fields = require("weir.schema.vault").fields({
    { prefix = {
      type = "string", required = true, default = credentials, starts_with = "/",
      custom_validator = check_directory,
      description = "The directory that the files are in: an absolute path. By default that of "
        .. "the environment variable CREDENTIALS_DIRECTORY, which systemd sets.",
    } },
    { base64_decode = {
      type = "boolean", default = false,
      description = "The files hold base64, and what it stands for is the secret.",
    } },
  }),
}
