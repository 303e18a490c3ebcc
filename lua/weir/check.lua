-- Would a worker start? Loads everything as a worker does and says what is
-- wrong: for `weir check`, and before a reload replaces what runs.

-- nil when all is well, or the text of the errors, a line for each.
return function()
  local ok, state, err = pcall(require("weir.config").load)
  if not ok then
    return tostring(state)
  end
  return not state and err or nil
end
