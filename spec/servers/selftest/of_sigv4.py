"""The verifier of Signature Version 4 against signatures that AWS published: its
test suite's (AKIDEXAMPLE), the documentation's ListUsers of IAM, and the presigned
GET and the GET of an object of S3's. Each vector with a byte changed must fail."""
import calendar
import hashlib

import base
import sigv4
from checks import check, refused, same

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
S3_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = calendar.timegm((2015, 8, 30, 12, 36, 0))
COMMON = ["Host:example.amazonaws.com", "X-Amz-Date:20150830T123600Z"]
FORM = "application/x-www-form-urlencoded"

# name, request line, headers, signed headers, body, signature
VECTORS = [
    ("get-vanilla", "GET /", COMMON, "host;x-amz-date", b"",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("get-vanilla-query-order-key-case", "GET /?Param2=value2&Param1=value1", COMMON,
     "host;x-amz-date", b"", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ("get-utf8", "GET /\u1234", COMMON, "host;x-amz-date", b"",
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("get-relative", "GET /example/..", COMMON, "host;x-amz-date", b"",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("get-header-value-trim", "GET /",
     ["Host:example.amazonaws.com", "My-Header1: value1", 'My-Header2: "a   b   c"', COMMON[1]],
     "host;my-header1;my-header2;x-amz-date", b"",
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
    ("post-vanilla", "POST /", COMMON, "host;x-amz-date", b"",
     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("post-x-www-form-urlencoded", "POST /", ["Content-Type:" + FORM, *COMMON],
     "content-type;host;x-amz-date", b"Param1=value1",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ("ListUsers", "GET /?Action=ListUsers&Version=2010-05-08",
     ["Host: iam.amazonaws.com", "Content-Type: " + FORM + "; charset=utf-8", COMMON[1]],
     "content-type;host;x-amz-date", b"",
     "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
]


def request(line, headers, body=b""):
    return base.Request("\r\n".join([line + " HTTP/1.1", *headers]).encode(), body)


def signed(vector, service, key="AKIDEXAMPLE", day="20150830", given=None, more=()):
    _, line, headers, names, body, signature = vector
    authorization = ("Authorization: AWS4-HMAC-SHA256 Credential=%s/%s/us-east-1/%s/aws4_request, "
                     "SignedHeaders=%s, Signature=%s"
                     % (key, day, service, names, given or signature))
    return request(line, [*headers, *more, authorization], body)


def keys(key_id):
    return {"AKIDEXAMPLE": {"secret": SECRET}, "WRONG": {"secret": SECRET + "x"},
            "ASIAENDED": {"secret": SECRET, "token": "t", "expires": 1}}.get(key_id)


def verify(one, service="service", now=NOW):
    return sigv4.verify(one, keys, "us-east-1", service, now=now)


def kind(*args):
    return refused(sigv4.Refused, verify, *args).kind


def test():
    for vector in VECTORS:
        service = "iam" if vector[0] == "ListUsers" else "service"
        same(verify(signed(vector, service), service).key, "AKIDEXAMPLE")
        last = "0" if vector[5][-1] != "0" else "1"
        same(kind(signed(vector, service, given=vector[5][:-1] + last), service), "mismatch")
        changed = signed(vector, service)
        changed.body += b" "
        same(kind(changed, service), "mismatch")
    vanilla = VECTORS[0]
    same(kind(request("GET /", COMMON)), "missing")
    same(kind(signed(vanilla, "service", "WRONG")), "mismatch")
    same(kind(signed(vanilla, "service", "NOBODY")), "unknown")
    same(kind(signed(vanilla, "service", "ASIAENDED")), "token")
    same(kind(signed(vanilla, "service", day="20150831")), "mismatch")
    same(kind(signed(vanilla, "sts"), "service"), "mismatch")
    same(kind(signed(vanilla, "service"), "service", NOW + 301), "skew")
    same(kind(signed(vanilla, "service"), "service", NOW - 301), "skew")
    same(kind(signed(vanilla, "service", more=["X-Amz-Target: x"])), "mismatch")
    same(kind(signed(vanilla, "service", more=["X-Amz-Security-Token: t"])), "mismatch")
    same(kind(signed(("", "GET /", COMMON, "x-amz-date;host", b"", "0"), "service")), "incomplete")
    of_s3()


def of_s3():
    query = ("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524"
             "%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
             "&X-Amz-SignedHeaders=host&X-Amz-Signature="
             "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
    host = "Host: examplebucket.s3.amazonaws.com"
    begun = calendar.timegm((2013, 5, 24, 0, 0, 0))

    def presigned(text, now):
        return sigv4.verify_presigned(
            request("GET /test.txt?" + text, [host]),
            {"AKIAIOSFODNN7EXAMPLE": {"secret": S3_SECRET}}.get, "us-east-1", "s3",
            "UNSIGNED-PAYLOAD", now)
    same(presigned(query, begun + 86400).region, "us-east-1")
    same(refused(sigv4.Refused, presigned, query, begun + 86401).kind, "skew")
    same(refused(sigv4.Refused, presigned, query, begun - 301).kind, "skew")
    same(refused(sigv4.Refused, presigned, query + "&x=1", begun).kind, "mismatch")
    same(refused(sigv4.Refused, presigned, query.replace("86400", "86401"), begun).kind, "mismatch")
    names = ["host", "range", "x-amz-content-sha256", "x-amz-date"]
    get = request("GET /test.txt", [host, "Range: bytes=0-9", "x-amz-content-sha256: "
                                    + sigv4.EMPTY_SHA256, "x-amz-date: 20130524T000000Z"])
    text = sigv4.canonical_request(get, names, hashlib.sha256(b"").hexdigest())
    check(sigv4.signature(S3_SECRET, "20130524T000000Z",
                          ["20130524", "us-east-1", "s3", "aws4_request"], text)
          == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", "S3's GET")
