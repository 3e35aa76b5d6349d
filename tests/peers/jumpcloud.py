"""A stand-in for JumpCloud's v1 API, and the wire of the Python client that is generated for it.

The generated client (`jcapiv1`, swagger-codegen) is not on PyPI. What is here sends what it sends: urllib3, its header
lines in its order, an empty `x-org-id` wherever the caller names no organisation, and path parameters with
everything escaped that can be.
"""
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import urllib3

KEY = "f4ke0f4ke0f4ke0f4ke0f4ke0f4ke0f4ke0f4ke0"
ORG, OTHER_ORG, FOREIGN_ORG = "5e9f0000000000000000000a", "5e9f0000000000000000000b", "5e9f0000000000000000000c"


class Upstream:
    """Knows one key and three organisations; keeps users by organisation, and every request as it came."""

    def __init__(self):
        self.seen, self.users = [], {ORG: {}, OTHER_ORG: {}, FOREIGN_ORG: {}}
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, told = upstream.take(self.command, self.path, self.headers, body)
                content = b"" if told is None else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.authority = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def take(self, method, target, headers, body):
        self.seen.append({"method": method, "target": target, "body": body.decode(),
                          "headers": [[name.lower(), value] for name, value in headers.items()]})
        if headers.get_all("x-api-key") != [KEY] or headers.get("Authorization"):
            return 401, {"message": "Unauthorized", "error": "Unauthorized"}
        orgs = headers.get_all("x-org-id") or []
        if len(orgs) != 1 or orgs[0] not in self.users:
            return 400, {"message": "Bad Request: x-org-id is required for multi-tenant administrators"}
        return self.users_of(self.users[orgs[0]], method, target, body)

    def users_of(self, users, method, target, body):
        url = urlsplit(target)
        name, query = unquote(url.path.removeprefix("/api/systemusers").strip("/")), parse_qs(url.query)
        if not url.path.startswith("/api/systemusers") or (name and method != "POST" and name not in users):
            return 404, {"message": "Not Found"}
        if method == "GET" and not name:
            skip, limit = int(query.get("skip", ["0"])[0]), int(query.get("limit", ["10"])[0])
            return 200, {"totalCount": len(users), "results": list(users.values())[skip:skip + limit]}
        if method == "POST" and not name:
            user = json.loads(body)
            users[user["email"]] = user
            return 200, user
        if method == "DELETE" and name:
            return 200, users.pop(name)
        return (200, users[name]) if method == "GET" and name else (405, {"message": "Method Not Allowed"})


class Client:
    """What `jcapiv1.ApiClient` does with `configuration.host` and `configuration.api_key["x-api-key"]`."""

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
