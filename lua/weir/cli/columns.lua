-- Rows of texts under each other, to the left, or all columns but the first to the right.

local _M = {}

-- rows: arrays of texts, all of the same length; the first has the titles. numbers: all columns
-- but the first hold numbers.
function _M.write(rows, out, numbers)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, #cell)
    end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      local space = (" "):rep(widths[i] - #cell)
      if numbers and i > 1 then
        cells[i] = space .. cell
      else
        cells[i] = i < #row and cell .. space or cell
      end
    end
    out:write(table.concat(cells, "  "), "\n")
  end
end

return _M
