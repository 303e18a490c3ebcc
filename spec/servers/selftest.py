"""selftest.py NAME...: the test servers are asked what their documents say, over
real sockets, by http.client; says how many checks passed, or which one did not."""
import http.client
import json
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import base

CHECKS = 0


def check(condition, *what):
    global CHECKS
    if not condition:
        raise AssertionError(" ".join(map(str, what)))
    CHECKS += 1


def same(got, wanted):
    check(got == wanted, "got", repr(got), "not", repr(wanted))


class Client:
    """A service in this process, on a port of its own."""

    def __init__(self, service_class, options):
        self.service, self.tls = service_class(options), None
        self.server = base.Server(self.service, 0, base.tls_context(options.get("tls")))
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.service.start()

    def ask(self, method, path, body=None, headers=None, timeout=5):
        """The status and the body's JSON, or its text."""
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        if self.tls:
            conn = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout,
                                               context=self.tls)
        try:
            if isinstance(body, dict):
                body = json.dumps(body)
            conn.request(method, path, body, headers or {})
            response = conn.getresponse()
            text = response.read()
            self.headers = dict(response.getheaders())
            try:
                return response.status, json.loads(text)
            except ValueError:
                return response.status, text
        finally:
            conn.close()

    def control(self, verb, value):
        return self.ask("POST", "/_test/" + verb, json.dumps(value))[1]


class Echo(base.Service):
    def answer(self, request):
        return base.json_response(200, {"body": request.body.decode(), "args": request.args()})


def test_base():
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


def test_hcv():
    import hcv
    role = {"role_id": "r1", "secret_ids": ["s1", "s2"], "secret_id_num_uses": 1, "token_ttl": 1,
            "token_max_ttl": 2, "paths": ["secret/data/a*"]}
    space = {"mounts": {"secret": {"version": 1,
                                   "secrets": {"redis": {"p": "in ns", "ttl": "1m"}}}},
             "auth": {"kubernetes": {"roles": {"k": {"jwts": ["j.w.t"]}}}}}
    c = Client(hcv.Vault, {"state": {
        "tokens": {"root": {}, "twice": {"num_uses": 2}, "firm": {"ttl": 60, "renewable": False}},
        "mounts": {"secret": {"secrets": {
            "app/redis": [{"data": {"p": "1"}}, {"data": {"p": "2"}},
                          {"data": {"p": "3"}, "deleted": True}],
            "a": {"p": "a"}}}, "secret/deep": {"version": 1, "secrets": {"x": {"p": "deep"}}}},
        "auth": {"approle": {"roles": {"web": role}},
                 "my/role": {"type": "approle",
                             "roles": {"w": {"role_id": "q", "bind_secret_id": False}}}},
        "wrapped": {"wrap": {"secret_id": "s2"}}, "namespaces": {"team": space}}})
    root = {"X-Vault-Token": "root"}
    denied = (403, {"errors": ["permission denied"]})

    def get(path, headers=root):
        return c.ask("GET", "/v1/" + path, headers=headers)

    same(get("secret/data/app/redis?version=1")[1]["data"]["data"], {"p": "1"})
    same(get("secret/data/app/redis?version=2")[1]["data"]["metadata"]["version"], 2)
    status, body = get("secret/data/app/redis")
    same((status, body["data"]["data"], body["data"]["metadata"]["version"]), (404, None, 3))
    check(body["data"]["metadata"]["deletion_time"] != "", "deletion_time")
    same(get("secret/data/app/redis?version=9"), (404, {"errors": []}))
    same(get("secret/data/none"), (404, {"errors": []}))
    same(get("secret/deep/x")[1]["data"], {"p": "deep"})
    check("versioned" in get("secret/app/redis")[1]["warnings"][0], "a path of KV 1")
    same(get("nowhere/x")[0], 404)
    same(get("secret/data/a", {}), denied)
    same(get("secret/data/a", {"X-Vault-Token": "roots"}), denied)
    same([get("secret/data/a", {"X-Vault-Token": "twice"})[0] for _ in range(3)], [200, 200, 403])
    same(get("secret/data/a", {"Authorization": "Bearer root"})[0], 200)

    def login(mount, body, headers=None):
        return c.ask("POST", "/v1/auth/%s/login" % mount, body, headers)

    same(login("approle", {"role_id": "r1", "secret_id": "no"}),
         (400, {"errors": ["invalid role or secret ID"]}))
    same(login("approle", {"secret_id": "s1"})[1], {"errors": ["missing role_id"]})
    status, body = login("approle", {"role_id": "r1", "secret_id": "s1"})
    same((status, body["auth"]["lease_duration"], body["auth"]["renewable"]), (200, 1, True))
    mine = {"X-Vault-Token": body["auth"]["client_token"]}
    same(login("approle", {"role_id": "r1", "secret_id": "s1"})[0], 400)
    same(get("secret/data/a", mine)[0], 200)
    same(get("secret/data/app/redis?version=1", mine)[0], 200)
    same(get("secret/deep/x", mine),
         (403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}))
    time.sleep(0.6)
    renewed = c.ask("POST", "/v1/auth/token/renew-self", {"increment": "1h"}, mine)[1]
    same(renewed["auth"]["lease_duration"], 1)
    time.sleep(0.6)
    same(get("auth/token/lookup-self", mine)[1]["data"]["id"], mine["X-Vault-Token"])
    time.sleep(1)
    same(get("secret/data/a", mine), denied)
    same(c.ask("POST", "/v1/auth/token/renew-self", {}, {"X-Vault-Token": "firm"}),
         (400, {"errors": ["lease is not renewable"]}))
    same(login("my/role", {"role_id": "q"})[0], 200)
    same(login("other", {"role_id": "q"})[0], 403)
    wrap = {"X-Vault-Token": "wrap"}
    same(c.ask("POST", "/v1/sys/wrapping/unwrap", {}, wrap)[1]["data"], {"secret_id": "s2"})
    same(c.ask("POST", "/v1/sys/wrapping/unwrap", {}, wrap)[0], 400)
    same(login("kubernetes", {"role": "k", "jwt": "j.w.t"})[0], 403)
    team = {"X-Vault-Namespace": "team/"}
    same(login("kubernetes", {"role": "k", "jwt": "no"}, team), denied)
    same(login("kubernetes", {"role": "x", "jwt": "no"}, team)[0], 400)
    entered = login("kubernetes", {"role": "k", "jwt": "j.w.t"}, team)[1]
    inside = {"X-Vault-Token": entered["auth"]["client_token"]}
    same(get("team/secret/redis", inside)[1]["lease_duration"], 60)
    same(get("secret/redis", {**inside, **team})[1]["data"]["p"], "in ns")
    same(get("secret/data/a", inside), denied)
    same(get("team/secret/redis")[0], 200)
    same(login("cert", {})[0], 403)
    c.control("set", {"sealed": True})
    same(get("secret/data/a"), (503, {"errors": ["Vault is sealed"]}))
    same(get("sys/health")[0], 503)
    c.control("set", {"sealed": None, "standby": True, "standby_redirect": "http://active:8200"})
    same((get("sys/health")[0], get("secret/data/a")[0]), (429, 307))
    same(c.headers["Location"], "http://active:8200/v1/secret/data/a")
    c.control("set", {"standby": None})
    c.control("do/revoke", {"token": "root"})
    same(get("secret/data/a"), denied)


def make_certificates(directory):
    """A CA, a server's certificate for 127.0.0.1 and a client's, by the openssl program."""
    for name, cn, more in (("ca", "spec-ca", []), ("server", "127.0.0.1", ["IP:127.0.0.1"]),
                           ("client", "weir-client", [])):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                   "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", "/CN=" + cn,
                   "-keyout", name + ".key", "-out", name + ".crt"]
        if name != "ca":
            command += ["-CA", "ca.crt", "-CAkey", "ca.key"]
        for san in more:
            command += ["-addext", "subjectAltName=" + san]
        subprocess.run(command, cwd=directory, check=True, stdin=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)


def test_tls():
    import hcv
    with tempfile.TemporaryDirectory() as directory:
        make_certificates(directory)
        path = directory + "/"
        c = Client(hcv.Vault, {
            "tls": {"cert": path + "server.crt", "key": path + "server.key",
                    "client_ca": path + "ca.crt"},
            "state": {"auth": {"cert": {"roles": {
                "other": {"allowed_common_names": ["somebody"]},
                "web": {"allowed_common_names": ["weir-client"]}}}}}})
        c.tls = ssl.create_default_context(cafile=path + "ca.crt")
        login = "/v1/auth/cert/login"
        same(c.ask("POST", login, {}),
             (400, {"errors": ["client certificate must be supplied"]}))
        c.tls.load_cert_chain(path + "client.crt", path + "client.key")
        body = c.ask("POST", login, {})[1]
        same(body["auth"]["metadata"]["role_name"], "web")
        same(c.ask("POST", login, {"name": "web"})[0], 200)
        same(c.ask("POST", login, {"name": "other"})[0], 400)
        mine = {"X-Vault-Token": body["auth"]["client_token"]}
        same(c.ask("GET", "/v1/auth/token/lookup-self", headers=mine)[0], 200)
        c.tls = ssl.create_default_context()
        try:
            c.ask("POST", login, {})
            check(False, "a certificate of nobody was believed")
        except ssl.SSLCertVerificationError:
            check(True)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        globals()["test_" + name]()
    print("%d checks passed" % CHECKS)
