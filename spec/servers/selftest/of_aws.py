"""AWS: Secrets Manager, STS, metadata, containers and the Redis with tokens. The
requests are signed by the verifier's own signature(), which of_sigv4.py holds to
what AWS published."""
import base64
import hashlib
import json
import socket
import time
import urllib.parse
import xml.etree.ElementTree

import aws
import base
import sigv4
from checks import Client, Redis, check, refused, same, talk

REGION = "eu-west-1"
KEY = {"id": "AKIALONG", "secret": "long-lived/secret+key"}
ROLE = "arn:aws:iam::123456789012:role/reader"
STATE = {
    "region": REGION, "keys": {"AKIALONG": {"secret": KEY["secret"]}, "AKIAPOOR": {"secret": "p"}},
    "deny": ["AKIAPOOR"],
    "secrets": {
        "plain": "a # \"secret\"\n", "gone": {"string": "x", "deleted": True},
        "bytes": {"binary": base64.b64encode(b"\0\1").decode()},
        "app/redis": {"versions": [{"id": "v1", "stages": ["AWSPREVIOUS"], "string": "old"},
                                   {"id": "v2", "stages": ["AWSCURRENT"], "string": "new"}]}},
    "roles": {ROLE: {"web_identity_tokens": ["web.token"], "trusted": ["AKIALONG"]}},
    "imds": {"role": "ec2-role"},
    "container": {"path": "/v2/credentials/1", "authorization": "Basic abc"},
    "cache": {"name": "My-Cache", "users": ["weir"], "serverless": True}}


def sign(c, service, method, path, body, headers, key, region=REGION):
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    pairs = [("Host", "127.0.0.1:%d" % c.port), ("X-Amz-Date", date), *headers.items()]
    if key.get("token"):
        pairs.append(("X-Amz-Security-Token", key["token"]))
    request = base.Request(("%s %s HTTP/1.1" % (method, path)).encode(), body.encode())
    request.headers = pairs
    names = sorted(n.lower() for n, _ in pairs)
    text = sigv4.canonical_request(request, names, hashlib.sha256(body.encode()).hexdigest())
    scope = [date[:8], region, service, "aws4_request"]
    return {**dict(pairs), "Authorization":
            "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=%s,Signature=%s"
            % (key["id"], "/".join(scope), ";".join(names),
               sigv4.signature(key["secret"], date, scope, text))}


def get_secret(c, secret, key=KEY, region=REGION, **more):
    body = json.dumps({"SecretId": secret, **more})
    headers = sign(c, "secretsmanager", "POST", "/", body, {
        "X-Amz-Target": "secretsmanager.GetSecretValue",
        "Content-Type": "application/x-amz-json-1.1"}, key, region)
    status, answer = c.ask("POST", "/", body, headers)
    return answer["__type"] if status != 200 else answer.get("SecretString") \
        or answer["SecretBinary"]


def of_secrets(c):
    same(get_secret(c, "plain"), "a # \"secret\"\n")
    same(get_secret(c, "bytes"), "AAE=")
    same(get_secret(c, "app/redis"), "new")
    same(get_secret(c, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app/redis"), "new")
    same(get_secret(c, "app/redis", VersionStage="AWSPREVIOUS"), "old")
    same(get_secret(c, "app/redis", VersionId="v1"), "old")
    for wanted, args in (("ResourceNotFoundException", {"secret": "none"}),
                         ("ResourceNotFoundException", {"secret": "plain", "VersionId": "v9"}),
                         ("InvalidRequestException", {"secret": "gone"}),
                         ("ValidationException", {"secret": ""}),
                         ("AccessDeniedException", {"secret": "plain",
                                                    "key": {"id": "AKIAPOOR", "secret": "p"}}),
                         ("InvalidSignatureException", {"secret": "plain", "region": "us-east-1"}),
                         ("InvalidSignatureException", {"secret": "plain", "key":
                                                        {"id": "AKIALONG", "secret": "x"}}),
                         ("UnrecognizedClientException", {"secret": "plain", "key":
                                                          {"id": "NOBODY", "secret": "x"}})):
        same(get_secret(c, **args), wanted)
    same(c.ask("POST", "/", "{}", {"X-Amz-Target": "secretsmanager.GetSecretValue",
                                   "Content-Type": "application/x-amz-json-1.1"})[1]["__type"],
         "MissingAuthenticationTokenException")


def session_of(answer):
    root = xml.etree.ElementTree.fromstring(answer[1])
    found = {e.tag.split("}")[1]: e.text for e in root.iter()}
    if answer[0] != 200:
        return found["Code"]
    return {"id": found["AccessKeyId"], "secret": found["SecretAccessKey"],
            "token": found["SessionToken"]}


def assume(c, key=KEY, **more):
    body = urllib.parse.urlencode({"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": ROLE,
                                   "RoleSessionName": "weir", **more})
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    return session_of(c.ask("POST", "/", body, sign(c, "sts", "POST", "/", body, headers, key)))


def of_sts(c):
    session = assume(c)
    same(get_secret(c, "plain", session), "a # \"secret\"\n")
    same(get_secret(c, "plain", {**session, "token": ""}), "UnrecognizedClientException")
    same(assume(c, {"id": "AKIALONG", "secret": "no"}), "SignatureDoesNotMatch")
    same(assume(c, {"id": "AKIAPOOR", "secret": "p"}), "AccessDenied")
    same(assume(c, RoleArn="arn:aws:iam::1:role/none"), "AccessDenied")
    same(assume(c, DurationSeconds="1"), "ValidationError")
    same(assume(c, RoleSessionName="a b"), "ValidationError")

    def web(token):
        return session_of(c.ask("GET", "/?" + urllib.parse.urlencode({
            "Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": ROLE,
            "RoleSessionName": "weir", "WebIdentityToken": token})))
    same(get_secret(c, "plain", web("web.token")), "a # \"secret\"\n")
    same(web("other"), "InvalidIdentityToken")
    c.control("do/expire", {})
    same(get_secret(c, "plain", session), "ExpiredTokenException")


def of_metadata(c):
    ttl = {aws.TOKEN_TTL: "60"}
    path = "/latest/meta-data/iam/security-credentials/"
    same(c.ask("GET", path)[0], 401)
    same(c.ask("PUT", "/latest/api/token")[0], 400)
    same(c.ask("PUT", "/latest/api/token", headers={**ttl, "X-Forwarded-For": "1"})[0], 403)
    token = {"X-aws-ec2-metadata-token":
             c.ask("PUT", "/latest/api/token", headers=ttl)[1].decode()}
    same(c.ask("GET", path, headers=token), (200, b"ec2-role"))
    got = c.ask("GET", path + "ec2-role", headers=token)[1]
    same(got["Code"], "Success")
    session = {"id": got["AccessKeyId"], "secret": got["SecretAccessKey"], "token": got["Token"]}
    same(get_secret(c, "app/redis", session), "new")
    same(c.ask("GET", path + "other", headers=token)[0], 404)
    same(c.ask("GET", "/latest/meta-data/placement/region", headers=token)[1], REGION.encode())
    same(c.ask("GET", "/v2/credentials/1")[0], 401)
    got = c.ask("GET", "/v2/credentials/1", headers={"Authorization": "Basic abc"})[1]
    check(got["Expiration"].endswith("Z") and got["Token"], got)


def presign(key, cache, user, serverless=True, expires=900, age_s=0, service="elasticache"):
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - age_s))
    scope = [date[:8], REGION, service, "aws4_request"]
    args = {"Action": "connect", "User": user, "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": key["id"] + "/" + "/".join(scope), "X-Amz-Date": date,
            "X-Amz-Expires": expires, "X-Amz-SignedHeaders": "host"}
    if serverless:
        args["ResourceType"] = "ServerlessCache"
    if key.get("token"):
        args["X-Amz-Security-Token"] = key["token"]
    query = urllib.parse.urlencode(args)
    request = base.Request(("GET /?%s HTTP/1.1\r\nHost: %s" % (query, cache)).encode())
    text = sigv4.canonical_request(request, ["host"], sigv4.EMPTY_SHA256)
    return "%s/?%s&X-Amz-Signature=%s" % (
        cache, query, sigv4.signature(key["secret"], date, scope, text))


def of_cache(c):
    session = assume(c)
    with socket.create_connection(("127.0.0.1", c.service.redis_port)) as conn:
        good = presign(session, "my-cache", "weir")
        same(talk(conn, ("PING",))[0].split()[0], "-NOAUTH")
        same(talk(conn, ("AUTH", "weir", good), ("SET", "k", "v"), ("AUTH", "weir", good + "0"),
                  ("PING",)),
             ["+OK", "+OK", "-WRONGPASS invalid username-password pair or user is disabled.",
              "+PONG"])
        hello = talk(conn, ("HELLO", "2", "AUTH", "weir", presign(KEY, "my-cache", "weir")))
        check(hello[0].startswith("*"), hello)
        for bad in (("weir", presign(KEY, "my-cache", "root")),
                    ("root", presign(KEY, "my-cache", "root")),
                    ("weir", presign(KEY, "other", "weir")),
                    ("weir", presign(KEY, "my-cache", "weir", False)),
                    ("weir", presign(KEY, "my-cache", "weir", expires=901)),
                    ("weir", presign(KEY, "my-cache", "weir", age_s=902)),
                    ("weir", presign(KEY, "my-cache", "weir", service="memorydb")),
                    ("weir", presign({**KEY, "secret": "x"}, "my-cache", "weir")),
                    ("weir", "http://" + presign(KEY, "my-cache", "weir"))):
            same(talk(conn, ("AUTH", *bad))[0].split()[0], "-WRONGPASS")
        same(talk(conn, ("AUTH", good))[0].split()[0], "-WRONGPASS")
        c.control("set", {"redis": {"max_s": 0.3}})
        same(talk(conn, ("AUTH", "weir", good)), ["+OK"])
        same(conn.recv(1), b"")
    log = c.ask("GET", "/_test/log")[1]["requests"]
    same([e["status"] for e in log if e["method"] == "AUTH"], [200, 403, 200] + [403] * 10 + [200])
    with socket.create_connection(("127.0.0.1", c.service.redis_port)) as conn:
        same(talk(conn, ("AUTH", "weir", good)), ["+OK"])
        c.control("do/kick", {})
        same(conn.recv(1), b"")
    refused(sigv4.Refused, aws.verify_cache_token, good, "weir", STATE["cache"],
            c.service.key, "us-east-1")


def test():
    redis = Redis("behind the gate")
    try:
        c = Client(aws.Aws, {"state": STATE, "redis": {"target": redis.path,
                                                       "password": "behind the gate"}})
        of_secrets(c)
        of_sts(c)
        of_metadata(c)
        of_cache(c)
    finally:
        redis.stop()
