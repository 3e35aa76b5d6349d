"""RSA signatures: openssl verifies those for System Context, pyhttpsig those of draft-cavage."""
import pytest
from httpsig.verify import HeaderVerifier

from systems import SYSTEM, Systems, make_keys
from world import TOKENS, Gateway, direct, explain, session_for


CONFIG = """
[upstreams.systems]
profile = "jumpcloud"
endpoint = "http://{authority}"
credential = "system"
org = "5e9f0000000000000000000a"
scheme.rsa = {scheme}
{credential}
[[routes]]
prefix = "/"
upstream = "systems"
[roles.everything]
allow = [{{ paths = ["/**"] }}]
[[grants]]
consumer = "onboarding"
upstream = "systems"
roles = ["everything"]
"""
IN_FILE = '[credentials.system]\nrsa = {{ id = "system/{system}", key = {{ file = "{key}" }} }}'
PATH = f"/api/systems/{SYSTEM}"


class Cavage(Systems):
    """Verifies with the library that JumpServer also uses."""

    def verified(self, request):
        headers = {name.lower(): value for name, value in request.headers.items()}
        return HeaderVerifier(headers, self.public.read_text(), required_headers=["(request-target)", "date"],
                              method=request.method, path=request.target).verify()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(params=["system-context", "cavage"])
def upstream(request, keys):
    with (Systems if request.param == "system-context" else Cavage)(keys["public"]) as upstream:
        upstream.scheme = "{}" if request.param == "system-context" else '{ form = "cavage", headers = ["(request-target)", "date"] }'
        yield upstream


@pytest.fixture
def start(tmp_path, upstream):
    gateway = Gateway(tmp_path)

    def started(key, stored=False):
        gateway.write("system.pem", key.read_text())
        credential = "" if stored else IN_FILE.format(system=SYSTEM, key="system.pem")
        gateway.configure(CONFIG.format(authority=upstream.authority, scheme=upstream.scheme, credential=credential))
        if stored:
            gateway.told("credential", "add", "system", "--upstream", "systems", "--kind", "rsa", "--id", f"system/{SYSTEM}",
                         "--secret-file", str(gateway.folder / "system.pem"), "--yes")
            (gateway.folder / "system.pem").unlink()
        return gateway.start()
    yield started
    assert gateway.stop() == 0


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("form", ["pkcs8", "pkcs1"])
def test_a_system_reads_and_changes_itself(start, keys, upstream, form, stored):
    gateway = start(keys[form], stored)
    with session_for("onboarding") as script:
        for method, target, body in [
            ("GET", PATH, None), ("GET", PATH + "?fields=displayName%20id&x=a|b", None), ("PUT", PATH, {"displayName": "after"}), ("GET", PATH, None),
        ]:
            answer = script.request(method, gateway.url + target, json=body, headers={"Accept": "application/json"})
            assert answer.status_code == 200, explain(answer)
    assert answer.json()["displayName"] == "after"
    assert [seen.version for seen in upstream.seen] == ["HTTP/1.1"] * 4
    assert TOKENS["onboarding"] not in str(upstream.seen)
    left = gateway.log.read_text() + str(gateway.trail.events())
    assert keys[form].read_text().splitlines()[1] not in left


def test_another_key_is_not_the_callers_fault(start, upstream, tmp_path_factory):
    gateway = start(make_keys(tmp_path_factory.mktemp("others"))["pkcs8"])
    with session_for("onboarding") as script:
        answer = script.get(gateway.url + PATH)
    assert (answer.status_code, answer.headers.get("Claviger-Error")) == (502, "upstream_auth"), explain(answer)


def test_the_callers_own_date_and_signature_stay_here(start, keys, upstream):
    gateway = start(keys["pkcs8"])
    answer = direct("GET", gateway.url + PATH, headers={"x-api-key": TOKENS["onboarding"], "Date": "Mon, 17 Feb 2014 06:11:05 GMT"})
    assert answer.status_code == 200, explain(answer)
    seen, = upstream.seen
    assert len(seen.all("Date")) == len(seen.all("Authorization")) == 1 and "2014" not in str(seen) and seen.all("x-api-key") == []
