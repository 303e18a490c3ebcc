"""Signature Version 4 of AWS, from the side that checks: the canonical request is
built anew from what came over the wire ("Signature Version 4 signing process",
"Create a canonical request", "Authenticating requests: using query parameters").
It never signs, so that a client's mistake cannot be made twice.
"""
import calendar
import hashlib
import hmac
import re
import time
import urllib.parse

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Refused(Exception):
    """kind: missing, incomplete, unknown, mismatch, skew, expired, token."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind, self.message = kind, message


def encode(raw, safe=""):
    """UriEncode: all but A-Z a-z 0-9 - . _ ~ becomes %XY in capitals."""
    return urllib.parse.quote(raw, safe="-._~" + safe)


def canonical_path(path):
    """What stands in the request line, normalised and encoded once more (not for S3)."""
    out = []
    for word in path.split("/")[1:]:
        if word == "..":
            out = out[:-1]
        elif word not in ("", "."):
            out.append(word)
    text = "/" + "/".join(out)
    if out and path.endswith("/"):
        text += "/"
    return encode(text.encode("latin-1"), "/")


def canonical_query(query, without=None):
    pairs = []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        name, value = (urllib.parse.unquote_to_bytes(x.replace("+", " ")) for x in (name, value))
        if name.decode("latin-1") != without:
            pairs.append((encode(name), encode(value)))
    return "&".join("%s=%s" % pair for pair in sorted(pairs))


def canonical_headers(headers, names):
    """headers: the request's list; names: those that are signed, in lower case and sorted."""
    lines = []
    for name in names:
        values = [re.sub(" +", " ", v.strip()) for n, v in headers if n.lower() == name]
        if not values:
            raise Refused("incomplete", "'%s' is signed and is not there" % name)
        lines.append("%s:%s\n" % (name, ",".join(values)))
    return "".join(lines)


def signature(secret, date, scope, request_text):
    """date: 20150830T123600Z; scope: its day, region, service and aws4_request."""
    text = "\n".join([ALGORITHM, date, "/".join(scope),
                      hashlib.sha256(request_text.encode("latin-1")).hexdigest()])
    key = ("AWS4" + secret).encode()
    for word in scope:
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def seconds_of(date):
    try:
        return calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise Refused("incomplete", "Date must be in ISO-8601 'basic format'. Got '%s'." % date)


class Claim:
    """What a request says of its signature: key, scope, date, signed names, signature, token."""

    def __init__(self, credential, names, given, date, token):
        words = credential.split("/")
        if len(words) != 5 or words[4] != "aws4_request":
            raise Refused("incomplete", "Credential must have exactly 5 slash-delimited elements, "
                                        "e.g. keyid/date/region/service/term")
        self.key, self.scope = words[0], words[1:]
        self.day, self.region, self.service = words[1:4]
        self.names, self.given, self.date, self.token = names.split(";"), given, date, token
        if self.names != sorted(self.names) or "host" not in self.names:
            raise Refused("incomplete", "SignedHeaders must be sorted and have the host")
        if not date.startswith(self.day):
            raise Refused("mismatch", "Date in Credential scope does not match YYYYMMDD from "
                                      "ISO-8601 version of date from HTTP")


def claim_of_headers(request):
    text = request.header("Authorization")
    if not text:
        raise Refused("missing", "Missing Authentication Token")
    if not text.startswith(ALGORITHM + " "):
        raise Refused("incomplete", "Authorization header requires '%s'" % ALGORITHM)
    fields = {}
    for part in text[len(ALGORITHM):].split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    for name in ("Credential", "SignedHeaders", "Signature"):
        if name not in fields:
            raise Refused("incomplete", "Authorization header requires '%s' parameter." % name)
    date = request.header("X-Amz-Date")
    if not date:
        raise Refused("incomplete", "Authorization header requires existence of either a "
                                    "'X-Amz-Date' or a 'Date' header.")
    claim = Claim(fields["Credential"], fields["SignedHeaders"], fields["Signature"], date,
                  request.header("X-Amz-Security-Token"))
    unsigned = [n.lower() for n, _ in request.headers
                if n.lower().startswith("x-amz-") and n.lower() not in claim.names]
    if unsigned:
        raise Refused("mismatch", "There were headers present in the request which were not "
                                  "signed: " + ", ".join(unsigned))
    return claim


def canonical_request(request, names, payload, without=None, path=canonical_path):
    return "\n".join([request.method, path(request.path),
                      canonical_query(request.query, without),
                      canonical_headers(request.headers, names), ";".join(names), payload])


def compare(claim, secret, text):
    wanted = signature(secret, claim.date, claim.scope, text)
    if not hmac.compare_digest(wanted, claim.given):
        raise Refused("mismatch", "The request signature we calculated does not match the "
                                  "signature you provided. Check your AWS Secret Access Key and "
                                  "signing method. The canonical string should have been\n'%s'"
                      % text)


def check_key(claim, keys):
    """keys(id): {secret, token, expires} or None. Long-lived keys have no token."""
    key = keys(claim.key)
    if not key:
        raise Refused("unknown", "The security token included in the request is invalid.")
    if key.get("token") != claim.token:
        raise Refused("token", "The security token included in the request is invalid.")
    if key.get("expires") and time.time() >= key["expires"]:
        raise Refused("expired", "The security token included in the request is expired")
    return key


def check_scope(claim, region, service):
    if region and claim.region != region:
        raise Refused("mismatch", "Credential should be scoped to a valid region, not '%s'."
                      % claim.region)
    if claim.service != service:
        raise Refused("mismatch", "Credential should be scoped to correct service: '%s'." % service)


def verify(request, keys, region, service, skew_s=300, now=None):
    """A request signed by its Authorization header; the claim if it is true, else Refused."""
    claim = claim_of_headers(request)
    key = check_key(claim, keys)
    check_scope(claim, region, service)
    off = (now or time.time()) - seconds_of(claim.date)
    if abs(off) > skew_s:
        raise Refused("skew", "Signature %s: %s is not within %d s of the server's time"
                      % ("expired" if off > 0 else "not yet current", claim.date, skew_s))
    payload = hashlib.sha256(request.body).hexdigest()
    if (request.header("X-Amz-Content-Sha256") or payload) != payload:
        raise Refused("mismatch", "The provided 'x-amz-content-sha256' header does not match what "
                                  "was computed.")
    compare(claim, key["secret"], canonical_request(request, claim.names, payload))
    return claim


def claim_of_query(args):
    for name in ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
                 "X-Amz-SignedHeaders", "X-Amz-Signature"):
        if not args.get(name):
            raise Refused("incomplete", "no " + name)
    if args["X-Amz-Algorithm"] != ALGORITHM:
        raise Refused("incomplete", "another X-Amz-Algorithm")
    return Claim(args["X-Amz-Credential"], args["X-Amz-SignedHeaders"], args["X-Amz-Signature"],
                 args["X-Amz-Date"], args.get("X-Amz-Security-Token"))


def verify_presigned(request, keys, region, service, payload=EMPTY_SHA256, now=None, most_s=604800,
                     path=canonical_path):
    """The same of a request that is signed in its query."""
    args = request.args()
    claim = claim_of_query(args)
    key = check_key(claim, keys)
    check_scope(claim, region, service)
    begun, now = seconds_of(claim.date), now or time.time()
    expires = args["X-Amz-Expires"]
    if not expires.isdigit() or not 1 <= int(expires) <= most_s:
        raise Refused("incomplete", "X-Amz-Expires must be from 1 to %d" % most_s)
    if now > begun + int(expires) or begun > now + 300:
        raise Refused("skew", "Request has expired")
    text = canonical_request(request, claim.names, payload, without="X-Amz-Signature", path=path)
    compare(claim, key["secret"], text)
    return claim
