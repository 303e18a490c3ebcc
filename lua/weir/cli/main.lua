-- The commands of weir that are written in Lua. Exit status: 0 good, 1 the
-- answer is no, 2 the command was not understood.

local commands = { counters = "weir.cli.counters", plugins = "weir.cli.plugins" }

-- argv: the command and its arguments.
return function(argv)
  local module = commands[argv[1]]
  if not module then
    io.stderr:write("weir: unknown command '", tostring(argv[1]), "' (see weir --help)\n")
    return 2
  end
  return require(module).run({ unpack(argv, 2) })
end
