"""How a script sends its token, in every spelling of scripts and SDKs, and the answer if the token is wrong."""
import base64

import pytest
from httpsig.requests_auth import HTTPSignatureAuth

import wire
from world import KEY_ID, SECRET, TOKENS, direct, explain

GOOD, OTHER = TOKENS["onboarding"], TOKENS["reader"]
USERS = "/api/v1/users/users/"


def basic(token, name="anyone"):
    return "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()


SPELLINGS = {
    "Bearer": {"Authorization": f"Bearer {GOOD}"},
    "bearer": {"Authorization": f"bearer {GOOD}"},
    "BEARER": {"Authorization": f"BEARER {GOOD}"},
    "Token": {"Authorization": f"Token {GOOD}"},
    "token": {"Authorization": f"token {GOOD}"},
    "TOKEN": {"Authorization": f"TOKEN {GOOD}"},
    "x-api-key": {"x-api-key": GOOD},
    "X-API-KEY": {"X-API-KEY": GOOD},
    "Basic": {"Authorization": basic(GOOD)},
    "basic without a name": {"Authorization": basic(GOOD, "").replace("Basic", "basic")},
}
WRONG = {
    "none": {},
    "unknown": {"Authorization": "Bearer nobody-has-this-token"},
    "one character off": {"Authorization": f"Bearer {GOOD[:-1]}~"},
    "one character short": {"Authorization": f"Bearer {GOOD[:-1]}"},
    "upper case": {"Authorization": f"Bearer {GOOD.upper()}"},
    "empty": {"Authorization": "Bearer "},
    "empty x-api-key": {"x-api-key": ""},
    "unknown x-api-key": {"x-api-key": "nobody-has-this-token"},
    "unknown in Basic": {"Authorization": basic("nobody-has-this-token")},
    "Basic that is no base64": {"Authorization": "Basic ~~~"},
    "the token as Basic's name": {"Authorization": basic("", GOOD)},
    "another scheme": {"Authorization": f"Digest {GOOD}"},
    "no scheme": {"Authorization": GOOD},
    "a list": {"Authorization": f"Bearer {GOOD}, Bearer {GOOD}"},
    "a cookie": {"Cookie": f"token={GOOD}; access_token={GOOD}"},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_token_is_taken(gateway, upstream, spelling):
    answer = direct("GET", gateway.url + USERS, headers=SPELLINGS[spelling])
    assert (answer.status_code, answer.json()) == (200, []), explain(answer)
    assert upstream.only()["verified"] is True
    assert GOOD not in str(upstream.only()) and "basic" not in str(upstream.only()).lower()


def test_a_token_as_the_password_of_requests_is_taken(gateway):
    assert direct("GET", gateway.url + USERS, auth=("some-name", GOOD)).status_code == 200


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_token_is_401_in_json_that_says_who_refused(gateway, upstream, how):
    answer = direct("GET", gateway.url + USERS, headers=WRONG[how])
    assert answer.status_code == 401, explain(answer)
    told = answer.json()
    assert set(told) == {"detail", "code", "request_id", "by"} and told["by"] == "claviger", explain(answer)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Claviger-Error"] == told["code"] != ""
    assert answer.headers["X-Request-Id"] == told["request_id"] != ""
    assert answer.headers["WWW-Authenticate"]
    assert GOOD[:-1] not in answer.text
    assert upstream.seen() == []


def test_wrong_tokens_are_all_told_the_same(gateway):
    told = []
    for how, headers in WRONG.items():
        body = direct("GET", gateway.url + USERS, headers=headers).json()
        del body["request_id"]
        told.append((body, how))
    assert all(body == told[0][0] for body, _ in told), told


def test_a_token_in_the_query_is_401_and_masked_on_the_trail(gateway, upstream):
    answer = direct("GET", gateway.url + USERS, params={"token": GOOD, "access_token": GOOD})
    assert (answer.status_code, upstream.seen()) == (401, []), explain(answer)
    events = gateway.trail.of(answer.headers["X-Request-Id"], ["outcome"])
    assert [event["decision"] for event in events] == ["denied"]
    assert GOOD not in str(events)


@pytest.mark.parametrize("second", [{"x-api-key": OTHER}, {"x-api-key": "nobody-has-this-token"}])
def test_two_different_tokens_at_once_are_400(gateway, upstream, second):
    answer = direct("GET", gateway.url + USERS, headers={"Authorization": f"Bearer {GOOD}", **second})
    assert (answer.status_code, upstream.seen()) == (400, []), explain(answer)


def test_an_empty_x_api_key_counts_as_absent(gateway):
    answer = direct("GET", gateway.url + USERS, headers={"Authorization": f"Bearer {GOOD}", "x-api-key": ""})
    assert answer.status_code == 200, explain(answer)


@pytest.mark.parametrize("second", [GOOD, OTHER, "nobody-has-this-token"])
def test_two_authorization_lines_are_400(gateway, upstream, second):
    answer = wire.send(gateway.port, "GET", USERS.encode(), [f"Authorization: Bearer {token}".encode() for token in (GOOD, second)])
    assert (answer.status, upstream.seen()) == (400, []), answer
    assert answer.json()["by"] == "claviger"


def test_a_netrc_or_proxy_password_is_not_a_token(gateway, upstream):
    answer = direct("GET", gateway.url + USERS, headers={"Proxy-Authorization": basic(GOOD)})
    assert (answer.status_code, upstream.seen()) == (401, []), explain(answer)


def test_an_upstreams_own_signature_is_not_a_token(gateway, upstream):
    """A caller with the bastion's key still needs a token of claviger's."""
    signed = HTTPSignatureAuth(KEY_ID, SECRET, "hmac-sha256", ["(request-target)", "date"])
    answer = direct("GET", gateway.url + USERS, auth=signed, headers={"Date": "Mon, 17 Feb 2014 06:11:05 GMT"})
    assert (answer.status_code, upstream.seen()) == (401, []), explain(answer)


def test_health_and_metrics_are_not_on_the_data_listener(gateway, upstream):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert direct("GET", gateway.url + path).status_code == 401
        assert direct("GET", f"http://127.0.0.1:{gateway.admin_port}{path}").status_code == 200
    assert upstream.seen() == []
