return {
  name = "answer",
  fields = {
    { config = { type = "record", fields = {} } },
  },
}
