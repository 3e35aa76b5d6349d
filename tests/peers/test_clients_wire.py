"""What each client sends, without a gateway between: the tests of their calls rely on these facts."""
import pytest
import requests
from httpsig.requests_auth import HTTPSignatureAuth
from jms_client.client import get_client
from jms_client.v1.models.request.users import DeleteUserRequest, DescribeUsersRequest

from clients import SIGNERS, TWO, Httpsig
from world import BRANCH, DEFAULT, KEY_ID, PASSWORDS, PRIVATE_TOKEN, SECRET, explain

USERS = "/api/v1/users/users/"
KEY = (KEY_ID, SECRET)


def names(line):
    """The parameters of a `Signature` line in their order; exactly one space, and commas without spaces."""
    assert line.startswith("Signature ") and line.count(", ") == 0, line
    return [part.partition("=")[0] for part in line.removeprefix("Signature ").split(",")]


@pytest.mark.parametrize(("signer", "order"), [
    ("requests with httpsig, three headers", ["keyId", "algorithm", "signature", "headers"]),
    ("requests with httpsig, two headers", ["keyId", "algorithm", "signature", "headers"]),
    ("node http-signature, three headers", ["keyId", "algorithm", "headers", "signature"]),
    ("node http-signature, two headers", ["keyId", "algorithm", "headers", "signature"]),
])
def test_the_parameters_come_in_each_librarys_own_order(upstream, signer, order):
    assert SIGNERS[signer].call(KEY, "GET", upstream.url + USERS).status == 200
    assert names(dict(upstream.only()["headers"])["authorization"]) == order


@pytest.mark.parametrize("signer", SIGNERS)
def test_each_signer_is_verified_by_the_upstream(upstream, signer):
    assert SIGNERS[signer].call(KEY, "POST", upstream.url + USERS, {"username": "x"}).status == 201
    found = SIGNERS[signer].call(KEY, "GET", f"{upstream.url}{USERS}?username=x&limit=5")
    assert (found.status, found.json()["count"]) == (200, 1), found
    assert [seen["verified"] for seen in upstream.seen()] == [True, True]


def test_all_make_the_same_signature_of_the_same_request(upstream):
    """Without curl's three headers, since it sends another `Accept`."""
    date, made = "Mon, 17 Feb 2014 06:11:05 GMT", {}
    for name, signer in SIGNERS.items():
        upstream.reset()
        assert signer.call(KEY, "GET", f"{upstream.url}{USERS}?search=a%2Bb", date=date).status == 200
        line = dict(upstream.only()["headers"])["authorization"]
        made[name] = line.partition('signature="')[2].partition('"')[0]
    assert len({mac for name, mac in made.items() if "two" in name}) == 1, made
    assert len({mac for name, mac in made.items() if "three" in name and "curl" not in name}) == 1, made


def test_httpsig_signs_only_the_date_where_it_is_told_nothing_and_is_refused(upstream):
    answer = requests.get(upstream.url + USERS, auth=HTTPSignatureAuth(*KEY), headers={"Date": "x"}, timeout=30)
    assert answer.status_code == 500, "the reference crashes without headers=, " + explain(answer)
    assert names(dict(upstream.only()["headers"])["authorization"]) == ["keyId", "algorithm", "signature"]
    assert Httpsig(["date"]).call(KEY, "GET", upstream.url + USERS).status == 500, "and without (request-target) in it"


@pytest.mark.parametrize("auth", [
    {"access_key": KEY_ID, "secret_key": SECRET}, {"auth_token": f"Token {PRIVATE_TOKEN}"}, {"username": "robot", "password": PASSWORDS["robot"]},
])
def test_the_sdk_sends_an_empty_object_with_every_call_and_always_an_org(upstream, auth):
    """The SDK's reads have a body: `{}`. Its organisation is the default one until `set_org`."""
    upstream.reset(users=1)
    client = get_client(version="v3.10", web_url=upstream.url + "/", **auth)
    user = client.do(DescribeUsersRequest(username="user000"), with_model=True).get_data()[0]
    assert client.do(DeleteUserRequest(id_=user.id)).is_success()
    client.set_org(BRANCH)
    assert client.do(DescribeUsersRequest()).is_success()
    calls = [seen for seen in upstream.seen() if "authentication" not in seen["target"]]
    assert [(seen["method"], seen["org"], seen["wire_length"], seen["verified"]) for seen in calls] == [
        ("GET", DEFAULT, 2, True), ("DELETE", DEFAULT, 2, True), ("GET", BRANCH, 2, True)]
    for seen in calls:
        headers = dict(seen["headers"])
        assert (headers["content-type"], headers["content-length"], headers["accept"]) == ("application/json", "2", "application/json")
    assert calls[0]["target"] == f"{USERS}?limit=100&offset=0&username=user000"


def test_the_sdk_logs_in_at_tokens_where_it_has_a_password(upstream):
    client = get_client(version="v3.10", web_url=upstream.url, username="robot", password=PASSWORDS["robot"])
    for _ in range(2):
        assert client.do(DescribeUsersRequest()).is_success()
    assert [(seen["method"], seen["target"].partition("?")[0]) for seen in upstream.seen()] == [
        ("POST", "/api/v1/authentication/tokens/"), ("GET", USERS), ("GET", USERS)]


def test_a_date_that_was_set_once_is_signed_for_hours(upstream):
    """Many scripts set `session.headers["Date"]` once at start; a repeated call then repeats its signature too."""
    lines = []
    for _ in range(2):
        upstream.reset()
        assert Httpsig(TWO).call(KEY, "GET", upstream.url + USERS, date="Mon, 17 Feb 2014 06:11:05 GMT").status == 200
        lines.append(dict(upstream.only()["headers"])["authorization"])
    assert lines[0] == lines[1]
