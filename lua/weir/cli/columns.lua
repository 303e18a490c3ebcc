-- Rows of texts under each other, the last column as long as it is.

local _M = {}

-- rows: arrays of texts, all of the same length; the first has the titles.
function _M.write(rows, out)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, #cell)
    end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = i < #row and cell .. (" "):rep(widths[i] - #cell) or cell
    end
    out:write(table.concat(cells, "  "), "\n")
  end
end

return _M
