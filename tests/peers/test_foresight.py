"""The Foresight API behind the gateway: its pages, slashes and deletions, with a token of its administrator."""
import pytest

from foresight import ACCOUNTS, AUTH, Foresight
from world import TOKENS, Gateway, explain, session_for

CONFIG = """
[upstreams.foresight]
profile = "foresight"
endpoint = "http://{authority}"
credential = "admin"
scheme.bearer = {{}}
[credentials.admin]
value = {{ file = "admin.token" }}
[[routes]]
prefix = "/foresight"
upstream = "foresight"
[[grants]]
consumer = "onboarding"
upstream = "foresight"
roles = ["foresight:accounts-admin"]
[[grants]]
consumer = "reader"
upstream = "foresight"
roles = ["foresight:read-only"]
"""


@pytest.fixture
def upstream():
    with Foresight() as upstream:
        upstream.accounts.update({f"a{n}": {"id": f"a{n}"} for n in range(5)})
        yield upstream


@pytest.fixture
def gateway(tmp_path, upstream):
    gateway = Gateway(tmp_path)
    gateway.write("admin.token", upstream.jwt("access", 3600))
    gateway.configure(CONFIG.format(authority=upstream.authority))
    yield gateway.start()
    assert gateway.stop() == 0


def test_pages_are_followed_through_the_gateway_to_the_end(gateway, upstream):
    url, names = f"{gateway.url}/foresight{ACCOUNTS}", []
    with session_for("reader") as script:
        while url:
            answer = script.get(url)
            assert answer.status_code == 200 and upstream.authority not in answer.text, explain(answer)
            names += [account["id"] for account in answer.json()["results"]]
            url = answer.json()["next"]
            assert url is None or url.startswith(f"{gateway.url}/foresight{ACCOUNTS}?")
    assert names == list(upstream.accounts) and len(upstream.seen) == 3


def test_accounts_are_made_read_and_deleted_with_and_without_a_slash(gateway, upstream):
    here = f"{gateway.url}/foresight{ACCOUNTS}"
    with session_for("onboarding") as script:
        made = script.post(here.rstrip("/"), json={"id": "new"})
        assert (made.status_code, made.json()) == (201, {"id": "new"}), explain(made)
        assert script.get(here + "new").json() == {"id": "new"}
        gone = script.delete(here + "new")
        assert (gone.status_code, gone.content, "new" in upstream.accounts) == (204, b"", False), explain(gone)
    assert {request.path[-1] for request in upstream.seen} == {"/"}
    assert not upstream.answered(301) and TOKENS["onboarding"] not in str(upstream.seen)


def test_a_token_that_has_ended_is_not_the_callers_fault(gateway, upstream):
    upstream.expire()
    with session_for("reader") as script:
        answer = script.get(f"{gateway.url}/foresight{ACCOUNTS}")
    assert (answer.status_code, answer.headers.get("Claviger-Error")) == (502, "upstream_auth"), explain(answer)
    assert "WWW-Authenticate" not in answer.headers


def test_nobody_gets_at_the_login_and_a_reader_only_reads(gateway, upstream):
    with session_for("onboarding") as admin, session_for("reader") as reader:
        refused = [admin.post(f"{gateway.url}/foresight{AUTH}", json={}), reader.post(f"{gateway.url}/foresight{ACCOUNTS}", json={"id": "x"}),
                   reader.delete(f"{gateway.url}/foresight{ACCOUNTS}a1/")]
    assert [answer.status_code for answer in refused] == [403, 403, 403] and upstream.seen == []
