"""Clients that sign, unmodified except for their URL and key: the gateway serves them as the bastion does."""
import email.utils
from urllib.parse import quote, urlencode

import pytest

from clients import SIGNERS, THREE, TWO, Curl, Httpsig, Node
from world import DEFAULT, KEY_ID, SECRET, direct, until

USERS = "/api/v1/users/users/"
OLD = "Mon, 17 Feb 2014 06:11:05 GMT"
NAMES = ["张三", "a+b c", "a&b=c@d.com", "o'brien; [x] {1}|~*", "100%/é"]


@pytest.fixture
def key(gateway, issued_key, upstream):
    upstream.reset()
    return issued_key


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_signed_client_makes_finds_and_deletes_a_user(place, upstream, signer):
    signer, name = SIGNERS[signer], "张三 a+b"
    for other in ("someone", name):
        made = signer.call(place.key, "POST", place.url + USERS, {"username": other})
        assert (made.status, made.json()["username"]) == (201, other), made
    by_name = f"{place.url}{USERS}?{urlencode({'username': name})}"
    found = signer.call(place.key, "GET", f"{by_name}&limit=10&offset=0")
    assert (found.status, [user["username"] for user in found.json()["results"]]) == (200, [name]), found
    assert signer.call(place.key, "DELETE", by_name).status == 204
    assert [user["username"] for user in signer.call(place.key, "GET", place.url + USERS).json()] == ["someone"]
    assert {(seen["verified"], seen["org"]) for seen in upstream.seen()} == {(True, DEFAULT)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("signer", ["requests with httpsig, three headers", "node http-signature, two headers"])
def test_any_name_is_found_by_a_signed_query(place, signer, name):
    signer = SIGNERS[signer]
    assert signer.call(place.key, "POST", place.url + USERS, {"username": name}).status == 201
    for query in (urlencode({"username": name}), "username=" + quote(name, safe="")):
        found = signer.call(place.key, "GET", f"{place.url}{USERS}?{query}")
        assert (found.status, [user["username"] for user in found.json()]) == (200, [name]), found


@pytest.mark.parametrize("target", ["/u/a%2Bb/", "/u/%e4%b8%ad/", "/u/;v=1/", "/u/?search=a|b", "/u/?", "/u/x", "/u/?a=%41"])
@pytest.mark.parametrize("signer", [Node(TWO), Curl(THREE)], ids=["node", "curl"])
@pytest.mark.parametrize("prefix", ["", "/jumpserver"])
def test_what_was_signed_is_the_target_as_it_was_sent(gateway, key, upstream, signer, target, prefix):
    """The upstream itself would refuse several of these, since it verifies another spelling."""
    answer = signer.call(key, "GET", gateway.url + prefix + target)
    assert (answer.status, upstream.only()["verified"]) == (200, True), answer


@pytest.mark.parametrize("signer", [Httpsig(THREE), Node(THREE), Curl(TWO)], ids=["httpsig", "node", "curl"])
def test_a_missing_slash_costs_a_signed_post_nothing(gateway, key, upstream, signer):
    made = signer.call(key, "POST", f"{gateway.url}/jumpserver{USERS.rstrip('/')}", {"username": "slash"})
    assert (made.status, upstream.only()["target"]) == (201, USERS), made


def test_next_is_followed_by_a_client_that_signs(gateway, key, upstream):
    upstream.reset(users=7)
    url, names = f"{gateway.url}/jumpserver{USERS}?limit=3", []
    while url:
        page = Httpsig(THREE).call(key, "GET", url).json()
        names += [user["username"] for user in page["results"]]
        url = page["next"]
    assert names == [f"user{n:03}" for n in range(7)]


def test_nothing_of_the_clients_signature_goes_on(gateway, key, upstream):
    assert Httpsig(THREE).call(key, "GET", gateway.url + USERS, date=OLD).status == 200
    seen = upstream.only()
    lines = [value for name, value in seen["headers"] if name in ("authorization", "date")]
    assert len(lines) == 2 and KEY_ID in str(lines) and OLD not in str(lines)
    assert not [part for part in key if part in str(seen)]
    written = gateway.log.read_text() + "".join(map(str, gateway.trail.events()))
    assert key[1] not in written and "signature=" not in written


def test_the_trail_names_who_signed(gateway, key, upstream):
    answer = Httpsig(THREE).call(key, "GET", f"{gateway.url}{USERS}?limit=77")
    assert answer.status == 200, answer
    until(lambda: [event for event in gateway.trail.events() if "limit=77" in event.get("target", "") and event["event"] == "outcome"])
    events = [event for event in gateway.trail.events() if "limit=77" in event.get("target", "")]
    assert {(event["consumer"], event["decision"]) for event in events} == {("onboarding", "allowed")}
    assert all("Signature" in event["via"] or "access-key" in event["via"] for event in events), events


REFUSED = {
    "the upstream's own key": lambda key, url: Httpsig(THREE).call((KEY_ID, SECRET), "GET", url),
    "another secret": lambda key, url: Httpsig(THREE).call((key[0], SECRET), "GET", url),
    "another id": lambda key, url: Node(TWO).call((KEY_ID, key[1]), "GET", url),
    "an id that is no UUID": lambda key, url: Curl(TWO).call(("nobody", key[1]), "GET", url),
    "only the date signed": lambda key, url: Httpsig(["date"]).call(key, "GET", url),
    "no date signed": lambda key, url: Node(["(request-target)", "accept"]).call(key, "GET", url),
    "an algorithm that the key does not allow": lambda key, url: Httpsig(THREE, "hmac-sha512").call(key, "GET", url),
    "hmac-sha1": lambda key, url: Node(THREE, "hmac-sha1").call(key, "GET", url),
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_signature_that_proves_nobody_is_401(gateway, key, upstream, how):
    refused = REFUSED[how](key, gateway.url + USERS)
    assert (refused.status, refused.json()["code"], upstream.seen()) == (401, "unauthenticated", []), refused


def test_the_secret_is_no_token(gateway, key, upstream):
    for headers in ({"Authorization": f"Bearer {key[1]}"}, {"Authorization": f"Token {key[1]}"}, {"x-api-key": key[1]}):
        assert direct("GET", gateway.url + USERS, headers=headers).status_code == 401
    assert direct("GET", gateway.url + USERS, auth=key).status_code == 401
    assert upstream.seen() == []


@pytest.mark.parametrize("client", [Httpsig, Node])
@pytest.mark.parametrize("algorithm", ["hmac-sha512", "hmac-sha1"])
def test_an_algorithm_that_was_allowed_is_taken(gateway, upstream, client, algorithm):
    key = gateway.access_key("onboarding", "--allow", algorithm)
    until(lambda: client(THREE, algorithm).call(key, "GET", gateway.url + USERS).status == 200)
    assert client(THREE).call(key, "GET", gateway.url + USERS).status == 200, "hmac-sha256 still is"


def test_a_date_of_years_ago_is_taken_again_and_again_but_not_of_a_strict_key(gateway, key, upstream):
    script, url = Httpsig(THREE), gateway.url + USERS
    assert [script.call(key, "GET", url, date=OLD).status for _ in range(2)] == [200, 200]
    strict = gateway.access_key("onboarding", "--strict", "--window", "5m")
    until(lambda: script.call(strict, "GET", f"{url}?limit=1").status == 200)
    upstream.reset()
    old = script.call(strict, "GET", url, date=OLD)
    assert (old.status, old.json()["code"]) == (401, "replayed"), old
    now = email.utils.formatdate(usegmt=True)
    first, second = (script.call(strict, "GET", f"{url}?limit=2", date=now) for _ in range(2))
    assert (first.status, second.status, second.json()["code"], len(upstream.seen())) == (200, 401, "replayed", 1)


def test_a_key_that_was_revoked_or_has_ended_is_refused(gateway, key, upstream):
    for options, end in [([], lambda key: gateway.told("access-key", "revoke", key[0], "--yes")), (["--expires", "2s"], lambda key: None)]:
        key = gateway.access_key("onboarding", *options)
        until(lambda: Node(TWO).call(key, "GET", gateway.url + USERS).status == 200)
        end(key)
        until(lambda: Node(TWO).call(key, "GET", gateway.url + USERS).status == 401)
