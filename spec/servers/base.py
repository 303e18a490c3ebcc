"""What the test servers share: HTTP/1.1 on 127.0.0.1, plain or by TLS, a thread
for each connection; a log of all requests; a state that a spec changes while it
runs; and faults that it orders. A server's own file has the provider's API only.

    python3 hcv.py '{"port": 0, "control_port": 0, "tls": {...}, "state": {...}}'

prints "port control_port" once it listens, and ends when its parent does. The
control requests (README.md) are answered under /_test/ on both ports; on the
control port they are always plain HTTP and know no faults.
"""
import json
import os
import re
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
import urllib.parse

REASONS = {200: "OK", 201: "Created", 204: "No Content", 301: "Moved Permanently", 302: "Found",
           307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
           404: "Not Found", 405: "Method Not Allowed", 410: "Gone", 412: "Precondition Failed",
           429: "Too Many Requests", 500: "Internal Server Error", 501: "Not Implemented",
           502: "Bad Gateway", 503: "Service Unavailable"}
HEAD_MAX, BODY_MAX = 256 * 1024, 4 * 1024 * 1024


class Gone(Exception):
    """The connection is over."""


class Request:
    """A request as it came: the target and the headers are the client's own bytes."""

    def __init__(self, head, body=b""):
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = lines[0].split(" ", 2)
        self.headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise ValueError("not a header: " + line)
            self.headers.append((name, value.strip(" \t")))
        self.path, _, self.query = self.target.partition("?")
        self.body = body
        self.certificate = None
        self.note = None

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def header(self, name):
        values = self.all(name)
        return values[0] if values else None

    def args(self):
        return dict(urllib.parse.parse_qsl(self.query, keep_blank_values=True))

    def form(self):
        """The members of a form in the body; None if it does not say that it is one."""
        kind = (self.header("Content-Type") or "").split(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            return None
        text = self.body.decode("utf-8", "replace")
        return dict(urllib.parse.parse_qsl(text, keep_blank_values=True))

    def json(self):
        """The body's JSON object; None if it is none."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


class Response:
    def __init__(self, status, body=b"", headers=()):
        self.status = status
        self.body = body if isinstance(body, bytes) else body.encode()
        self.headers = list(headers)


def json_response(status, value, headers=(), kind="application/json"):
    return Response(status, json.dumps(value), [("Content-Type", kind), *headers])


def merge(into, patch):
    """A JSON merge patch (RFC 7396): null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict) or not isinstance(into, dict):
        return patch
    for name, value in patch.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict):
            into[name] = merge(into.get(name) if isinstance(into.get(name), dict) else {}, value)
        else:
            into[name] = value
    return into


class Service:
    """A provider's API. A class of its own gives answer(request) and may give do_<verb>(args)
    for the verbs of /_test/do/, changed() to be told of a new state, and start()."""

    def __init__(self, options):
        self.options = options
        self.state = merge({}, options.get("state") or {})
        self.lock = threading.RLock()
        self.log, self.faults = [], list(options.get("faults") or [])
        self.changed()

    def changed(self):
        pass

    def start(self):
        pass

    def answer(self, request):
        raise NotImplementedError

    def record(self, entry):
        with self.lock:
            entry["n"], entry["time"] = len(self.log) + 1, time.time()
            self.log.append(entry)
        return entry

    def fault_for(self, request):
        """The first ordered fault that meets the request."""
        line = request.method + " " + request.target
        with self.lock:
            for fault in self.faults:
                if not re.search(fault.get("match", ""), line):
                    continue
                if fault.get("skip", 0) > 0:
                    fault["skip"] -= 1
                    continue
                if "count" in fault:
                    if fault["count"] <= 0:
                        continue
                    fault["count"] -= 1
                return fault
        return {}

    # ------------------------------------------------------------------ /_test/
    def control(self, request):
        verb = request.path[len("/_test/"):]
        with self.lock:
            if verb == "set":
                self.state = merge(self.state, json.loads(request.body))
                self.changed()
                return json_response(200, {})
            if verb == "state":
                return json_response(200, self.state)
            if verb == "faults":
                self.faults = json.loads(request.body)
                return json_response(200, {})
            if verb == "log":
                return json_response(200, {"requests": self.log})
            if verb == "forget":
                self.log = []
                return json_response(200, {})
            if verb.startswith("do/"):
                do = getattr(self, "do_" + verb[3:])
                return json_response(200, do(json.loads(request.body or b"{}")) or {})
        return json_response(404, {"error": "no such control: " + verb})


def text_of(body):
    return body.decode("utf-8", "replace")


class Handler(socketserver.BaseRequestHandler):
    """One connection: requests one after the other until somebody closes."""

    def setup(self):
        self.service = self.server.service
        self.rest = b""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = self.server.tls
        if context:
            self.request.settimeout(30)
            self.request = context.wrap_socket(self.request, server_side=True)
            self.request.settimeout(None)

    def more(self):
        got = self.request.recv(65536)
        if not got:
            raise Gone()
        self.rest += got

    def read_until(self, mark, most):
        while mark not in self.rest:
            if len(self.rest) > most:
                raise ValueError("too long")
            self.more()
        head, self.rest = self.rest.split(mark, 1)
        return head

    def read_exactly(self, n):
        if n > BODY_MAX:
            raise ValueError("too long")
        while len(self.rest) < n:
            self.more()
        body, self.rest = self.rest[:n], self.rest[n:]
        return body

    def read_chunked(self):
        body = b""
        while True:
            n = int(self.read_until(b"\r\n", 1024).split(b";")[0], 16)
            if n == 0:
                while self.read_until(b"\r\n", HEAD_MAX):
                    pass
                return body
            body += self.read_exactly(n)
            self.read_until(b"\r\n", 2)

    def read_request(self):
        request = Request(self.read_until(b"\r\n\r\n", HEAD_MAX))
        if (request.header("Expect") or "").lower() == "100-continue":
            self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if (request.header("Transfer-Encoding") or "").lower() == "chunked":
            request.body = self.read_chunked()
        else:
            request.body = self.read_exactly(int(request.header("Content-Length") or 0))
        if self.server.tls:
            request.certificate = self.request.getpeercert() or None
        return request

    def handle(self):
        try:
            while self.one():
                pass
        except (Gone, OSError):
            pass
        except ValueError as err:
            self.service.record({"method": "?", "target": "", "headers": [], "body": "",
                                 "status": 400, "note": str(err)})
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n"
                                 b"Connection: close\r\n\r\n")

    def one(self):
        request = self.read_request()
        if request.path.startswith("/_test/"):
            response, fault = self.service.control(request), {}
        elif self.server.is_control:
            response, fault = json_response(404, {"error": "only /_test/ is here"}), {}
        else:
            response, fault = self.answer(request)
        close = (request.header("Connection") or "").lower() == "close"
        if response is None:
            return False
        return self.send(request, response, fault, close or fault.get("close")) and not close

    def answer(self, request):
        fault = self.service.fault_for(request)
        entry = self.service.record({
            "method": request.method, "target": request.target, "headers": request.headers,
            "body": text_of(request.body), "fault": bool(fault)})
        time.sleep(fault.get("delay_s", 0))
        if fault.get("hang"):
            self.hang(fault)
            return None, fault
        if fault.get("drop"):
            return None, fault
        response = self.faulty(fault)
        if not response:
            response = self.service.answer(request)
        entry["status"], entry["note"] = response.status, request.note
        return response, fault

    @staticmethod
    def faulty(fault):
        headers = list((fault.get("headers") or {}).items())
        if fault.get("garbage"):
            return Response(200, bytes(range(256)), [("Content-Type", "application/json")])
        if fault.get("huge"):
            return Response(200, b'{"data":"' + b"x" * fault["huge"] + b'"}', headers)
        if "status" in fault or "body" in fault:
            return Response(fault.get("status", 200), fault.get("body", ""), headers)
        return None

    def hang(self, fault):
        """Says nothing until the client goes or the spec takes the fault back."""
        while fault in self.service.faults:
            self.request.settimeout(0.1)
            try:
                if not self.request.recv(65536):
                    return
            except (TimeoutError, ssl.SSLWantReadError):
                pass

    def head(self, response, n, close):
        lines = ["HTTP/1.1 %d %s" % (response.status, REASONS.get(response.status, "Status"))]
        lines.append(time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()))
        lines += ["%s: %s" % pair for pair in response.headers]
        lines.append("Transfer-Encoding: chunked" if n is None else "Content-Length: %d" % n)
        if close:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def send(self, request, response, fault, close):
        """True when the connection may go on."""
        body = b"" if request.method == "HEAD" else response.body
        if "raw" in fault:
            self.request.sendall(fault["raw"].encode("latin-1"))
            return False
        if fault.get("chunked"):
            out = self.head(response, None, close)
            out += b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            out += b"0\r\n\r\n"
        else:
            out = self.head(response, len(response.body), close) + body
        if "cut" in fault:
            self.request.sendall(out[:out.index(b"\r\n\r\n") + 4 + fault["cut"]])
            if fault.get("reset"):
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                        struct.pack("ii", 1, 0))
            return False
        drip = fault.get("drip")
        if drip:
            for at in range(0, len(out), drip["bytes"]):
                self.request.sendall(out[at:at + drip["bytes"]])
                time.sleep(drip["s"])
        else:
            self.request.sendall(out)
        return not close

    def finish(self):
        if isinstance(self.request, ssl.SSLSocket):
            try:
                self.request.unwrap()
            except (OSError, ValueError):
                pass
            self.request.close()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service, port, tls=None, is_control=False, handler=Handler):
        self.service, self.tls, self.is_control = service, tls, is_control
        super().__init__(("127.0.0.1", port), handler)

    def handle_error(self, request, client_address):
        err = sys.exc_info()[1]
        if isinstance(err, OSError):  # the other side went, or its TLS was refused
            self.service.record({"method": "-", "target": "", "headers": [], "body": "",
                                 "status": 0, "note": type(err).__name__ + ": " + str(err)})
        else:
            super().handle_error(request, client_address)


def tls_context(tls):
    """cert, key; client_ca: whose client certificates are believed; client_required."""
    if not tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls["cert"], tls["key"])
    if tls.get("client_ca"):
        context.load_verify_locations(tls["client_ca"])
        context.verify_mode = (ssl.CERT_REQUIRED if tls.get("client_required")
                               else ssl.CERT_OPTIONAL)
    return context


def end_with(parent):
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)


def run(service_class):
    """The main function of a server: options are a JSON text, the first argument."""
    options = json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}")
    service = service_class(options)
    main = Server(service, options.get("port", 0), tls_context(options.get("tls")))
    control = Server(service, options.get("control_port", 0), is_control=True)
    service.start()
    threading.Thread(target=control.serve_forever, daemon=True).start()
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    print(main.server_address[1], control.server_address[1], flush=True)
    main.serve_forever()
