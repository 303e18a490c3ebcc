"""Azure, as far as a reader of secrets and a client of Managed Redis needs it:
Entra's token endpoint (client secrets, federated assertions), the two endpoints of
managed identities, Key Vault, and a Redis that takes tokens (gate.py). README.md
tells the documents.

state:
  token_s     3599, how long access tokens live
  tenants     {tenant id: {client id: {secrets: [...], assertions: [...], oid, deny: true}}}
  identities  {client id: {oid, system: true for the machine's own, deny}}: of the machine
  app_service {path, header}: the identity endpoint of App Service
  secrets     {name: text | {value, versions: {id: text}, disabled}}
  cache       {users: [object ids]}, for the Redis
"""
import base64
import json
import re
import secrets
import time
import uuid

import base
import gate

VAULT = "https://vault.azure.net"
REDIS = ("https://redis.azure.com", "acca5fbb-b7e4-4009-81f1-37e38fd66d78")
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
IMDS = "/metadata/identity/oauth2/token"
NOT_FOUND = ("A secret with (name/id) %s was not found in this key vault. If you recently deleted "
             "this secret you may be able to recover it using the correct recovery command.")


class Refused(Exception):
    def __init__(self, status, word, message, inner=None):
        super().__init__(message)
        self.status, self.word, self.message, self.inner = status, word, message, inner


def base64url(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class Azure(gate.Gated, base.Service):
    def changed(self):
        self.tokens = getattr(self, "tokens", {})
        self.connections = getattr(self, "connections", {})

    def do_expire(self, _):
        for token in self.tokens.values():
            token["expires"] = time.time()

    def new_token(self, who, client_id, audience, tenant="common"):
        """A JWT by its looks; the server knows it by heart."""
        now, life_s = time.time(), self.state.get("token_s", 3599)
        oid = who.get("oid", client_id)
        claims = {"aud": audience, "iss": "https://sts.windows.net/%s/" % tenant, "iat": int(now),
                  "nbf": int(now), "exp": int(now + life_s), "appid": client_id, "oid": oid,
                  "tid": tenant, "ver": "1.0", "uti": secrets.token_urlsafe(16)}
        text = ".".join([base64url({"typ": "JWT", "alg": "RS256", "kid": "spec"}),
                         base64url(claims), secrets.token_urlsafe(256)])
        self.tokens[text] = {"audience": audience, "oid": oid, "deny": who.get("deny"),
                             "expires": now + life_s}
        return text, life_s

    def answer(self, request):
        path, app = request.path, self.state.get("app_service")
        with self.lock:
            if re.fullmatch(r"/[^/]+/oauth2/v2\.0/token", path):
                return self.login(request, path.split("/")[1])
            if path == IMDS and "identities" in self.state:
                return self.imds(request)
            if app and path == app["path"]:
                return self.app_service(request, app)
            return self.key_vault(request)

    # ----------------------------------------------------------------------- Entra
    def login(self, request, tenant):
        try:
            form = request.form()
            if request.method != "POST" or form is None:
                raise Refused(400, "invalid_request", "AADSTS900144: The request body must contain "
                              "the following parameter: 'grant_type'.")
            app = self.app_of(form, tenant)
            self.check_credential(form, app)
            audience = self.audience_of(form)
        except Refused as err:
            return self.entra_error(request, err)
        token, life_s = self.new_token(app, form["client_id"], audience, tenant)
        request.note = "token for " + audience
        return base.json_response(200, {"token_type": "Bearer", "expires_in": life_s,
                                        "ext_expires_in": life_s, "access_token": token},
                                  [("Cache-Control", "no-store, no-cache")])

    @staticmethod
    def entra_error(request, err):
        request.note = err.message
        number = int(re.match(r"AADSTS(\d+)", err.message).group(1))
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        now = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
        return base.json_response(err.status, {
            "error": err.word, "error_description": "%s Trace ID: %s Correlation ID: %s Timestamp: "
            "%s" % (err.message, trace, correlation, now), "error_codes": [number],
            "timestamp": now, "trace_id": trace, "correlation_id": correlation,
            "error_uri": "https://login.microsoftonline.com/error?code=%d" % number})

    def app_of(self, form, tenant):
        for name in ("grant_type", "client_id", "scope"):
            if not form.get(name):
                raise Refused(400, "invalid_request", "AADSTS900144: The request body must contain "
                              "the following parameter: '%s'." % name)
        if form["grant_type"] != "client_credentials":
            raise Refused(400, "unsupported_grant_type",
                          "AADSTS70003: The app requested an unsupported grant type.")
        apps = (self.state.get("tenants") or {}).get(tenant)
        if apps is None:
            raise Refused(400, "invalid_request", "AADSTS90002: Tenant '%s' not found." % tenant)
        app = apps.get(form["client_id"])
        if app is None:
            raise Refused(400, "unauthorized_client", "AADSTS700016: Application with identifier "
                          "'%s' was not found in the directory." % form["client_id"])
        return app

    @staticmethod
    def check_credential(form, app):
        if "client_assertion" in form or "client_assertion_type" in form:
            if form.get("client_assertion_type") != ASSERTION:
                raise Refused(400, "invalid_request", "AADSTS900144: The request body must contain "
                              "the following parameter: 'client_assertion_type'.")
            if form.get("client_assertion") not in app.get("assertions", []):
                raise Refused(400, "invalid_request", "AADSTS70021: No matching federated identity "
                              "record found for presented assertion.")
        elif not form.get("client_secret"):
            raise Refused(401, "invalid_client", "AADSTS7000218: The request body must contain the "
                          "following parameter: 'client_assertion' or 'client_secret'.")
        elif form["client_secret"] not in app.get("secrets", []):
            raise Refused(401, "invalid_client",
                          "AADSTS7000215: Invalid client secret provided.")

    @staticmethod
    def audience_of(form):
        """The resource of "<resource>/.default", the only scope of client credentials."""
        resource, _, rest = form["scope"].rpartition("/")
        if rest != ".default" or " " in form["scope"]:
            raise Refused(400, "invalid_scope", "AADSTS1002012: The provided value for scope %s is "
                          "not valid. Client credential flows must have a scope value with "
                          "/.default suffixed to the resource identifier." % form["scope"])
        if resource.rstrip("/") != VAULT and resource.rstrip("/") not in REDIS:
            raise Refused(400, "invalid_resource", "AADSTS500011: The resource principal named %s "
                          "was not found in the tenant." % resource)
        return resource.rstrip("/")

    # ---------------------------------------------------------- managed identities
    def identity_of(self, args):
        """By client_id or object_id; without either the machine's own."""
        for client_id, identity in (self.state.get("identities") or {}).items():
            if "client_id" in args:
                found = args["client_id"] == client_id
            elif "object_id" in args:
                found = args["object_id"] == identity.get("oid")
            else:
                found = identity.get("system")
            if found:
                return client_id, identity
        raise Refused(400, "invalid_request", "Identity not found")

    def identity_token(self, args):
        client_id, identity = self.identity_of(args)
        token, life_s = self.new_token(identity, client_id, args["resource"].rstrip("/"))
        now = int(time.time())
        return {"access_token": token, "client_id": client_id, "expires_in": str(int(life_s)),
                "expires_on": str(int(now + life_s)), "not_before": str(now),
                "resource": args["resource"], "token_type": "Bearer"}

    def imds(self, request):
        try:
            args = request.args()
            if request.header("Metadata") != "true" or request.header("X-Forwarded-For"):
                raise Refused(400, "bad_request_102", "Required metadata header not specified")
            if request.method != "GET" or not args.get("api-version"):
                raise Refused(400, "bad_request_102", "Required query variable 'api-version' is "
                                                      "missing")
            if not args.get("resource"):
                raise Refused(400, "invalid_request", "Required query variable 'resource' is "
                                                      "missing")
            return base.json_response(200, self.identity_token(args))
        except Refused as err:
            request.note = err.message
            return base.json_response(err.status, {"error": err.word,
                                                   "error_description": err.message})

    def app_service(self, request, app):
        args = request.args()
        if request.header("X-IDENTITY-HEADER") != app["header"]:
            return base.json_response(401, {"statusCode": 401, "message": "Unauthorized"})
        if args.get("api-version") != "2019-08-01" or not args.get("resource"):
            return base.json_response(400, {"statusCode": 400, "message": "Bad request"})
        try:
            got = self.identity_token(args)
        except Refused as err:
            return base.json_response(400, {"statusCode": 400, "message": err.message})
        return base.json_response(200, {name: got[name] for name in (
            "access_token", "client_id", "expires_on", "resource", "token_type")})

    # ------------------------------------------------------------------- Key Vault
    def key_vault(self, request):
        try:
            token = self.bearer(request)
            args = request.args()
            if not re.fullmatch(r"\d+\.\d+(-preview\.\d+)?", args.get("api-version", "")):
                raise Refused(400, "BadParameter", "api-version must be specified")
            found = re.fullmatch(r"/secrets/([0-9a-zA-Z-]{1,127})(?:/([0-9a-f]*))?/?", request.path)
            if request.method != "GET" or not found:
                raise Refused(404, "BadParameter", "no such operation")
            if token["deny"]:
                raise Refused(403, "Forbidden", "The user, group or application does not have "
                              "secrets get permission on key vault 'spec'.", "AccessDenied")
            return base.json_response(200, self.secret(request, *found.groups()))
        except Refused as err:
            request.note = err.message
            error = {"code": err.word, "message": err.message}
            if err.inner:
                error["innererror"] = {"code": err.inner}
            headers = [self.challenge()] if err.status == 401 else []
            return base.json_response(err.status, {"error": error}, headers)

    def challenge(self):
        tenant = next(iter(self.state.get("tenants") or ["common"]))
        return ("WWW-Authenticate", 'Bearer authorization="https://login.microsoftonline.com/%s", '
                                    'resource="%s"' % (tenant, VAULT))

    def bearer(self, request):
        text = request.header("Authorization") or ""
        if not text.startswith("Bearer "):
            raise Refused(401, "Unauthorized",
                          "AKV10000: Request is missing a Bearer or PoP token.")
        token = self.tokens.get(text[7:])
        if not token:
            raise Refused(401, "Unauthorized", "AKV10001: Unable to parse the token.")
        if token["expires"] <= time.time():
            raise Refused(401, "Unauthorized", "AKV10046: the token has run out.")
        if token["audience"] != VAULT:
            raise Refused(401, "Unauthorized", "AKV10022: Invalid audience. Expected %s, found: %s."
                          % (VAULT, token["audience"]))
        return token

    def secret(self, request, name, version):
        one = (self.state.get("secrets") or {}).get(name)
        if one is None:
            raise Refused(404, "SecretNotFound", NOT_FOUND % name)
        if isinstance(one, str):
            one = {"value": one}
        versions = one.get("versions") or {"%032x" % 1: one["value"]}
        version = version or list(versions)[-1]
        if version not in versions:
            raise Refused(404, "SecretNotFound", NOT_FOUND % (name + "/" + version))
        if one.get("disabled"):
            raise Refused(403, "Forbidden", "Operation get is not allowed on a disabled secret.",
                          "SecretDisabled")
        return {"value": versions[version],
                "id": "https://%s/secrets/%s/%s" % (request.header("Host"), name, version),
                "attributes": {"enabled": True, "created": 1700000000, "updated": 1700000000,
                               "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90},
                "tags": {}}

    # ----------------------------------------------------------------------- Redis
    def verify_redis(self, user, text, has_user):
        token = self.tokens.get(text)
        if not token:
            raise ValueError("no access token")
        if token["expires"] <= time.time():
            raise ValueError("the access token has run out")
        if token["audience"] not in REDIS:
            raise ValueError("for another audience: " + token["audience"])
        users = (self.state.get("cache") or {}).get("users", [])
        if not has_user or user not in users or user != token["oid"]:
            raise ValueError("no such user, or not his")
        return token["expires"] - time.time()


if __name__ == "__main__":
    base.run(Azure)
