"""The generated JumpCloud client, pointed at the gateway with a claviger token in place of its key."""
import pytest

from jumpcloud import FOREIGN_ORG, KEY, ORG, OTHER_ORG, Client, Upstream
from world import TOKENS, Gateway

CONFIG = """
[upstreams.jumpcloud]
profile = "jumpcloud"
endpoint = "http://{authority}"
credential = "jumpcloud"
scheme.header = {{ name = "x-api-key" }}
[credentials.jumpcloud]
value = {{ file = "jumpcloud.secret" }}
[[routes]]
prefix = "/"
upstream = "jumpcloud"
[[grants]]
consumer = "onboarding"
upstream = "jumpcloud"
roles = ["jumpcloud:users-admin"]
orgs = ["{ORG}", "{OTHER_ORG}"]
[[grants]]
consumer = "reader"
upstream = "jumpcloud"
roles = ["jumpcloud:read-only"]
orgs = ["{ORG}"]
"""
USER = {"email": "o'brien+a@b.example", "username": "obrien"}


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def gateway(tmp_path, upstream):
    gateway = Gateway(tmp_path)
    gateway.write("jumpcloud.secret", KEY + "\n")
    gateway.configure(CONFIG.format(authority=upstream.authority, **globals()))
    yield gateway.start()
    assert gateway.stop() == 0


@pytest.fixture
def client(gateway):
    return Client(gateway.url + "/api", TOKENS["onboarding"])


def test_the_client_works_unmodified(client, upstream, gateway):
    made = client.call("POST", "/systemusers", body=USER)
    assert (made.status, made.json()) == (200, USER), made.data
    found = client.call("GET", "/systemusers/{id}", params={"id": USER["email"]})
    assert (found.status, found.json()) == (200, USER), found.data
    listed = client.call("GET", "/systemusers", query=[("limit", 1), ("skip", 0), ("filter", "email:$eq:a@b.io")])
    assert listed.json() == {"totalCount": 1, "results": [USER]}, listed.data
    gone = client.call("DELETE", "/systemusers/{id}", params={"id": USER["email"]})
    assert gone.status == 200 and upstream.users[ORG] == {}
    for seen in upstream.seen:
        assert (seen.all("x-api-key"), seen.all("x-org-id"), seen.all("authorization")) == ([KEY], [ORG], [])
        assert seen.all("accept") == ["application/json"] and seen.all("host") == [upstream.authority]
        assert TOKENS["onboarding"] not in str(seen)
    assert upstream.seen[1].target == "/api/systemusers/o'brien+a@b.example", "the one canonical form"
    trail = "".join(str(event) for event in gateway.trail.events())
    assert KEY not in trail and TOKENS["onboarding"] not in trail


def test_the_organisation_is_the_grants(client, upstream):
    assert client.call("POST", "/systemusers", body=USER, x_org_id=OTHER_ORG).status == 200
    assert list(upstream.users[OTHER_ORG]) == [USER["email"]] and upstream.users[ORG] == {}
    before = len(upstream.seen)
    for foreign in (FOREIGN_ORG, f"{ORG},{OTHER_ORG}", ORG.upper()):
        refused = client.call("GET", "/systemusers", x_org_id=foreign)
        assert (refused.status, refused.headers["Claviger-Error"]) == (403, "org_override"), refused.data
    assert len(upstream.seen) == before


@pytest.mark.parametrize(("method", "path", "code"), [
    ("DELETE", "/systemusers", "denied"),
    ("PUT", "/users/{id}", "denied_by_rule"),
    ("GET", "/users/reactivate/{id}", "denied_by_rule"),
    ("POST", "/systemusers/{id}/sshkeys", "denied_by_rule"),
    ("POST", "/systemusers/{id}/resetmfa", "denied_by_rule"),
    ("POST", "/commands", "denied_by_rule"),
])
def test_the_role_lets_no_more_through(client, upstream, method, path, code):
    refused = client.call(method, path, params={"id": "5e9f%2Fa"}, body={})
    assert (refused.status, refused.headers["Claviger-Error"], upstream.seen) == (403, code, []), refused.data


def test_a_reader_only_reads(gateway, upstream):
    reader = Client(gateway.url + "/api", TOKENS["reader"])
    assert reader.call("GET", "/systemusers").json() == {"totalCount": 0, "results": []}
    assert reader.call("POST", "/systemusers", body=USER).status == 403
    assert reader.call("GET", "/systemusers", x_org_id=OTHER_ORG).status == 403
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("key", ["", KEY, "clv_nobody"])
def test_a_key_that_is_no_token_of_ours_is_401(gateway, upstream, key):
    """The gateway does not accept the upstream's own key."""
    refused = Client(gateway.url + "/api", key).call("GET", "/systemusers")
    assert (refused.status, refused.headers["Claviger-Error"], upstream.seen) == (401, "unauthenticated", []), refused.data
