"""HashiCorp Vault: tokens, logins, namespaces, both KV engines, refusals."""
import time

import hcv
from checks import Client, check, same


def test():
    role = {"role_id": "r1", "secret_ids": ["s1", "s2"], "secret_id_num_uses": 1, "token_ttl": 1,
            "token_max_ttl": 2, "paths": ["secret/data/a*"]}
    space = {"mounts": {"secret": {"version": 1,
                                   "secrets": {"redis": {"p": "in ns", "ttl": "1m"}}}},
             "auth": {"kubernetes": {"roles": {"k": {"jwts": ["j.w.t"]}}}}}
    c = Client(hcv.Vault, {"state": {
        "tokens": {"root": {}, "twice": {"num_uses": 2}, "firm": {"ttl": 60, "renewable": False}},
        "mounts": {"secret": {"secrets": {
            "app/redis": [{"data": {"p": "1"}}, {"data": {"p": "2"}},
                          {"data": {"p": "3"}, "deleted": True}],
            "a": {"p": "a"}}}, "secret/deep": {"version": 1, "secrets": {"x": {"p": "deep"}}}},
        "auth": {"approle": {"roles": {"web": role}},
                 "my/role": {"type": "approle",
                             "roles": {"w": {"role_id": "q", "bind_secret_id": False}}}},
        "wrapped": {"wrap": {"secret_id": "s2"}}, "namespaces": {"team": space}}})
    root = {"X-Vault-Token": "root"}
    denied = (403, {"errors": ["permission denied"]})

    def get(path, headers=root):
        return c.ask("GET", "/v1/" + path, headers=headers)

    same(get("secret/data/app/redis?version=1")[1]["data"]["data"], {"p": "1"})
    same(get("secret/data/app/redis?version=2")[1]["data"]["metadata"]["version"], 2)
    status, body = get("secret/data/app/redis")
    same((status, body["data"]["data"], body["data"]["metadata"]["version"]), (404, None, 3))
    check(body["data"]["metadata"]["deletion_time"] != "", "deletion_time")
    same(get("secret/data/app/redis?version=9"), (404, {"errors": []}))
    same(get("secret/data/none"), (404, {"errors": []}))
    same(get("secret/deep/x")[1]["data"], {"p": "deep"})
    check("versioned" in get("secret/app/redis")[1]["warnings"][0], "a path of KV 1")
    same(get("nowhere/x")[0], 404)
    same(get("secret/data/a", {}), denied)
    same(get("secret/data/a", {"X-Vault-Token": "roots"}), denied)
    same([get("secret/data/a", {"X-Vault-Token": "twice"})[0] for _ in range(3)], [200, 200, 403])
    same(get("secret/data/a", {"Authorization": "Bearer root"})[0], 200)

    def login(mount, body, headers=None):
        return c.ask("POST", "/v1/auth/%s/login" % mount, body, headers)

    same(login("approle", {"role_id": "r1", "secret_id": "no"}),
         (400, {"errors": ["invalid role or secret ID"]}))
    same(login("approle", {"secret_id": "s1"})[1], {"errors": ["missing role_id"]})
    status, body = login("approle", {"role_id": "r1", "secret_id": "s1"})
    same((status, body["auth"]["lease_duration"], body["auth"]["renewable"]), (200, 1, True))
    mine = {"X-Vault-Token": body["auth"]["client_token"]}
    same(login("approle", {"role_id": "r1", "secret_id": "s1"})[0], 400)
    same(get("secret/data/a", mine)[0], 200)
    same(get("secret/data/app/redis?version=1", mine)[0], 200)
    same(get("secret/deep/x", mine),
         (403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}))
    time.sleep(0.6)
    renewed = c.ask("POST", "/v1/auth/token/renew-self", {"increment": "1h"}, mine)[1]
    same(renewed["auth"]["lease_duration"], 1)
    time.sleep(0.6)
    same(get("auth/token/lookup-self", mine)[1]["data"]["id"], mine["X-Vault-Token"])
    time.sleep(1)
    same(get("secret/data/a", mine), denied)
    same(c.ask("POST", "/v1/auth/token/renew-self", {}, {"X-Vault-Token": "firm"}),
         (400, {"errors": ["lease is not renewable"]}))
    same(login("my/role", {"role_id": "q"})[0], 200)
    same(login("other", {"role_id": "q"})[0], 403)
    wrap = {"X-Vault-Token": "wrap"}
    same(c.ask("POST", "/v1/sys/wrapping/unwrap", {}, wrap)[1]["data"], {"secret_id": "s2"})
    same(c.ask("POST", "/v1/sys/wrapping/unwrap", {}, wrap)[0], 400)
    same(login("kubernetes", {"role": "k", "jwt": "j.w.t"})[0], 403)
    team = {"X-Vault-Namespace": "team/"}
    same(login("kubernetes", {"role": "k", "jwt": "no"}, team), denied)
    same(login("kubernetes", {"role": "x", "jwt": "no"}, team)[0], 400)
    entered = login("kubernetes", {"role": "k", "jwt": "j.w.t"}, team)[1]
    inside = {"X-Vault-Token": entered["auth"]["client_token"]}
    same(get("team/secret/redis", inside)[1]["lease_duration"], 60)
    same(get("secret/redis", {**inside, **team})[1]["data"]["p"], "in ns")
    same(get("secret/data/a", inside), denied)
    same(get("team/secret/redis")[0], 200)
    same(login("cert", {})[0], 403)
    c.control("set", {"sealed": True})
    same(get("secret/data/a"), (503, {"errors": ["Vault is sealed"]}))
    same(get("sys/health")[0], 503)
    c.control("set", {"sealed": None, "standby": True, "standby_redirect": "http://active:8200"})
    same((get("sys/health")[0], get("secret/data/a")[0]), (429, 307))
    same(c.headers["Location"], "http://active:8200/v1/secret/data/a")
    c.control("set", {"standby": None})
    c.control("do/revoke", {"token": "root"})
    same(get("secret/data/a"), denied)
