"""What the upstream sees of a consumer, and the consumer of the upstream: only what is meant for it."""
import base64
import email.utils
import re
import time

import pytest

import wire
from world import KEY_ID, SECRET, TOKENS, explain

ECHO = "/api/v1/echo/x/"
TOKEN = TOKENS["onboarding"]
BEARER = f"Authorization: Bearer {TOKEN}".encode()
NEVER_FORWARDED = {
    "Cookie": "jms_sessionid=stolen; csrftoken=x",
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "666",
    "Forwarded": "for=6.6.6.6;host=evil.example",
    "X-Real-IP": "6.6.6.6",
    "True-Client-IP": "6.6.6.6",
    "X-Source": "jms-pam",
    "X-JMS-SVC": "1",
    "X-JMS-LOGIN-TYPE": "T",
    "X-HTTP-Method-Override": "DELETE",
    "X-HTTP-Method": "DELETE",
    "X-Method-Override": "DELETE",
    "X-CSRFToken": "x",
    "Proxy-Authorization": "Basic eDp5",
    "Proxy-Connection": "keep-alive",
    "Keep-Alive": "timeout=666",
    "TE": "trailers",
    "Upgrade": "h2c",
    "X_Odd_Name": "6",
    "X-Remote_User": "root",
    "X-Remote-User": "root",
    "Remote-User": "root",
    "X-Auth-Request-Email": "root@example.com",
    "X-WEBAUTH-USER": "root",
    "X-MS-CLIENT-PRINCIPAL-NAME": "root",
    "Cf-Access-Authenticated-User-Email": "root@example.com",
    "Ssl-Client-Verify": "SUCCESS",
    "X-Auth-Token": TOKEN,
    "keyId": "somebody",
    "secret": TOKEN,
    "X-Own": "dropped",
}
EXACTLY_ONCE = ["accept", "authorization", "date", "host", "x-jms-org"]


def named(seen, name):
    return [value for name_seen, value in seen["headers"] if name_seen == name]


def assert_well_formed(seen, upstream):
    """Checks that apply to every request that reaches the upstream."""
    assert {name: len(named(seen, name)) for name in EXACTLY_ONCE} == dict.fromkeys(EXACTLY_ONCE, 1)
    assert named(seen, "host") == [upstream.authority]
    assert re.fullmatch(
        rf'Signature keyId="{KEY_ID}",algorithm="hmac-sha256",headers="\(request-target\) accept date",signature="[A-Za-z0-9+/]{{43}}="',
        named(seen, "authorization")[0])
    assert abs(email.utils.parsedate_to_datetime(named(seen, "date")[0]).timestamp() - time.time()) < 30
    assert seen["verified"] is True
    assert named(seen, "x-forwarded-proto") in ([], ["http"]), "if told at all, it is the endpoint's own scheme"
    for name, value in seen["headers"]:
        assert name == "x-forwarded-proto" or not name.startswith(("x-forwarded", "forwarded", "cookie", "x-api-key")), (name, value)
        assert "_" not in name, (name, value)
    everything = str(seen)
    assert TOKEN not in everything and base64.b64encode(f"x:{TOKEN}".encode()).decode() not in everything
    assert SECRET not in everything


def test_a_plain_call_arrives_with_one_of_each(gateway, script, upstream):
    assert script.get(gateway.url + ECHO).status_code == 200
    assert_well_formed(upstream.only(), upstream)


def test_what_a_consumer_must_not_say_is_dropped(gateway, script, upstream):
    answer = script.get(gateway.url + ECHO, headers=NEVER_FORWARDED)
    assert answer.status_code == 200, explain(answer)
    seen = upstream.only()
    assert_well_formed(seen, upstream)
    arrived = {name: value for name, value in seen["headers"] if name in {name.lower() for name in NEVER_FORWARDED}}
    arrived.pop("x-forwarded-proto", None)  # checked above
    assert arrived == {}
    assert seen["method"] == "GET"


def test_what_a_consumer_may_say_arrives(gateway, script, upstream):
    said = {"User-Agent": "onboarding/1.0", "Accept": "application/json, text/csv;q=0.1", "Accept-Language": "zh", "X-TZ": "Asia/Shanghai"}
    assert script.get(gateway.url + ECHO, headers=said).status_code == 200
    seen = upstream.only()
    assert_well_formed(seen, upstream)
    assert {name: named(seen, name.lower()) for name in said} == {name: [value] for name, value in said.items()}


def test_a_date_and_signature_of_the_consumers_own_are_replaced(gateway, upstream):
    old = b"Mon, 17 Feb 2014 06:11:05 GMT"
    answer = wire.send(gateway.port, "GET", ECHO.encode(), [BEARER, b"Date: " + old, b"Date: garbage", b"Signature: x", b"X-Date: " + old])
    assert answer.status == 200, answer
    assert_well_formed(upstream.only(), upstream)
    assert named(upstream.only(), "signature") == []


@pytest.mark.parametrize(("lines", "expected"), [
    ([], "application/json"),
    ([b"Accept:"], "application/json"),
    ([b"Accept: */*"], "*/*"),
    ([b"Accept: application/json", b"Accept: text/csv"], ["application/json,text/csv", "application/json, text/csv"]),
])
def test_accept_is_one_signed_line(gateway, upstream, lines, expected):
    answer = wire.send(gateway.port, "GET", ECHO.encode(), [BEARER, *lines])
    assert answer.status == 200, answer
    assert_well_formed(upstream.only(), upstream)
    assert named(upstream.only(), "accept")[0] in ([expected] if isinstance(expected, str) else expected)


@pytest.mark.parametrize("names", ["authorization, date, host, accept", "x-jms-org", "content-length, x-tz", "close, Authorization"])
def test_connection_cannot_name_away_what_the_gateway_adds(gateway, upstream, names):
    request = (f"POST {ECHO} HTTP/1.1\r\nHost: {gateway.authority}\r\nAuthorization: Bearer {TOKEN}\r\nX-TZ: 1\r\n"
               f"Connection: close, {names}\r\nContent-Length: 4\r\n\r\nbody")
    answer = wire.send_bytes(gateway.port, request.encode(), "POST")
    assert answer.status == 200, answer
    seen = upstream.only()
    assert_well_formed(seen, upstream)
    assert answer.json()["body_length"] == 4
    assert named(seen, "x-tz") == ([] if "x-tz" in names else ["1"])


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:1", "jms_core"])
def test_the_host_told_upstream_is_the_upstreams_own(gateway, upstream, host):
    request = f"GET {ECHO} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    answer = wire.send_bytes(gateway.port, request.encode())
    assert answer.status == 200, answer
    assert_well_formed(upstream.only(), upstream)


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/api/v1/users/users/"), ("GET", "/api/v1/nowhere/"), ("POST", "/api/v1/users/users/"),
    ("DELETE", "/api/v1/users/users/?username=x"), ("GET", "/api/v1/redirect/"),
])
def test_a_consumer_never_sees_the_upstreams_cookies(gateway, script, upstream, method, path):
    body = {"json": {"username": "x"}} if method == "POST" else {}
    answer = script.request(method, gateway.url + path, allow_redirects=False, **body)
    assert "Set-Cookie" not in answer.headers, explain(answer)
    assert len(script.cookies) == 0
    assert "stand-in-cookie" not in explain(answer)
    assert upstream.only()["verified"] in (True, None)


def test_an_answer_names_neither_the_credential_nor_the_upstream(gateway, script, upstream):
    answer = script.get(gateway.url + "/api/v1/users/users/?limit=1")
    for secret in (SECRET, KEY_ID, upstream.authority, "Signature "):
        assert secret not in explain(answer)


def test_every_answer_has_its_own_request_id(gateway, script):
    answers = [script.get(gateway.url + path) for path in ("/api/v1/users/users/", "/api/v1/users/users/", "/nowhere/", "/api/v1/users/users/?oid=x")]
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert len(set(ids)) == len(ids) and all(ids)
    answer = script.get(gateway.url + ECHO, headers={"X-Request-Id": "chosen-by-the-consumer"})
    assert answer.headers["X-Request-Id"] != "chosen-by-the-consumer"
