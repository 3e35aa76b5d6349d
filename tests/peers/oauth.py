"""Stand-ins for JumpCloud's service accounts: a token endpoint by RFC 6749, and an API that accepts its tokens."""
import base64
import secrets
import time
from urllib.parse import parse_qsl, unquote_plus

from jumpcloud import ORG
from standin import Standin

# With all characters that a client must encode for Basic by RFC 6749, section 2.3.1.
CLIENT_ID, CLIENT_SECRET = "client:id+1", "fake/secret%+:&=~"
TOKEN_PATH = "/oauth2/token"


class TokenEndpoint(Standin):
    """Issues tokens for `life` seconds to one client, which authenticates by `auth`: "basic" or "form".
    With `useless`, the API accepts none."""

    def __init__(self, auth="basic", life=3600):
        super().__init__()
        self.auth, self.life, self.logins, self.tokens, self.useless = auth, life, 0, {}, False

    def expire(self):
        self.tokens.clear()

    def good(self, token):
        return not self.useless and self.tokens.get(token, 0) > time.time()

    def answer(self, request):
        form = dict(parse_qsl(request.body.decode(), strict_parsing=True, keep_blank_values=True))
        told = ("Cache-Control", "no-store")
        if (request.method, request.target) != ("POST", TOKEN_PATH):
            return 404, {"error": "not_found"}
        self.logins += 1
        if request.all("Content-Type") != ["application/x-www-form-urlencoded"]:
            return 400, {"error": "invalid_request"}, told
        if self.client(request, form) != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}, told, ("WWW-Authenticate", 'Basic realm="oauth2"')
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}, told
        if form.get("scope") != "api":
            return 400, {"error": "invalid_scope"}, told
        token = secrets.token_urlsafe(48)
        self.tokens[token] = time.time() + self.life
        return 200, {"access_token": token, "token_type": "bearer", "expires_in": self.life, "scope": "api"}, told

    def client(self, request, form):
        """The id and the secret, if they arrived in the agreed way only."""
        lines, posted = request.all("Authorization"), {"client_id", "client_secret"} & set(form)
        if self.auth == "form":
            return None if lines else (form.get("client_id"), form.get("client_secret"))
        if posted or len(lines) != 1 or not lines[0].startswith("Basic "):
            return None
        name, _, password = base64.b64decode(lines[0].removeprefix("Basic ")).decode().partition(":")
        return unquote_plus(name), unquote_plus(password)


class Api(Standin):
    """Users in pages, for a caller with a token of this endpoint that names the one organisation."""

    def __init__(self, endpoint):
        super().__init__()
        self.endpoint, self.users = endpoint, [{"id": n} for n in range(25)]

    def answer(self, request):
        scheme, _, token = ", ".join(request.all("Authorization")).partition(" ")
        if scheme != "Bearer" or not self.endpoint.good(token) or request.all("x-api-key"):
            return 401, {"message": "Unauthorized"}
        if request.all("x-org-id") != [ORG]:
            return 400, {"message": "Bad Request: x-org-id"}
        if request.method == "POST":
            self.users.append(request.json())
            return 201, request.json()
        return 200, self.users[request.page("skip", "limit")]
