"""HashiCorp Vault's HTTP API, as far as a reader of secrets needs it: tokens that
end, logins by AppRole, Kubernetes and certificate, response wrapping, namespaces,
KV 1 and KV 2, and the ways in which Vault says no. README.md tells the documents.

state:
  sealed, standby (true), standby_redirect (base URL), max_ttl (s)
  tokens      {token: {ttl, max_ttl, renewable, num_uses, paths, namespace}}
  wrapped     {wrapping token: the data inside}, each good once
  mounts      {path: {version: 1|2, secrets: {name: data | [{data, deleted, destroyed}]}}}
  auth        {path: {type, roles: {name: {...}}}}
  namespaces  {path: {mounts, auth}}, beside the root's mounts and auth
"""
import base64
import json
import re
import time
import uuid

import base

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Refusal(Exception):
    def __init__(self, status, *errors, note=None):
        super().__init__(status)
        self.status, self.errors, self.note = status, list(errors), note


def denied(note):
    return Refusal(403, "permission denied", note=note)


def seconds(value):
    """Vault's durations: 30, "30", "30s", "1h30m"."""
    if isinstance(value, (int, float)):
        return int(value)
    if re.fullmatch(r"\d+", value):
        return int(value)
    if not re.fullmatch(r"(\d+[smhd])+", value):
        raise Refusal(400, 'time: invalid duration "%s"' % value)
    return sum(int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+)([smhd])", value))


def iso(moment):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + ".000000000Z"


class Token:
    def __init__(self, text, spec, namespace="", origin="token"):
        self.text, self.spec, self.namespace, self.origin = text, spec, namespace, origin
        self.accessor, self.issued = uuid.uuid4().hex[:24], time.time()
        self.ttl = spec.get("ttl", 0)
        self.expires = self.issued + self.ttl if self.ttl else None
        self.uses = spec.get("num_uses", 0)
        self.renewable = spec.get("renewable", bool(self.ttl))
        self.metadata = spec.get("metadata")

    def is_over(self):
        return self.expires is not None and time.time() >= self.expires

    def left(self):
        return max(0, round(self.expires - time.time())) if self.expires else 0

    def renew(self, increment, max_ttl):
        until = time.time() + (increment or self.ttl)
        if max_ttl:
            until = min(until, self.issued + max_ttl)
        self.expires = until

    def auth(self):
        return {"client_token": self.text, "accessor": self.accessor,
                "policies": ["default"], "token_policies": ["default"],
                "metadata": self.metadata, "lease_duration": self.left(),
                "renewable": self.renewable, "entity_id": "", "token_type": "service",
                "orphan": True, "mfa_requirement": None, "num_uses": self.uses}

    def lookup(self):
        return {"accessor": self.accessor, "creation_time": int(self.issued),
                "creation_ttl": self.ttl, "display_name": self.origin, "entity_id": "",
                "expire_time": iso(self.expires) if self.expires else None,
                "explicit_max_ttl": 0, "id": self.text, "issue_time": iso(self.issued),
                "meta": self.metadata, "num_uses": self.uses, "orphan": True,
                "path": "auth/%s" % self.origin, "policies": ["default"],
                "renewable": self.renewable, "ttl": self.left(), "type": "service"}


def envelope(data=None, auth=None, lease_duration=0, warnings=None):
    return {"request_id": str(uuid.uuid4()), "lease_id": "", "renewable": False,
            "lease_duration": lease_duration, "data": data, "wrap_info": None,
            "warnings": warnings, "auth": auth}


def claims_of(jwt):
    """The claims of a JWT, unverified: what Vault learns from Kubernetes's TokenReview."""
    try:
        part = jwt.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}


class Vault(base.Service):
    def changed(self):
        given = self.state.get("tokens") or {}
        known = getattr(self, "tokens", {})
        self.tokens = {t: k for t, k in known.items() if k.origin != "token" or t in given}
        for text, spec in given.items():
            if text not in self.tokens or self.tokens[text].spec != spec:
                self.tokens[text] = Token(text, dict(spec), spec.get("namespace", ""))
        self.used = getattr(self, "used", set())

    def do_revoke(self, args):
        """One token, or all that logins gave."""
        self.tokens = {t: k for t, k in self.tokens.items()
                       if (t != args["token"] if "token" in args else k.origin == "token")}

    def do_tokens(self, _):
        return {t: {"origin": k.origin, "left": k.left(), "uses": k.uses}
                for t, k in self.tokens.items() if not k.is_over()}

    # ---------------------------------------------------------------- the way in
    def answer(self, request):
        try:
            with self.lock:
                return self.route(request)
        except Refusal as err:
            request.note = err.note
            return base.json_response(err.status, {"errors": err.errors})

    def route(self, request):
        if not request.path.startswith("/v1/"):
            raise Refusal(404)
        path = base.urllib.parse.unquote(request.path[4:])
        if path == "sys/health":
            return self.health()
        if self.state.get("sealed"):
            raise Refusal(503, "Vault is sealed")
        if self.state.get("standby") and self.state.get("standby_redirect"):
            where = self.state["standby_redirect"] + request.target
            return base.Response(307, b"", [("Location", where)])
        namespace, path = self.namespace_of(request, path)
        if path.startswith("auth/") and path.endswith("/login"):
            return self.login(request, namespace, path[5:-6])
        if path == "sys/wrapping/unwrap":
            return self.unwrap(request)
        token = self.token_of(request, namespace)
        if path == "auth/token/lookup-self":
            return base.json_response(200, envelope(token.lookup()))
        if path == "auth/token/renew-self":
            return self.renew(request, token)
        return self.secret(request, token, namespace, path)

    def health(self):
        sealed, standby = bool(self.state.get("sealed")), bool(self.state.get("standby"))
        status = 503 if sealed else 429 if standby else 200
        return base.json_response(status, {
            "initialized": True, "sealed": sealed, "standby": standby,
            "performance_standby": False, "replication_performance_mode": "disabled",
            "replication_dr_mode": "disabled", "server_time_utc": int(time.time()),
            "version": "1.15.4", "cluster_name": "spec", "cluster_id": str(uuid.uuid4())})

    def namespaces(self):
        return self.state.get("namespaces") or {}

    def namespace_of(self, request, path):
        """By X-Vault-Namespace, by the path's beginning, or by both, one below the other."""
        name = (request.header("X-Vault-Namespace") or "").strip("/")
        words = path.split("/")
        for n in range(len(words) - 1, 0, -1):
            longer = "/".join(filter(None, [name, *words[:n]]))
            if longer in self.namespaces():
                return longer, "/".join(words[n:])
        if name and name not in self.namespaces():
            raise Refusal(404, "no handler for route \"%s\". route entry not found." % path,
                          note="no such namespace")
        return name, path

    def inside(self, namespace):
        return self.namespaces()[namespace] if namespace else self.state

    # ---------------------------------------------------------------------- tokens
    def token_of(self, request, namespace):
        text = request.header("X-Vault-Token")
        bearer = request.header("Authorization") or ""
        if not text and bearer.startswith("Bearer "):
            text = bearer[7:]
        token = self.tokens.get(text or "")
        if not token:
            raise denied("no token" if not text else "unknown token")
        if token.is_over():
            del self.tokens[text]
            raise denied("the token has run out")
        home = token.namespace
        if home and namespace != home and not namespace.startswith(home + "/"):
            raise denied("the token is of another namespace")
        if token.uses:
            token.uses -= 1
            if token.uses == 0:
                del self.tokens[text]
        return token

    def renew(self, request, token):
        if request.method not in ("POST", "PUT"):
            raise Refusal(405, "1 error occurred:\n\t* unsupported operation\n\n")
        if not token.renewable:
            raise Refusal(400, "lease is not renewable")
        body = request.json()
        if body is None:
            raise Refusal(400, "error parsing JSON")
        token.renew(seconds(body.get("increment") or 0),
                    token.spec.get("max_ttl") or self.state.get("max_ttl"))
        return base.json_response(200, envelope(auth=token.auth()))

    # ---------------------------------------------------------------------- logins
    def login(self, request, namespace, mount):
        backend = (self.inside(namespace).get("auth") or {}).get(mount)
        if not backend:
            raise denied("nothing mounted at auth/" + mount)
        if request.method not in ("POST", "PUT"):
            raise Refusal(405, "1 error occurred:\n\t* unsupported operation\n\n")
        body = request.json()
        if body is None:
            raise Refusal(400, "error parsing JSON")
        kind = backend.get("type", mount)
        role, name = getattr(self, "login_" + kind)(request, body, backend.get("roles") or {})
        spec = {"ttl": role.get("token_ttl", 3600), "max_ttl": role.get("token_max_ttl"),
                "num_uses": role.get("token_num_uses", 0), "paths": role.get("paths"),
                "renewable": role.get("renewable", True), "metadata": {"role_name": name}}
        token = Token("hvs." + uuid.uuid4().hex, spec, namespace, mount)
        self.tokens[token.text] = token
        return base.json_response(200, envelope(auth=token.auth()))

    def login_approle(self, _, body, roles):
        if not body.get("role_id"):
            raise Refusal(400, "missing role_id")
        for name, role in roles.items():
            if role["role_id"] != body["role_id"]:
                continue
            if not role.get("bind_secret_id", True):
                return role, name
            given = body.get("secret_id")
            if not given:
                raise Refusal(400, "missing secret_id")
            if given in role.get("secret_ids", []) and given not in self.used:
                if role.get("secret_id_num_uses") == 1:
                    self.used.add(given)
                return role, name
        raise Refusal(400, "invalid role or secret ID")

    @staticmethod
    def login_kubernetes(_, body, roles):
        if not body.get("role"):
            raise Refusal(400, "missing role")
        if not body.get("jwt"):
            raise Refusal(400, "missing jwt")
        role = roles.get(body["role"])
        if not role:
            raise Refusal(400, 'invalid role name "%s"' % body["role"])
        if "jwts" in role:
            if body["jwt"] not in role["jwts"]:
                raise denied("the JWT is none of this role's")
            return role, body["role"]
        claims = claims_of(body["jwt"])
        who = claims.get("kubernetes.io") or {}
        if claims.get("exp", 0) < time.time():
            raise denied("the JWT has run out")
        for key, value in (("bound_service_account_names",
                            (who.get("serviceaccount") or {}).get("name")),
                           ("bound_service_account_namespaces", who.get("namespace"))):
            if value not in role.get(key, []) and "*" not in role.get(key, []):
                raise Refusal(403, "%s not authorized"
                              % ("namespace" if "space" in key[20:] else "service account name"))
        return role, body["role"]

    @staticmethod
    def login_cert(request, body, roles):
        if not request.certificate:
            raise Refusal(400, "client certificate must be supplied")
        name_of = {k: v for rdn in request.certificate["subject"] for k, v in rdn}
        for name, role in roles.items():
            if body.get("name") in (None, "", name) \
                    and name_of.get("commonName") in role.get("allowed_common_names", []):
                return role, name
        raise Refusal(400, "failed to match all constraints for this login certificate")

    def unwrap(self, request):
        body = request.json() or {}
        wrapping = body.get("token") or request.header("X-Vault-Token")
        wrapped = self.state.get("wrapped") or {}
        if wrapping not in wrapped:
            raise Refusal(400, "wrapping token is not valid or does not exist")
        return base.json_response(200, envelope(wrapped.pop(wrapping)))

    # --------------------------------------------------------------------- secrets
    def secret(self, request, token, namespace, path):
        mounts = self.inside(namespace).get("mounts") or {}
        found = [m for m in mounts if path == m or path.startswith(m + "/")]
        paths = token.spec.get("paths")
        if paths is not None and not any(re.fullmatch(p.replace("*", ".*"), path)
                                         for p in paths):
            raise Refusal(403, "1 error occurred:\n\t* permission denied\n\n",
                          note="no policy for " + path)
        if not found:
            raise Refusal(404, 'no handler for route "%s". route entry not found.' % path)
        if request.method != "GET":
            raise Refusal(405, "1 error occurred:\n\t* unsupported operation\n\n")
        mount = max(found, key=len)
        name = path[len(mount) + 1:]
        secrets = mounts[mount].get("secrets") or {}
        if mounts[mount].get("version", 2) == 1:
            return self.kv1(secrets, name)
        return self.kv2(request, secrets, name)

    @staticmethod
    def kv1(secrets, name):
        if name not in secrets:
            raise Refusal(404)
        data = secrets[name]
        ttl = seconds(data["ttl"]) if "ttl" in data else 2764800
        return base.json_response(200, envelope(data, lease_duration=ttl))

    @staticmethod
    def kv2(request, secrets, name):
        if not name.startswith("data/"):
            return base.json_response(404, {"errors": [], "warnings": [
                "Invalid path for a versioned K/V secrets engine. See the API docs for the "
                "appropriate API endpoints to use. If using the Vault CLI, use 'vault kv get' "
                "for this operation."]})
        versions = secrets.get(name[5:])
        if versions is None:
            raise Refusal(404)
        if not isinstance(versions, list):
            versions = [{"data": versions}]
        wanted = request.args().get("version", "0")
        if not re.fullmatch(r"-?\d+", wanted):
            raise Refusal(400, "Field validation failed: error converting input for field "
                               "\"version\"")
        n = int(wanted) or len(versions)
        if not 1 <= n <= len(versions):
            raise Refusal(404)
        one = versions[n - 1]
        gone = bool(one.get("deleted") or one.get("destroyed"))
        data = {"data": None if gone else one["data"],
                "metadata": {"created_time": iso(1700000000 + n), "custom_metadata": None,
                             "deletion_time": iso(1700001000) if one.get("deleted") else "",
                             "destroyed": bool(one.get("destroyed")), "version": n}}
        return base.json_response(404 if gone else 200, envelope(data))


if __name__ == "__main__":
    base.run(Vault)
