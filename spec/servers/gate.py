"""A Redis that knows its clients by tokens, as the clouds' managed ones do: a
gate before a real redis-server. It lets everything through as it is, but AUTH and
HELLO: the token in them is verified, and the server gets a password in its place,
a wrong one if the token is refused. So each answer, NOAUTH and WRONGPASS too, is
the real server's, in its turn.

options.redis = { port, target: "127.0.0.1:6379" | "/path", password, tls }: password is
target's requirepass. state.redis = { max_s: connections are closed so long after their
last good AUTH, refuse: true }.
"""
import socket
import threading
import time

import base

WRONG = b"the token was refused"


def connect(target):
    if target.startswith("/"):
        conn = socket.socket(socket.AF_UNIX)
        conn.connect(target)
        return conn
    host, port = target.rsplit(":", 1)
    return socket.create_connection((host, int(port)))


def command(words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


class Gate(base.Handler):
    def handle(self):
        options = self.service.options["redis"]
        self.password = options["password"].encode()
        self.number = self.service.next_connection(self)
        self.until = None
        self.backend = connect(options["target"])
        threading.Thread(target=self.answers, daemon=True).start()
        try:
            while True:
                self.backend.sendall(self.translate(self.read_command()))
        except (base.Gone, OSError, ValueError):
            pass
        finally:
            self.close()
            self.service.connections.pop(self.number, None)

    def close(self):
        for conn in (self.request, self.backend):
            try:
                conn.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def answers(self):
        try:
            while True:
                got = self.backend.recv(65536)
                if not got:
                    break
                self.request.sendall(got)
        except OSError:
            pass
        self.close()

    def read_command(self):
        line = self.read_until(b"\r\n", 65536)
        if not line.startswith(b"*"):
            return [line]
        words = []
        for _ in range(int(line[1:])):
            n = int(self.read_until(b"\r\n", 65536)[1:])
            words.append(self.read_exactly(n))
            self.read_until(b"\r\n", 2)
        return words

    def translate(self, words):
        verb = words[0].upper()
        if verb == b"AUTH" and len(words) in (2, 3):
            user = words[1] if len(words) == 3 else b"default"
            password = self.judge(user, words[-1], len(words) == 3)
            return command([b"AUTH", user, password])
        upper = [w.upper() for w in words]
        if verb == b"HELLO" and b"AUTH" in upper[2:]:
            at = upper.index(b"AUTH", 2)
            words[at + 2] = self.judge(words[at + 1], words[at + 2], True)
        return command(words)

    def judge(self, user, token, has_user):
        """The password to go on with."""
        service, note = self.service, None
        with service.lock:
            settings = service.state.get("redis") or {}
            try:
                if settings.get("refuse"):
                    raise ValueError("all are refused")
                note = service.verify_redis(user.decode(), token.decode(), has_user)
                good = True
            except ValueError as err:
                good, note = False, str(err)
            service.record({"method": "AUTH", "target": user.decode("utf-8", "replace"),
                            "headers": [], "body": token.decode("utf-8", "replace"),
                            "connection": self.number, "status": 200 if good else 403,
                            "note": note})
        if not good:
            return WRONG
        self.make_user(user)
        lives_s = settings.get("max_s", note if isinstance(note, float) else None)
        if lives_s:
            self.close_in(lives_s)
        return self.password

    def make_user(self, user):
        """The server knows the user by the gate's password."""
        if user == b"default":
            return
        with connect(self.service.options["redis"]["target"]) as conn:
            conn.sendall(command([b"AUTH", self.password]) +
                         command([b"ACL", b"SETUSER", user, b"on", b"resetpass",
                                  b">" + self.password, b"~*", b"&*", b"+@all"]))
            said = b""
            while said.count(b"\r\n") < 2:
                said += conn.recv(4096) or b"-closed\r\n-closed\r\n"
            if said != b"+OK\r\n+OK\r\n":
                raise ValueError(said)

    def close_in(self, seconds):
        mine = self.until = time.time() + seconds

        def end():
            if self.until == mine:
                self.close()
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()


class Gated:
    """For a Service: verify_redis(user, token, has_user) gives a note for the log, or how many
    seconds the connection may live; or it raises ValueError."""
    connections = {}
    count = 0

    def next_connection(self, gate):
        with self.lock:
            self.count += 1
            self.connections[self.count] = gate
            return self.count

    def do_kick(self, _):
        """Closes all connections to the Redis."""
        for gate in list(self.connections.values()):
            gate.close()

    def start(self):
        options = self.options.get("redis")
        if options:
            server = base.Server(self, options.get("port", 0),
                                 base.tls_context(options.get("tls")), handler=Gate)
            self.redis_port = server.server_address[1]
            threading.Thread(target=server.serve_forever, daemon=True).start()
