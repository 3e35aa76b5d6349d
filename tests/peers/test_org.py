"""The organisation comes from the grant, whatever the consumer sends: a wrong one silently selects another tenant upstream."""
import pytest

import wire
from world import BRANCH, DEFAULT, TOKENS, VAULT, explain, session_for

CURRENT = "/api/v1/orgs/orgs/current/"
BEARER = f"Authorization: Bearer {TOKENS['onboarding']}".encode()


def org_lines(seen):
    return [(name, value) for name, value in seen["headers"] if name.replace("_", "-") == "x-jms-org"]


def assert_pinned(upstream, org):
    seen = upstream.only()
    assert (org_lines(seen), seen["org"], seen["verified"]) == ([("x-jms-org", org)], org, True)


def test_the_first_granted_org_is_pinned(gateway, script, upstream):
    assert script.get(gateway.url + CURRENT).json()["id"] == DEFAULT
    assert_pinned(upstream, DEFAULT)


@pytest.mark.parametrize("org", [DEFAULT, BRANCH])
def test_another_granted_org_may_be_chosen(gateway, script, upstream, org):
    answer = script.get(gateway.url + CURRENT, headers={"X-JMS-ORG": org})
    assert (answer.status_code, answer.json().get("id")) == (200, org), explain(answer)
    assert_pinned(upstream, org)


def test_a_write_lands_in_the_chosen_org(gateway, script):
    made = script.post(gateway.url + "/api/v1/users/users/", json={"username": "x"}, headers={"X-JMS-ORG": BRANCH})
    assert (made.status_code, made.json()["org_id"]) == (201, BRANCH), explain(made)
    assert script.get(gateway.url + "/api/v1/users/users/").json() == []


def test_an_empty_org_header_counts_as_absent(gateway, script, upstream):
    assert script.get(gateway.url + CURRENT, headers={"X-JMS-ORG": ""}).status_code == 200
    assert_pinned(upstream, DEFAULT)


@pytest.mark.parametrize("org", [VAULT, "00000000-0000-0000-0000-000000000000", "root", "vault", "no such place", f"{DEFAULT},{VAULT}", f"{BRANCH} {VAULT}"])
def test_an_org_that_is_not_granted_is_403(gateway, script, upstream, org):
    answer = script.get(gateway.url + CURRENT, headers={"X-JMS-ORG": org})
    assert (answer.status_code, answer.json()["by"], upstream.seen()) == (403, "claviger", []), explain(answer)


def test_a_grant_of_another_consumer_lends_nothing(gateway, upstream):
    with session_for("reader") as reader:
        answer = reader.get(gateway.url + "/api/v1/users/users/", headers={"X-JMS-ORG": BRANCH})
    assert (answer.status_code, upstream.seen()) == (403, []), explain(answer)


@pytest.mark.parametrize(("query", "org"), [(f"oid={DEFAULT}", DEFAULT), (f"limit=1&oid={BRANCH}", BRANCH), ("oid=Default&limit=1", DEFAULT)])
def test_a_granted_org_in_the_query_chooses_and_is_taken_off(gateway, script, upstream, query, org):
    answer = script.get(f"{gateway.url}{CURRENT}?{query}")
    assert (answer.status_code, answer.json().get("id")) == (200, org), explain(answer)
    assert "oid" not in upstream.only()["target"]
    assert_pinned(upstream, org)


@pytest.mark.parametrize("word", ["default", "DEFAULT"])
def test_the_word_for_a_granted_org_counts_as_its_id(gateway, script, upstream, word):
    assert script.get(gateway.url + CURRENT, headers={"X-JMS-ORG": word}).json()["id"] == DEFAULT
    assert_pinned(upstream, DEFAULT)


@pytest.mark.parametrize("query", [f"oid={VAULT}", f"oid={DEFAULT}&oid={VAULT}", f"OID={BRANCH}", f"oid[]={BRANCH}", f"%6Fid={VAULT}", f"o%69%64={VAULT}", "oid=", "oid"])
def test_any_other_org_in_the_query_is_403(gateway, script, upstream, query):
    answer = script.get(f"{gateway.url}{CURRENT}?{query}")
    assert (answer.status_code, answer.json()["by"], upstream.seen()) == (403, "claviger", []), explain(answer)


def test_a_cookie_never_chooses_the_org(gateway, script, upstream):
    answer = script.get(gateway.url + CURRENT, headers={"Cookie": f"X-JMS-ORG={VAULT}; jms_sessionid=x"})
    assert (answer.status_code, answer.json().get("id")) == (200, DEFAULT), explain(answer)
    assert_pinned(upstream, DEFAULT)
    assert "cookie" not in dict(upstream.only()["headers"])


@pytest.mark.parametrize("name", ["X_JMS_ORG", "X-JMS_ORG", "x_jms_org"])
def test_the_underscore_twin_is_dropped(gateway, upstream, name):
    answer = wire.send(gateway.port, "GET", CURRENT.encode(), [BEARER, f"{name}: {VAULT}".encode()])
    assert (answer.status, answer.json().get("id")) == (200, DEFAULT), answer
    assert_pinned(upstream, DEFAULT)


@pytest.mark.parametrize("orgs", [(DEFAULT, VAULT), (VAULT, DEFAULT), (VAULT, VAULT)])
def test_two_org_lines_do_not_slip_one_through(gateway, upstream, orgs):
    answer = wire.send(gateway.port, "GET", CURRENT.encode(), [BEARER, *(f"X-JMS-ORG: {org}".encode() for org in orgs)])
    assert (answer.status in (400, 403), upstream.seen()) == (True, []), answer


def test_the_trail_names_the_org(gateway, script):
    answer = script.get(gateway.url + CURRENT, headers={"X-JMS-ORG": BRANCH})
    events = gateway.trail.of(answer.headers["X-Request-Id"], ["intent", "outcome"])
    assert [event["org"] for event in events] == [BRANCH, BRANCH]
