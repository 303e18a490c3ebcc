"""Google Cloud, as far as a reader of secrets and a client of Memorystore needs it:
OAuth tokens for service accounts, the metadata server, Secret Manager, and a Redis
that takes access tokens (gate.py). The openssl program verifies the signatures.
README.md tells the documents.

state:
  token_s     3600, how long access tokens live
  accounts    {email: {public_key: PEM, kid}}
  audiences   what a JWT may be made out for, beside Google's and this server's /token
  metadata    {project, email, scopes}; without it there is no metadata server
  secrets     {"projects/p/secrets/s": text | [{data | binary (base64), state}], ...}
  deny        [emails whom Secret Manager denies everything]
  cache       {users: ["default", ...], emails: [who may], default all}, for the Redis
"""
import base64
import json
import re
import secrets
import subprocess
import tempfile
import time

import base
import gate

TOKEN_URL = "https://oauth2.googleapis.com/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
ACCESS = re.compile(r"/v1/(projects/[^/]+(?:/locations/[^/]+)?/secrets/[^/]+)"
                    r"/versions/([^/:]+):access")


class Refused(Exception):
    def __init__(self, status, word, message):
        super().__init__(message)
        self.status, self.word, self.message = status, word, message


def unbase64url(text):
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def crc32c(data):
    """The CRC of Castagnoli, bit by bit."""
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def is_signed(public_key, signed, signature):
    with tempfile.NamedTemporaryFile() as key, tempfile.NamedTemporaryFile() as sig:
        key.write(public_key.encode())
        key.flush()
        sig.write(signature)
        sig.flush()
        run = subprocess.run(["openssl", "dgst", "-sha256", "-verify", key.name, "-signature",
                              sig.name], input=signed, capture_output=True, check=False)
        return run.returncode == 0


def invalid(message):
    return Refused(400, "invalid_grant", message)


class Gcp(gate.Gated, base.Service):
    def changed(self):
        self.tokens = getattr(self, "tokens", {})
        self.connections = getattr(self, "connections", {})

    def do_expire(self, _):
        for token in self.tokens.values():
            token["expires"] = time.time()

    def do_tokens(self, _):
        """The access tokens that are good."""
        return {t: k["email"] for t, k in self.tokens.items() if k["expires"] > time.time()}

    def new_token(self, email, scopes, life_s=3600):
        text = "ya29." + secrets.token_urlsafe(120)
        life_s = self.state.get("token_s", life_s)
        self.tokens[text] = {"email": email, "scopes": scopes, "expires": time.time() + life_s}
        return text, life_s

    def answer(self, request):
        with self.lock:
            if request.path == "/token":
                return self.oauth(request)
            if request.path.startswith("/computeMetadata/"):
                return self.metadata(request)
            return self.secret_manager(request)

    # ------------------------------------------------------------ service accounts
    def oauth(self, request):
        try:
            form = request.form()
            if request.method != "POST" or form is None:
                raise Refused(400, "invalid_request", "a POST of a form is wanted")
            if form.get("grant_type") != GRANT:
                raise Refused(400, "unsupported_grant_type",
                              "Invalid grant_type: %s" % form.get("grant_type"))
            claims = self.claims_of(form.get("assertion") or "", request)
        except Refused as err:
            request.note = err.word + ": " + err.message
            return base.json_response(err.status, {"error": err.word,
                                                   "error_description": err.message})
        request.note = "signed by " + claims["iss"]
        life = max(1, int(claims["exp"] - time.time()))
        token, life_s = self.new_token(claims["iss"], claims["scope"].split(" "), life)
        return base.json_response(200, {"access_token": token, "expires_in": life_s,
                                        "token_type": "Bearer"})

    def claims_of(self, assertion, request):
        try:
            signed, _, signature = assertion.rpartition(".")
            head, body = (json.loads(unbase64url(part)) for part in signed.split("."))
            signature = unbase64url(signature)
        except ValueError:
            raise invalid("Invalid JWT: Failed audience check or not a JWT.")
        account = (self.state.get("accounts") or {}).get(body.get("iss"))
        if not account:
            raise invalid("Invalid grant: account not found")
        if head.get("alg") != "RS256" or head.get("typ", "JWT") != "JWT" \
                or head.get("kid", account.get("kid")) != account.get("kid", head.get("kid")) \
                or not is_signed(account["public_key"], signed.encode(), signature):
            raise invalid("Invalid JWT Signature.")
        known = [TOKEN_URL, "http://%s/token" % request.header("Host"),
                 *(self.state.get("audiences") or [])]
        if body.get("aud") not in known:
            raise invalid("Invalid JWT: Failed audience check. The right audience is " + TOKEN_URL)
        begun, ends = body.get("iat"), body.get("exp")
        if not isinstance(begun, int) or not isinstance(ends, int) or ends - begun > 3600 \
                or begun > time.time() + 60 or ends < time.time():
            raise invalid("Invalid JWT: Token must be a short-lived token (60 minutes) and in a "
                          "reasonable timeframe. Check your iat and exp values in the JWT claim.")
        if not body.get("scope"):
            raise Refused(400, "invalid_scope",
                          "Invalid OAuth scope or ID token audience provided.")
        return body

    # -------------------------------------------------------------------- metadata
    def metadata(self, request):
        settings = self.state.get("metadata")
        flavor = [("Metadata-Flavor", "Google"), ("Server", "Metadata Server for VM")]
        if not settings or request.method != "GET":
            return base.Response(404, "", flavor)
        if request.header("Metadata-Flavor") != "Google" or request.header("X-Forwarded-For"):
            request.note = "without Metadata-Flavor, or forwarded"
            return base.Response(403, "", flavor)
        path = request.path[len("/computeMetadata/v1/"):]
        account = "instance/service-accounts/default/"
        text = [("Content-Type", "application/text"), *flavor]
        if path == "project/project-id":
            return base.Response(200, settings["project"], text)
        if path == account + "email" and "email" in settings:
            return base.Response(200, settings["email"], text)
        if path == account + "token" and "email" in settings:
            return base.json_response(200, self.metadata_token(settings, request), flavor)
        return base.Response(404, "", flavor)

    def metadata_token(self, settings, request):
        """The same one until few minutes are left of it, as the metadata server does."""
        wanted = request.args().get("scopes")
        scopes = wanted.split(",") if wanted else settings.get("scopes", [CLOUD])
        early = min(300, self.state.get("token_s", 3600) / 4)
        for text, token in self.tokens.items():
            left = token["expires"] - time.time()
            if token.get("cached") == scopes and left > early:
                return {"access_token": text, "expires_in": int(left), "token_type": "Bearer"}
        text, life_s = self.new_token(settings["email"], scopes)
        self.tokens[text]["cached"] = scopes
        return {"access_token": text, "expires_in": int(life_s), "token_type": "Bearer"}

    # --------------------------------------------------------------- Secret Manager
    def secret_manager(self, request):
        try:
            token = self.token_of(request)
            found = ACCESS.fullmatch(base.urllib.parse.unquote(request.path))
            if request.method != "GET" or not found:
                raise Refused(404, "NOT_FOUND", "Method not found.")
            name, version = found.groups()
            if token["email"] in (self.state.get("deny") or []):
                raise Refused(403, "PERMISSION_DENIED", "Permission "
                              "'secretmanager.versions.access' denied for resource "
                              "'%s/versions/%s' (or it may not exist)."
                              % (name, version))
            number, data = self.version_of(name, version)
        except Refused as err:
            request.note = err.word + ": " + err.message
            headers = [("WWW-Authenticate", 'Bearer realm="https://accounts.google.com/"')] \
                if err.status == 401 else []
            return base.json_response(err.status, {"error": {
                "code": err.status, "message": err.message, "status": err.word}}, headers)
        return base.json_response(200, {
            "name": "%s/versions/%d" % (name, number),
            "payload": {"data": base64.b64encode(data).decode(),
                        "dataCrc32c": str(crc32c(data))}})

    def token_of(self, request):
        text = request.header("Authorization") or ""
        token = self.tokens.get(text[7:]) if text.startswith("Bearer ") else None
        if not token or token["expires"] <= time.time():
            raise Refused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials. "
                          "Expected OAuth 2 access token, login cookie or other valid "
                          "authentication credential.")
        if CLOUD not in token["scopes"]:
            raise Refused(403, "PERMISSION_DENIED",
                          "Request had insufficient authentication scopes.")
        return token

    def version_of(self, name, version):
        versions = (self.state.get("secrets") or {}).get(name)
        if versions is None:
            raise Refused(404, "NOT_FOUND", "Secret [%s] not found or has no versions." % name)
        if isinstance(versions, str):
            versions = [{"data": versions}]
        number = len(versions) if version == "latest" else int(version) if version.isdigit() else 0
        if not 1 <= number <= len(versions):
            raise Refused(404, "NOT_FOUND", "Secret Version [%s/versions/%s] not found."
                          % (name, version))
        one = versions[number - 1]
        if one.get("state", "ENABLED") != "ENABLED":
            raise Refused(400, "FAILED_PRECONDITION", "Secret Version [%s/versions/%d] is in %s "
                          "state." % (name, number, one["state"]))
        return number, base64.b64decode(one["binary"]) if "binary" in one else one["data"].encode()

    # ----------------------------------------------------------------------- Redis
    def verify_redis(self, user, text, _):
        cache, token = self.state.get("cache") or {}, self.tokens.get(text)
        if not token:
            raise ValueError("no access token")
        if token["expires"] <= time.time():
            raise ValueError("the access token has run out")
        if CLOUD not in token["scopes"]:
            raise ValueError("another scope")
        if user not in cache.get("users", ["default"]) \
                or token["email"] not in cache.get("emails", [token["email"]]):
            raise ValueError("no such user, or not his")
        return "token of " + token["email"]


if __name__ == "__main__":
    base.run(Gcp)
