"""Google Cloud: service accounts, the metadata server, Secret Manager, the Redis."""
import base64
import json
import socket
import subprocess
import tempfile
import time
import urllib.parse

import gcp
from checks import Client, Redis, check, same, talk

EMAIL = "weir@project.iam.gserviceaccount.com"


def part(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def openssl(*words, data=None):
    return subprocess.run(["openssl", *words], input=data, capture_output=True, check=True).stdout


def login(c, key, head=None, grant=gcp.GRANT, **claims):
    now = int(time.time())
    body = {"iss": EMAIL, "scope": gcp.CLOUD, "aud": gcp.TOKEN_URL, "iat": now, "exp": now + 3600,
            **claims}
    signed = part({"alg": "RS256", "typ": "JWT", "kid": "k1", **(head or {})}) + "." + part(body)
    signature = openssl("dgst", "-sha256", "-sign", key, data=signed.encode())
    form = urllib.parse.urlencode({"grant_type": grant,
                                   "assertion": signed + "." + part(signature)})
    status, body = c.ask("POST", "/token", form,
                         {"Content-Type": "application/x-www-form-urlencoded"})
    return body["access_token"] if status == 200 else body["error"]


def of_login(c, key, other):
    now = int(time.time())
    for error, more in (("unsupported_grant_type", {"grant": "password"}),
                        ("invalid_grant", {"iss": "nobody@x"}),
                        ("invalid_grant", {"aud": "https://example.org/token"}),
                        ("invalid_grant", {"iat": now - 7200, "exp": now - 3600}),
                        ("invalid_grant", {"exp": now + 3601}),
                        ("invalid_grant", {"iat": now + 120, "exp": now + 180}),
                        ("invalid_grant", {"head": {"alg": "none"}}),
                        ("invalid_grant", {"head": {"kid": "k2"}}),
                        ("invalid_scope", {"scope": ""})):
        same(login(c, key, **more), error)
    same(login(c, other), "invalid_grant")
    here = "http://127.0.0.1:%d/token" % c.port
    check(login(c, key, aud=here).startswith("ya29."), "the server's own audience")


def of_secrets(c, key):
    def get(name, token):
        status, body = c.ask("GET", "/v1/projects/p/secrets/" + name + ":access",
                             headers={"Authorization": "Bearer " + token})
        return base64.b64decode(body["payload"]["data"]) if status == 200 \
            else (status, body["error"]["status"])
    token = login(c, key)
    same(get("redis/versions/latest", token), b"two\n")
    same(get("redis/versions/1", token), b"\0\1")
    same(get("redis/versions/3", token), (404, "NOT_FOUND"))
    same(get("none/versions/latest", token), (404, "NOT_FOUND"))
    same(get("off/versions/latest", token), (400, "FAILED_PRECONDITION"))
    same(get("redis/versions/latest", "ya29.x"), (401, "UNAUTHENTICATED"))
    same(get("redis/versions/latest", login(c, key, scope="email")), (403, "PERMISSION_DENIED"))
    body = c.ask("GET", "/v1/projects/p/secrets/redis/versions/latest:access",
                 headers={"Authorization": "Bearer " + token})[1]
    same(body["payload"]["dataCrc32c"], str(gcp.crc32c(b"two\n")))
    c.control("set", {"deny": [EMAIL]})
    same(get("redis/versions/latest", token), (403, "PERMISSION_DENIED"))
    c.control("set", {"deny": None})
    c.control("do/expire", {})
    same(get("redis/versions/latest", token), (401, "UNAUTHENTICATED"))


def of_metadata(c):
    flavor = {"Metadata-Flavor": "Google"}
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    same(c.ask("GET", path)[0], 403)
    same(c.ask("GET", path, headers={**flavor, "X-Forwarded-For": "1"})[0], 403)
    got = c.ask("GET", path, headers=flavor)[1]
    same((got["token_type"], got["expires_in"]), ("Bearer", 3600))
    same(c.ask("GET", path, headers=flavor)[1]["access_token"], got["access_token"])
    same(c.ask("GET", "/computeMetadata/v1/project/project-id", headers=flavor)[1], b"p")
    return got["access_token"]


def of_cache(c, token):
    with socket.create_connection(("127.0.0.1", c.service.redis_port)) as conn:
        same(talk(conn, ("AUTH", token), ("PING",)), ["+OK", "+PONG"])
        same(talk(conn, ("AUTH", "default", token)), ["+OK"])
        same(talk(conn, ("AUTH", "other", token))[0].split()[0], "-WRONGPASS")
        same(talk(conn, ("AUTH", token + "x"))[0].split()[0], "-WRONGPASS")
        c.control("do/expire", {})
        same(talk(conn, ("AUTH", token))[0].split()[0], "-WRONGPASS")


def test():
    same(gcp.crc32c(b"123456789"), 0xe3069283)
    redis = Redis("behind the gate")
    try:
        with tempfile.TemporaryDirectory() as directory:
            for name in ("key", "other"):
                openssl("genpkey", "-algorithm", "RSA", "-out", directory + "/" + name)
            public = openssl("pkey", "-in", directory + "/key", "-pubout").decode()
            c = Client(gcp.Gcp, {"redis": {"target": redis.path, "password": "behind the gate"},
                                 "state": {
                "accounts": {EMAIL: {"public_key": public, "kid": "k1"}},
                "secrets": {"projects/p/secrets/redis": [{"binary": "AAE="}, {"data": "two\n"}],
                            "projects/p/secrets/off": [{"data": "x", "state": "DISABLED"}]},
                "metadata": {"project": "p", "email": EMAIL}}})
            of_login(c, directory + "/key", directory + "/other")
            of_secrets(c, directory + "/key")
            of_cache(c, of_metadata(c))
    finally:
        redis.stop()
