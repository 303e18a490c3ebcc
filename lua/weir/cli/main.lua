-- The commands of weir that are written in Lua. Exit status: 0 good, 1 the
-- answer is no, 2 the command was not understood.

local commands = {
  config = "weir.cli.config",
  counters = "weir.cli.counters",
  plugins = "weir.cli.plugins",
  references = "weir.cli.references", -- not for people: see src/srv/references.c
  vault = "weir.cli.vault",
}

-- argv: the command and its arguments.
return function(argv)
  local module = commands[argv[1]]
  if not module then
    io.stderr:write("weir: unknown command '", tostring(argv[1]), "' (see weir --help)\n")
    return 2
  end
  return require(module).run({ unpack(argv, 2) })
end
