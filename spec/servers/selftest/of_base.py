"""Requests, control and faults, by a service that echoes."""
import http.client
import time

import base
from checks import Client, check, same


class Echo(base.Service):
    def answer(self, request):
        return base.json_response(200, {"body": request.body.decode(), "args": request.args()})


def test():
    same(base.merge({"a": {"b": 1, "c": 2}, "d": [1]},
                    {"a": {"b": None}, "d": [2], "e": {"f": None}}),
         {"a": {"c": 2}, "d": [2], "e": {}})
    c = Client(Echo, {"state": {"x": 1}})
    same(c.ask("POST", "/p?a=%20b&a2", "hello"),
         (200, {"body": "hello", "args": {"a": " b", "a2": ""}}))
    same(c.ask("POST", "/p", iter([b"he", b"llo"]))[1]["body"], "hello")
    c.control("set", {"y": {"z": 2}})
    same(c.ask("GET", "/_test/state"), (200, {"x": 1, "y": {"z": 2}}))
    same(c.ask("GET", "/_test/log")[1]["requests"][0]["target"], "/p?a=%20b&a2")
    c.control("faults", [{"match": "^GET /bad", "status": 503, "body": "no", "count": 1,
                          "skip": 1}])
    same([c.ask("GET", "/bad")[0] for _ in range(3)], [200, 503, 200])
    c.control("faults", [{"garbage": True, "chunked": True}])
    same(c.ask("GET", "/"), (200, bytes(range(256))))
    c.control("faults", [{"huge": 100000}])
    check(len(c.ask("GET", "/")[1]["data"]) == 100000, "huge")
    for fault, error in (({"cut": 3}, http.client.IncompleteRead), ({"drop": True}, OSError),
                         ({"cut": 3, "reset": True}, (OSError, http.client.IncompleteRead)),
                         ({"hang": True}, TimeoutError), ({"delay_s": 2}, TimeoutError),
                         ({"drip": {"bytes": 20, "s": 0.3}}, TimeoutError)):
        c.control("faults", [fault])
        begun = time.time()
        try:
            c.ask("GET", "/", timeout=0.5)
            check(fault.get("drip") and time.time() - begun > 1, fault, "had no effect")
        except error:
            check(True)
    c.control("faults", [])
    same(c.ask("GET", "/")[0], 200)
