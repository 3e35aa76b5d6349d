"""A stand-in for an in-house ops backend in Tornado's manner: the status is always 200, and the body says whether it worked."""
import base64
import secrets
from http.cookies import SimpleCookie

from standin import Standin

NAME, PASSWORD = "ops-robot", "fake ops password"
USERS = "/api/user"
LOGIN_REQUIRED = {"ok": False, "info": "login required"}


class Ops(Standin):
    """`shape` is the form of a login's answer: a `token` in the body, or a `cookie` as Tornado's `set_secure_cookie` writes it.
    `ended` is the answer after a login expired: 200 with `{"ok": false}`, or 403. With `useless`, every call gets this answer."""

    def __init__(self, shape="token", ended=200):
        super().__init__()
        self.shape, self.ended = shape, ended
        self.reset()

    def reset(self, *tokens):
        """Resets the stand-in, with these tokens as the valid ones."""
        self.seen.clear()
        self.logins, self.tokens, self.useless = 0, set(tokens), False
        self.users = [{"id": n, "name": f"user{n}"} for n in range(25)]

    def expire(self):
        self.tokens.clear()

    def answer(self, request):
        if (request.method, request.path) == ("POST", "/api/login"):
            return self.log_in(request.json())
        if self.useless or not self.tokens.intersection([*request.all("X-Auth-Token"), self.cookie(request)]):
            return self.ended, LOGIN_REQUIRED
        if request.path != USERS:
            return 200, {"ok": False, "info": "no such thing"}
        if request.method == "GET":
            return 200, {"ok": True, "info": {"total": len(self.users), "items": self.users[request.page("start", "count")]}}
        return self.change(request.json())

    def log_in(self, asked):
        self.logins += 1
        if (asked.get("username"), asked.get("password")) != (NAME, PASSWORD):
            return 200, {"ok": False, "info": "wrong name or password"}
        value = base64.b64encode(secrets.token_bytes(16)).decode()  # ends in ==, so Tornado quotes the cookie
        token = f"2|1:0|10:1700000000|12:access_token|{len(value)}:{value}|{secrets.token_hex(32)}"
        self.tokens.add(token)
        if self.shape == "token":
            return 200, {"ok": True, "info": {"access_token": token}}
        return 200, {"ok": True, "info": "welcome"}, ("Set-Cookie", f'access_token="{token}"; HttpOnly; Path=/')

    @staticmethod
    def cookie(request):
        found = SimpleCookie("; ".join(request.all("Cookie"))).get("access_token")
        return found and found.value

    def change(self, asked):
        action, data = asked.get("action"), asked.get("data", {})
        if action == "list":
            return 200, {"ok": True, "info": {"total": len(self.users)}}
        if action == "add":
            self.users.append(data)
        elif action == "delete":
            self.users[:] = [user for user in self.users if user["id"] != data["id"]]
        elif action == "update":
            self.users[:] = [{**user, **data} if user["id"] == data["id"] else user for user in self.users]
        else:
            return 200, {"ok": False, "info": "no such action"}
        return 200, {"ok": True, "info": data}
