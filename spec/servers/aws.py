"""AWS, as far as a reader of secrets and a client of ElastiCache needs it: Secrets
Manager, STS, the instance metadata service (v2 only), the credentials endpoint of
containers, and a Redis that takes IAM tokens (gate.py). Each signed request is
verified (sigv4.py). README.md tells the documents.

state:
  region, skew_s (300), session_s (3600: how long temporary credentials live)
  keys       {access key id: {secret}}: long-lived
  deny       [a key id, or a role's ARN]: whom Secrets Manager denies everything
  secrets    {name: text | {string | binary (base64), versions: [{id, stages, string}], deleted}}
  roles      {ARN: {web_identity_tokens: [...], trusted: [key ids, default all], external_id}}
  imds       {role, token_s}; no role: 404
  container  {path, authorization, role}
  cache      {name, users: [...], serverless: true|false}, for the Redis
By hand: aws.py verify-token '{"keys": ..., "region": ..., "cache": ...}' USER < token
"""
import base64
import json
import re
import secrets
import sys
import time
import uuid
from xml.sax.saxutils import escape

import base
import gate
import sigv4

ACCOUNT = "123456789012"
XMLNS = "https://sts.amazonaws.com/doc/2011-06-15/"
TOKEN_TTL = "X-aws-ec2-metadata-token-ttl-seconds"

# What sigv4 refuses, by JSON 1.1 and by the Query protocol.
JSON_ERRORS = {"missing": "MissingAuthenticationTokenException",
               "incomplete": "IncompleteSignatureException",
               "unknown": "UnrecognizedClientException", "token": "UnrecognizedClientException",
               "mismatch": "InvalidSignatureException", "skew": "InvalidSignatureException",
               "expired": "ExpiredTokenException"}
QUERY_ERRORS = {"missing": "MissingAuthenticationToken", "incomplete": "IncompleteSignature",
                "unknown": "InvalidClientTokenId", "token": "InvalidClientTokenId",
                "mismatch": "SignatureDoesNotMatch", "skew": "SignatureDoesNotMatch",
                "expired": "ExpiredToken"}


def iso(moment):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


class ApiError(Exception):
    def __init__(self, code, message, status=400):
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


def verify_cache_token(token, user, cache, keys, region, now=None):
    """An ElastiCache token: a presigned GET of http://<cache>/ without its scheme, good for at
    most 15 minutes. The claim, or sigv4.Refused."""
    host, slash, rest = token.partition("/")
    if not slash or "://" in token:
        raise sigv4.Refused("incomplete", "not <cache>/?<query>")
    if host != cache["name"].lower():
        raise sigv4.Refused("mismatch", "another cache: " + host)
    request = base.Request(("GET /%s HTTP/1.1\r\nhost: %s" % (rest, host)).encode("latin-1"))
    args = request.args()
    wanted = {"Action": "connect", "User": user}
    if cache.get("serverless"):
        wanted["ResourceType"] = "ServerlessCache"
    got = {k: v for k, v in args.items() if not k.startswith("X-Amz-")}
    if got != wanted or request.path != "/":
        raise sigv4.Refused("mismatch", "asks for %r, not %r" % (got, wanted))
    return sigv4.verify_presigned(request, keys, region, "elasticache", most_s=900, now=now)


class Aws(gate.Gated, base.Service):
    def changed(self):
        self.sessions = getattr(self, "sessions", {})
        self.imds_tokens = getattr(self, "imds_tokens", {})
        self.connections = getattr(self, "connections", {})

    def do_expire(self, _):
        """All temporary credentials end now; so do the metadata service's tokens."""
        for session in self.sessions.values():
            session["expires"] = time.time()
        self.imds_tokens = {}

    def key(self, key_id):
        return (self.state.get("keys") or {}).get(key_id) or self.sessions.get(key_id)

    def new_session(self, role, life_s=None):
        # base64, so that + / = are in it and must be encoded
        token = base64.b64encode(b"\xfb\xff" + secrets.token_bytes(190)).decode()
        key_id = "ASIA" + secrets.token_hex(8).upper()
        session = {"id": key_id, "secret": base64.b64encode(secrets.token_bytes(30)).decode(),
                   "token": token, "role": role,
                   "expires": time.time() + (self.state.get("session_s") or life_s or 3600)}
        self.sessions[key_id] = session
        return session

    def answer(self, request):
        with self.lock:
            path, imds = request.path, self.state.get("imds")
            container = self.state.get("container")
            if path.startswith("/latest/") and imds is not None:
                return self.metadata(request, imds)
            if container and path == container["path"]:
                return self.container(request, container)
            if request.header("X-Amz-Target"):
                return self.secrets_manager(request)
            args = request.args() if request.method == "GET" else request.form()
            if path == "/" and args and "Action" in args:
                return self.sts(request, args)
        return base.json_response(404, {"message": "nothing is here"})

    # -------------------------------------------------------------- Secrets Manager
    def secrets_manager(self, request):
        kind = "application/x-amz-json-1.1"
        try:
            try:
                if request.method != "POST" or request.path != "/" \
                        or request.header("Content-Type") != kind:
                    raise ApiError("UnknownOperationException", "", 404)
                claim = sigv4.verify(request, self.key, self.state.get("region"), "secretsmanager",
                                     self.state.get("skew_s", 300))
            except sigv4.Refused as err:
                raise ApiError(JSON_ERRORS[err.kind], err.message)
            request.note = "signed by " + claim.key
            return base.json_response(200, self.get_secret(request, claim), kind=kind)
        except ApiError as err:
            request.note = err.code + ": " + err.message
            return base.json_response(err.status, {"__type": err.code, "Message": err.message},
                                      kind=kind)

    def get_secret(self, request, claim):
        if request.header("X-Amz-Target") != "secretsmanager.GetSecretValue":
            raise ApiError("UnknownOperationException", "")
        body = request.json()
        if body is None:
            raise ApiError("SerializationException", "")
        if not body.get("SecretId"):
            raise ApiError("ValidationException", "1 validation error detected: Value null at "
                           "'secretId' failed to satisfy constraint: Member must not be null")
        who = {claim.key, self.key(claim.key).get("role")}
        if who & set(self.state.get("deny") or []):
            raise ApiError("AccessDeniedException",
                           "User: arn:aws:iam::%s:user/weir is not authorized to perform: "
                           "secretsmanager:GetSecretValue on resource: %s because no "
                           "identity-based policy allows the secretsmanager:GetSecretValue action"
                           % (ACCOUNT, body["SecretId"]))
        name, secret = self.find_secret(body["SecretId"])
        if secret.get("deleted"):
            raise ApiError("InvalidRequestException", "You can't perform this operation on the "
                           "secret because it was marked for deletion.")
        version = self.find_version(secret, body)
        out = {"ARN": self.arn_of(name), "CreatedDate": 1.5e9, "Name": name,
               "VersionId": version["id"], "VersionStages": version["stages"]}
        if "binary" in version:
            out["SecretBinary"] = version["binary"]
        else:
            out["SecretString"] = version["string"]
        return out

    def arn_of(self, name):
        return "arn:aws:secretsmanager:%s:%s:secret:%s-a1b2c3" \
            % (self.state.get("region", "us-east-1"), ACCOUNT, name)

    def find_secret(self, wanted):
        for name, secret in (self.state.get("secrets") or {}).items():
            if wanted in (name, self.arn_of(name), self.arn_of(name)[:-7]):
                return name, {"string": secret} if isinstance(secret, str) else secret
        raise ApiError("ResourceNotFoundException",
                       "Secrets Manager can't find the specified secret.")

    @staticmethod
    def find_version(secret, body):
        versions = secret.get("versions") or [
            {"id": "00000000-0000-0000-0000-000000000001", "stages": ["AWSCURRENT"], **secret}]
        version_id, stage = body.get("VersionId"), body.get("VersionStage")
        if not version_id and not stage:
            stage = "AWSCURRENT"
        for version in versions:
            if (not version_id or version["id"] == version_id) \
                    and (not stage or stage in version["stages"]):
                return version
        what = "VersionId: " + version_id if version_id else "staging label: " + stage
        raise ApiError("ResourceNotFoundException",
                       "Secrets Manager can't find the specified secret value for " + what)

    # -------------------------------------------------------------------------- STS
    def sts(self, request, args):
        try:
            if args.get("Version") != "2011-06-15":
                raise ApiError("InvalidAction", "Could not find operation %s for version %s"
                               % (args["Action"], args.get("Version")))
            if args["Action"] == "AssumeRole":
                result = self.assume_role(request, args)
            elif args["Action"] == "AssumeRoleWithWebIdentity":
                result = self.web_identity(args)
            else:
                raise ApiError("InvalidAction", "Could not find operation " + args["Action"])
        except ApiError as err:
            request.note = err.code + ": " + err.message
            text = ("<ErrorResponse xmlns=\"%s\">\n  <Error>\n    <Type>Sender</Type>\n"
                    "    <Code>%s</Code>\n    <Message>%s</Message>\n  </Error>\n"
                    "  <RequestId>%s</RequestId>\n</ErrorResponse>\n"
                    % (XMLNS, err.code, escape(err.message), uuid.uuid4()))
            return base.Response(err.status, text, [("Content-Type", "text/xml")])
        action = args["Action"]
        text = ("<%sResponse xmlns=\"%s\">\n  <%sResult>\n%s  </%sResult>\n  <ResponseMetadata>\n"
                "    <RequestId>%s</RequestId>\n  </ResponseMetadata>\n</%sResponse>\n"
                % (action, XMLNS, action, result, action, uuid.uuid4(), action))
        return base.Response(200, text, [("Content-Type", "text/xml")])

    def role_of(self, args):
        role = (self.state.get("roles") or {}).get(args.get("RoleArn", ""))
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", args.get("RoleSessionName", ""), re.ASCII):
            raise ApiError("ValidationError", "1 validation error detected: Value at "
                                              "'roleSessionName' failed to satisfy constraint")
        life = args.get("DurationSeconds", "3600")
        if not life.isdigit() or not 900 <= int(life) <= 43200:
            raise ApiError("ValidationError", "1 validation error detected: Value at "
                                              "'durationSeconds' failed to satisfy constraint")
        return role, int(life)

    def assume_role(self, request, args):
        try:
            claim = sigv4.verify(request, self.key, self.state.get("region"), "sts",
                                 self.state.get("skew_s", 300))
        except sigv4.Refused as err:
            raise ApiError(QUERY_ERRORS[err.kind], err.message, 403)
        role, life = self.role_of(args)
        if not role or claim.key not in role.get("trusted", [claim.key]) \
                or role.get("external_id") != args.get("ExternalId"):
            raise ApiError("AccessDenied", "User: arn:aws:iam::%s:user/weir is not authorized to "
                           "perform: sts:AssumeRole on resource: %s"
                           % (ACCOUNT, args["RoleArn"]), 403)
        request.note = "signed by " + claim.key
        return self.session_xml(args, life)

    def web_identity(self, args):
        if not args.get("WebIdentityToken"):
            raise ApiError("ValidationError", "1 validation error detected: Value null at "
                           "'webIdentityToken' failed to satisfy constraint: Member must not be "
                           "null")
        role, life = self.role_of(args)
        if not role or "web_identity_tokens" not in role:
            raise ApiError("AccessDenied",
                           "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403)
        if args["WebIdentityToken"] not in role["web_identity_tokens"]:
            raise ApiError("InvalidIdentityToken", "Couldn't retrieve verification key from your "
                           "identity provider, please reference AssumeRoleWithWebIdentity "
                           "documentation for requirements")
        more = ("    <SubjectFromWebIdentityToken>system:serviceaccount:weir:weir"
                "</SubjectFromWebIdentityToken>\n    <Audience>sts.amazonaws.com</Audience>\n")
        return more + self.session_xml(args, life)

    def session_xml(self, args, life):
        session = self.new_session(args["RoleArn"], life)
        who = args["RoleArn"].replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
        return ("    <AssumedRoleUser>\n      <Arn>%s/%s</Arn>\n"
                "      <AssumedRoleId>AROA0123456789EXAMPLE:%s</AssumedRoleId>\n"
                "    </AssumedRoleUser>\n    <Credentials>\n      <AccessKeyId>%s</AccessKeyId>\n"
                "      <SecretAccessKey>%s</SecretAccessKey>\n"
                "      <SessionToken>%s</SessionToken>\n"
                "      <Expiration>%s</Expiration>\n    </Credentials>\n"
                % (who, args["RoleSessionName"], args["RoleSessionName"], session["id"],
                   session["secret"], session["token"], iso(session["expires"])))

    # --------------------------------------------------------- metadata, containers
    def metadata(self, request, imds):
        if request.path == "/latest/api/token":
            return self.metadata_token(request, imds)
        token = request.header("X-aws-ec2-metadata-token")
        if request.method != "GET":
            return base.Response(405)
        if self.imds_tokens.get(token or "", 0) <= time.time():
            request.note = "without a token" if not token else "with a token that is none"
            return base.Response(401)
        path = request.path[len("/latest/"):]
        listing = "meta-data/iam/security-credentials/"
        role = imds.get("role")
        if path in (listing, listing[:-1]) and role:
            return base.Response(200, role, [("Content-Type", "text/plain")])
        if role and path == listing + role:
            return base.json_response(200, {"Code": "Success", "LastUpdated": iso(time.time()),
                                            "Type": "AWS-HMAC", **self.document(role)},
                                      kind="text/plain")
        if path == "meta-data/placement/region":
            return base.Response(200, self.state.get("region", "us-east-1"))
        return base.Response(404)

    def metadata_token(self, request, imds):
        if request.method != "PUT":
            return base.Response(405)
        if request.header("X-Forwarded-For"):
            return base.Response(403)
        life = request.header(TOKEN_TTL) or ""
        if not life.isdigit() or not 1 <= int(life) <= 21600:
            return base.Response(400)
        token = base64.b64encode(secrets.token_bytes(40)).decode()
        self.imds_tokens[token] = time.time() + min(int(life), imds.get("token_s", 21600))
        return base.Response(200, token, [("Content-Type", "text/plain"), (TOKEN_TTL, life)])

    def document(self, role):
        session = self.new_session(role)
        return {"AccessKeyId": session["id"], "SecretAccessKey": session["secret"],
                "Token": session["token"], "Expiration": iso(session["expires"])}

    def container(self, request, container):
        if request.method != "GET":
            return base.Response(405)
        if request.header("Authorization") != container.get("authorization"):
            return base.json_response(401, {"code": "AccessDenied",
                                            "message": "the authorization token is none of ours"})
        role = container.get("role", "container-role")
        return base.json_response(200, {"RoleArn": role, **self.document(role)})

    # ------------------------------------------------------------------------ Redis
    def verify_redis(self, user, token, has_user):
        cache = self.state.get("cache") or {}
        if not has_user or user not in cache.get("users", []):
            raise ValueError("no such user")
        try:
            claim = verify_cache_token(token, user, cache, self.key, self.state.get("region"))
        except sigv4.Refused as err:
            raise ValueError(err.kind + ": " + err.message)
        return "signed by " + claim.key


def verify_token_command(options, user):
    """Says what it thinks of the token on standard input."""
    keys = options["keys"]
    try:
        claim = verify_cache_token(sys.stdin.read().strip(), user, options["cache"], keys.get,
                                   options.get("region"))
    except sigv4.Refused as err:
        sys.exit(err.kind + ": " + err.message)
    print("good until", iso(sigv4.seconds_of(claim.date) + 900))


if __name__ == "__main__":
    if sys.argv[1:2] == ["verify-token"]:
        verify_token_command(json.loads(sys.argv[2]), sys.argv[3])
    else:
        base.run(Aws)
