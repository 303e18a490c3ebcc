"""Azure: Entra's tokens, managed identities, Key Vault, the Redis."""
import socket
import time
import urllib.parse

import azure
from checks import Client, Redis, check, same, talk

STATE = {
    "tenants": {"t1": {"app": {"secrets": ["s3cret"], "assertions": ["a.b.c"], "oid": "oid-app"},
                       "poor": {"secrets": ["p"], "deny": True}}},
    "identities": {"own": {"system": True, "oid": "oid-own"}, "user": {"oid": "oid-user"}},
    "app_service": {"path": "/msi/token", "header": "h"},
    "secrets": {"redis": {"versions": {"0a": "old", "0b": "new"}}, "plain": "# \"x\"",
                "off": {"value": "x", "disabled": True}},
    "cache": {"users": ["oid-app", "oid-own"]}}


def login(c, tenant="t1", **more):
    form = {"grant_type": "client_credentials", "client_id": "app", "client_secret": "s3cret",
            "scope": "https://vault.azure.net/.default", **more}
    status, body = c.ask("POST", "/%s/oauth2/v2.0/token" % tenant,
                         urllib.parse.urlencode({k: v for k, v in form.items() if v}),
                         {"Content-Type": "application/x-www-form-urlencoded"})
    return body["access_token"] if status == 200 else (status, body["error"],
                                                       body["error_codes"][0])


def of_login(c):
    for wanted, more in (((400, "invalid_request", 90002), {"tenant": "t2"}),
                         ((400, "unauthorized_client", 700016), {"client_id": "x"}),
                         ((401, "invalid_client", 7000215), {"client_secret": "x"}),
                         ((401, "invalid_client", 7000218), {"client_secret": None}),
                         ((400, "invalid_scope", 1002012), {"scope": "https://vault.azure.net"}),
                         ((400, "invalid_resource", 500011), {"scope": "https://x/.default"}),
                         ((400, "unsupported_grant_type", 70003), {"grant_type": "password"}),
                         ((400, "invalid_request", 900144), {"scope": None}),
                         ((400, "invalid_request", 70021),
                          {"client_secret": None, "client_assertion": "x",
                           "client_assertion_type": azure.ASSERTION})):
        same(login(c, **more), wanted)
    check(isinstance(login(c, client_secret=None, client_assertion="a.b.c",
                           client_assertion_type=azure.ASSERTION), str), "an assertion")


def get(c, path, token, version="?api-version=7.4"):
    headers = {"Authorization": "Bearer " + token} if token else {}
    status, body = c.ask("GET", path + version, headers=headers)
    return body["value"] if status == 200 else (status, body["error"]["code"])


def of_vault(c):
    token = login(c)
    same(get(c, "/secrets/redis", token), "new")
    same(get(c, "/secrets/redis/0a", token), "old")
    same(get(c, "/secrets/plain", token), "# \"x\"")
    same(get(c, "/secrets/plain", token, ""), (400, "BadParameter"))
    same(get(c, "/secrets/none", token), (404, "SecretNotFound"))
    same(get(c, "/secrets/redis/0c", token), (404, "SecretNotFound"))
    same(get(c, "/secrets/off", token), (403, "Forbidden"))
    same(get(c, "/secrets/plain", login(c, client_id="poor", client_secret="p")),
         (403, "Forbidden"))
    same(get(c, "/secrets/plain", None), (401, "Unauthorized"))
    same(c.headers["WWW-Authenticate"], 'Bearer authorization="https://login.microsoftonline.com/t1'
                                        '", resource="https://vault.azure.net"')
    redis = login(c, scope="https://redis.azure.com/.default")
    same(get(c, "/secrets/plain", redis), (401, "Unauthorized"))
    c.control("do/expire", {})
    same(get(c, "/secrets/plain", token), (401, "Unauthorized"))


def of_identities(c):
    query = "?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
    metadata = {"Metadata": "true"}
    same(c.ask("GET", azure.IMDS + query)[1]["error"], "bad_request_102")
    same(c.ask("GET", azure.IMDS + query + "&client_id=x", headers=metadata)[1]["error"],
         "invalid_request")
    for more in ("", "&client_id=user", "&object_id=oid-user"):
        got = c.ask("GET", azure.IMDS + query + more, headers=metadata)[1]
        same(got["expires_in"], "3599")
        same(get(c, "/secrets/redis", got["access_token"]), "new")
    query = query.replace("2018-02-01", "2019-08-01")
    same(c.ask("GET", "/msi/token" + query)[0], 401)
    got = c.ask("GET", "/msi/token" + query, headers={"X-IDENTITY-HEADER": "h"})[1]
    check(int(got["expires_on"]) > time.time() + 3500 and "expires_in" not in got, got)
    same(get(c, "/secrets/redis", got["access_token"]), "new")


def of_cache(c):
    token = login(c, scope="https://redis.azure.com/.default")
    with socket.create_connection(("127.0.0.1", c.service.redis_port)) as conn:
        same(talk(conn, ("AUTH", "oid-app", token), ("PING",)), ["+OK", "+PONG"])
        for bad in (("oid-own", token), (token,), ("oid-app", token + "x"), ("oid-app", login(c))):
            same(talk(conn, ("AUTH", *bad))[0].split()[0], "-WRONGPASS")
        c.control("set", {"token_s": 0.5})
        token = login(c, scope="acca5fbb-b7e4-4009-81f1-37e38fd66d78/.default")
        same(talk(conn, ("AUTH", "oid-app", token)), ["+OK"])
        begun = time.time()
        same(conn.recv(1), b"")
        check(0.1 < time.time() - begun < 3, "the connection ends with the token")


def test():
    redis = Redis("behind the gate")
    try:
        c = Client(azure.Azure, {"state": STATE, "redis": {"target": redis.path,
                                                           "password": "behind the gate"}})
        of_login(c)
        of_vault(c)
        of_identities(c)
        of_cache(c)
    finally:
        redis.stop()
