"""run.py NAME...: the test servers are asked what their documents say, over real
sockets, by http.client; says how many checks passed, or which one did not. Each
of_<name>.py has one test()."""
import importlib
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
sys.path.insert(0, here)

import checks  # noqa: E402, found by the path above

for name in sys.argv[1:]:
    importlib.import_module("of_" + name).test()
print("%d checks passed" % checks.passed)
