"""What the self-tests share: a count of checks, a client of a server in this
process, certificates, a redis-server."""
import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import base

passed = 0


def check(condition, *what):
    global passed
    if not condition:
        raise AssertionError(" ".join(map(str, what)))
    passed += 1


def same(got, wanted):
    check(got == wanted, "got", repr(got), "not", repr(wanted))


def refused(error, fn, *args):
    """fn must raise that; its exception."""
    try:
        got = fn(*args)
    except error as err:
        check(True)
        return err
    raise AssertionError("%r was not refused: %r" % (args, got))


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


class Redis:
    """A real redis-server, and what a client with a socket says to a port."""

    def __init__(self, password):
        self.directory = tempfile.mkdtemp()
        self.path = self.directory + "/redis.sock"
        self.proc = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.path, "--requirepass", password,
             "--save", "", "--dir", self.directory], stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                with socket.socket(socket.AF_UNIX) as conn:
                    conn.connect(self.path)
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("no redis-server")

    def stop(self):
        self.proc.terminate()
        self.proc.wait()
        shutil.rmtree(self.directory)


def resp(*words):
    out = "*%d\r\n" % len(words)
    return (out + "".join("$%d\r\n%s\r\n" % (len(w), w) for w in words)).encode()


def talk(conn, *commands):
    """Sends them all at once; the lines of the answers, one for each command."""
    conn.sendall(b"".join(resp(*words) for words in commands))
    got = b""
    conn.settimeout(5)
    while got.count(b"\r\n") < len(commands):
        more = conn.recv(4096)
        if not more:
            break
        got += more
    return got.decode().split("\r\n")[:-1]
