"""A stand-in for the Foresight Mobile Platform: a login that issues two JWTs, and pages of accounts."""
import base64
import hashlib
import hmac
import json
import time

from standin import Standin

NAME, PASSWORD = "admin@fmp.example", "fake foresight password"
AUTH, REFRESH, ACCOUNTS = "/api/v1/admin/auth/", "/api/v1/admin/refresh/", "/api/v2/accounts/"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Foresight(Standin):
    """`life` and `refresh_life` are the lifetimes of tokens, in seconds; `expire` ends all tokens so far.
    With `useless`, logins succeed, and no token is valid."""

    def __init__(self, life=14 * 86400, refresh_life=45 * 86400):
        super().__init__()
        self.life, self.refresh_life, self.logins, self.refreshes = life, refresh_life, 0, 0
        self.generation, self.key, self.accounts, self.useless = 0, b"nobody else's", {}, False

    def expire(self):
        self.generation += 1

    def jwt(self, use, life):
        claims = {"use": use, "generation": self.generation, "iat": int(time.time()), "exp": time.time() + life, "n": len(self.seen)}
        signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "HS256"}, claims))
        return signed + "." + encoded(hmac.digest(self.key, signed.encode(), "sha256"))

    def good(self, token, use):
        signed, _, mac = token.rpartition(".")
        try:
            if not hmac.compare_digest(decoded(mac), hmac.digest(self.key, signed.encode(), hashlib.sha256)):
                return False
        except ValueError:
            return False
        claims = json.loads(decoded(signed.partition(".")[2]))
        return claims["use"] == use and claims["exp"] > time.time() and claims["generation"] >= self.generation

    def tokens(self):
        return 200, {"token": self.jwt("access", self.life), "refresh_token": self.jwt("refresh", self.refresh_life)}

    def answer(self, request):
        asked = request.json()
        if (request.method, request.path) == ("POST", AUTH):
            self.logins += 1
            if (asked.get("username"), asked.get("password")) != (NAME, PASSWORD):
                return 401, {"detail": "No active account found with the given credentials"}
            return self.tokens()
        if (request.method, request.path) == ("POST", REFRESH):
            self.refreshes += 1
            return self.tokens() if self.good(asked.get("refresh_token", ""), "refresh") else (401, {"detail": "Token is invalid or expired"})
        scheme, _, token = ", ".join(request.all("Authorization")).partition(" ")
        if self.useless or scheme != "Bearer" or not self.good(token, "access"):
            return 401, {"detail": "Signature has expired."}, ("WWW-Authenticate", 'Bearer realm="api"')
        return self.accounts_of(request, asked)

    def accounts_of(self, request, asked):
        if not request.path.endswith("/"):
            return 301, None, ("Location", request.path + "/")
        if not request.path.startswith(ACCOUNTS):
            return 404, {"detail": "Not found."}
        name = request.path.removeprefix(ACCOUNTS).rstrip("/")
        if not name and request.method == "POST":
            self.accounts[asked["id"]] = asked
            return 201, asked
        if not name:
            return 200, self.page(request)
        if name not in self.accounts:
            return 404, {"detail": "Not found."}
        if request.method == "DELETE":
            del self.accounts[name]
            return 204, None
        return 200, self.accounts[name]

    def page(self, request):
        part = request.page("offset", "limit", 2)

        def link(start):
            where = f"http://{request.all('Host')[0]}{ACCOUNTS}?limit={part.stop - part.start}&offset={start}"
            return where if 0 <= start < len(self.accounts) else None

        return {"count": len(self.accounts), "next": link(part.stop), "previous": link(part.start - (part.stop - part.start)),
                "results": list(self.accounts.values())[part]}
