"""The upstreams with a login, each with its configuration, so that one test can run with all of them."""
import foresight
import ops
from foresight import Foresight
from jumpcloud import ORG
from oauth import CLIENT_ID, CLIENT_SECRET, TOKEN_PATH, Api, TokenEndpoint
from ops import Ops
from world import DEFAULT, PASSWORDS

COMMON = """
[upstreams.it]
profile = "{profile}"
endpoint = "http://{authority}"
credential = "it"
{more}
[[routes]]
prefix = "/"
upstream = "it"
[roles.everything]
allow = [{{ paths = ["/**"] }}]
[[grants]]
consumer = "onboarding"
upstream = "it"
roles = ["everything"]
"""
CREDENTIAL = """
[credentials.it]
{kind} = {{ {name} = "{account}", {secret} = {{ file = "it.secret" }} }}
"""


class Login:
    """An upstream with a name and a password, and the operations that a test needs; the same for all."""
    write = {"id": "new"}

    def __init__(self, upstream, profile, name, secret, read, scheme, more=""):
        self.upstream, self.secret, self.read = upstream, secret, read
        self.parts = {"profile": profile, "kind": "login", "name": "username", "account": name, "secret": "password",
                      "more": f"scheme.login = {scheme}\n{more}"}

    @property
    def logins(self):
        """The number of login attempts."""
        return self.upstream.logins

    @property
    def authority(self):
        return self.upstream.authority

    def expire(self):
        """Ends all logins so far."""
        self.upstream.expire()

    def live(self, seconds):
        """Sets the lifetime of a login."""
        self.upstream.life = seconds

    def be_useless(self):
        """Makes logins succeed with tokens that are not valid."""
        self.upstream.useless = True

    def slow(self, seconds):
        """Sets the duration of a login, so that other calls arrive meanwhile."""
        self.upstream.pause = seconds

    def refused(self):
        """The number of calls that were refused because of their token."""
        return len(self.upstream.answered(401))

    def written(self):
        """The number of times that `write` was carried out."""
        return len(self.upstream.answered(201))

    def received(self):
        """All received requests in one text."""
        return str(self.upstream.seen)

    def good(self, answer):
        return answer.status_code == 200

    def told(self, answer):
        """Whether the answer says that the consumer is not at fault."""
        return (answer.status_code, answer.headers.get("Claviger-Error")) == (502, "upstream_auth") and "WWW-Authenticate" not in answer.headers

    def config(self):
        return COMMON.format(authority=self.authority, **self.parts)

    def credential(self):
        """The configuration lines with the secret in a file."""
        return CREDENTIAL.format(**self.parts)

    def words(self):
        """The arguments that add the credential on the command line, without the secret."""
        return ["--kind", self.parts["kind"], "--" + self.parts["name"], self.parts["account"]]

    def stop(self):
        self.upstream.stop()


class OfJumpServer(Login):
    """The big stand-in; the test empties it, and it keeps running."""
    write = {"username": "new"}

    def __init__(self, upstream, name="robot"):
        super().__init__(upstream, "jumpserver", name, PASSWORDS[name], "/api/v1/users/users/", "{}", f'org = "{DEFAULT}"')

    def live(self, seconds):
        self.upstream.reset(life=seconds)

    def be_useless(self):
        self.upstream.reset(useless=1)

    def slow(self, seconds):
        pass  # It is slow enough already.

    def refused(self):
        return len([seen for seen in self.upstream.seen() if seen["status"] == 401])

    def written(self):
        return len([seen for seen in self.upstream.seen() if (seen["status"], seen["target"]) == (201, self.read)])

    def received(self):
        return str(self.upstream.seen())

    def stop(self):
        pass


class OfOps(Login):
    write = {"action": "add", "data": {"id": "new"}}

    def __init__(self, shape, ended, scheme):
        super().__init__(Ops(shape, ended), "plain", ops.NAME, ops.PASSWORD, ops.USERS, scheme)

    def refused(self):
        return len([request for request in self.upstream.seen if request.told == ops.LOGIN_REQUIRED])

    def written(self):
        return self.upstream.users.count({"id": "new"})

    def good(self, answer):
        return answer.status_code == 200 and answer.json()["ok"]

    def told(self, answer):
        """An error in a body, or a 403, may have other reasons, so the gateway may pass it on."""
        return super().told(answer) or (answer.status_code in (200, 403) and answer.json() == ops.LOGIN_REQUIRED)


class OfOAuth(Login):
    """A token endpoint on another origin than the API."""

    def __init__(self, auth):
        endpoint = TokenEndpoint(auth)
        super().__init__(endpoint, "jumpcloud", CLIENT_ID, CLIENT_SECRET, "/api/v2/users", None)
        self.api = Api(endpoint)
        scheme = f'scheme.client-credentials = {{ token_url = "{endpoint.url}{TOKEN_PATH}", auth = "{auth}" }}\norg = "{ORG}"'
        self.parts.update(kind="client", name="id", secret="secret", more=scheme)

    @property
    def authority(self):
        return self.api.authority

    def refused(self):
        return len(self.api.answered(401))

    def written(self):
        return len(self.api.answered(201))

    def received(self):
        return str(self.upstream.seen + self.api.seen)

    def stop(self):
        self.upstream.stop()
        self.api.stop()


def of_foresight(scheme="{}"):
    return Login(Foresight(), "foresight", foresight.NAME, foresight.PASSWORD, foresight.ACCOUNTS, scheme)


BY_PASSWORD = {
    "jumpserver": OfJumpServer,
    "foresight": lambda _: of_foresight(),
    "ops token as a cookie": lambda _: OfOps("token", 200, '{ preset = "ops-token" }'),
    "ops token in a header": lambda _: OfOps("token", 403, '{ preset = "ops-token", send = { header = "x-auth-token" } }'),
    "ops cookie": lambda _: OfOps("cookie", 200, '{ preset = "ops-cookie" }'),
    "ops cookie, ended by 403": lambda _: OfOps("cookie", 403, '{ preset = "ops-cookie" }'),
}
BY_CLIENT = {"oauth, Basic": lambda _: OfOAuth("basic"), "oauth, form": lambda _: OfOAuth("form")}
EVERY = {**BY_PASSWORD, **BY_CLIENT}
ODD = {
    "jumpserver, second factor": lambda upstream: OfJumpServer(upstream, "careful"),
    "foresight, refreshed": lambda _: of_foresight(f'{{ refresh = {{ path = "{foresight.REFRESH}", token = "/refresh_token", member = "refresh_token" }} }}'),
}
TELL_THEIR_END = ["jumpserver", "foresight", "oauth, Basic"]
