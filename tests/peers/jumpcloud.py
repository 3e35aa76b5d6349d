"""A stand-in for JumpCloud's v1 API, and the requests of the Python client that is generated for it.

The generated client (`jcapiv1`, swagger-codegen) is not on PyPI. This module sends the same bytes: urllib3, the same
header lines in the same order, an empty `x-org-id` if the caller names no organisation, and path parameters with
all possible escapes.
"""
import json
from urllib.parse import quote, unquote, urlencode

import urllib3

from standin import Standin

KEY = "f4ke0f4ke0f4ke0f4ke0f4ke0f4ke0f4ke0f4ke0"
ORG, OTHER_ORG, FOREIGN_ORG = "5e9f0000000000000000000a", "5e9f0000000000000000000b", "5e9f0000000000000000000c"


class Upstream(Standin):
    """Has one key and three organisations; stores users by organisation, and every request as received."""

    def __init__(self):
        super().__init__()
        self.users = {ORG: {}, OTHER_ORG: {}, FOREIGN_ORG: {}}

    def answer(self, request):
        if request.all("x-api-key") != [KEY] or request.all("Authorization"):
            return 401, {"message": "Unauthorized", "error": "Unauthorized"}
        orgs = request.all("x-org-id")
        if len(orgs) != 1 or orgs[0] not in self.users:
            return 400, {"message": "Bad Request: x-org-id is required for multi-tenant administrators"}
        return self.users_of(self.users[orgs[0]], request)

    def users_of(self, users, request):
        method, name = request.method, unquote(request.path.removeprefix("/api/systemusers").strip("/"))
        if not request.path.startswith("/api/systemusers") or (name and method != "POST" and name not in users):
            return 404, {"message": "Not Found"}
        if method == "GET" and not name:
            return 200, {"totalCount": len(users), "results": list(users.values())[request.page("skip", "limit")]}
        if method == "POST" and not name:
            user = request.json()
            users[user["email"]] = user
            return 200, user
        if method == "DELETE" and name:
            return 200, users.pop(name)
        return (200, users[name]) if method == "GET" and name else (405, {"message": "Method Not Allowed"})


class Client:
    """Does the same as `jcapiv1.ApiClient` with `configuration.host` and `configuration.api_key["x-api-key"]`."""

    def __init__(self, host, key):
        self.host, self.key, self.pool = host, key, urllib3.PoolManager(retries=False)

    def call(self, method, path, params=(), query=(), body=None, x_org_id=""):
        for name, value in dict(params).items():
            path = path.replace("{%s}" % name, quote(str(value), safe=""))
        headers = {"Accept": "application/json", "Content-Type": "application/json", "x-org-id": x_org_id,
                   "User-Agent": "Swagger-Codegen/3.2.0/python", "x-api-key": self.key}
        url = self.host + path + ("?" + urlencode(list(query)) if query else "")
        content = None if body is None else json.dumps(body)
        return self.pool.request(method, url, headers=headers, body=content, timeout=30)
