"""TLS, and logins to Vault by a client's certificate."""
import ssl
import tempfile

import hcv
from checks import Client, check, make_certificates, same


def test():
    with tempfile.TemporaryDirectory() as directory:
        make_certificates(directory)
        path = directory + "/"
        c = Client(hcv.Vault, {
            "tls": {"cert": path + "server.crt", "key": path + "server.key",
                    "client_ca": path + "ca.crt"},
            "state": {"auth": {"cert": {"roles": {
                "other": {"allowed_common_names": ["somebody"]},
                "web": {"allowed_common_names": ["weir-client"]}}}}}})
        c.tls = ssl.create_default_context(cafile=path + "ca.crt")
        login = "/v1/auth/cert/login"
        same(c.ask("POST", login, {}),
             (400, {"errors": ["client certificate must be supplied"]}))
        c.tls.load_cert_chain(path + "client.crt", path + "client.key")
        body = c.ask("POST", login, {})[1]
        same(body["auth"]["metadata"]["role_name"], "web")
        same(c.ask("POST", login, {"name": "web"})[0], 200)
        same(c.ask("POST", login, {"name": "other"})[0], 400)
        mine = {"X-Vault-Token": body["auth"]["client_token"]}
        same(c.ask("GET", "/v1/auth/token/lookup-self", headers=mine)[0], 200)
        c.tls = ssl.create_default_context()
        try:
            c.ask("POST", login, {})
            check(False, "a certificate of nobody was believed")
        except ssl.SSLCertVerificationError:
            check(True)
