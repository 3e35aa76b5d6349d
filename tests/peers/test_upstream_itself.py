"""The stand-in upstream behaves as described, without a gateway: it really verifies what it accepts later."""
import base64
import datetime
import email.utils
import hashlib
import hmac
import socket
import time
from http.cookiejar import DefaultCookiePolicy

import pytest
import requests
from httpsig.requests_auth import HTTPSignatureAuth

import wire
from canonical import Refused, Unsaid, canonical
from test_targets import ROUND_SIZE, ROUNDS, WIRE_TABLE, generated
from world import BRANCH, DEFAULT, KEY_ID, PASSWORDS, PRIVATE_TOKEN, SECRET, VAULT, direct

USERS = "/api/v1/users/users/"


def date():
    return email.utils.formatdate(usegmt=True)


def signature(signed_target, headers, method="GET", key_id=KEY_ID, secret=SECRET, names=("(request-target)", "accept", "date")):
    """Our own signer, for requests that no well-behaved client would send."""
    values = {"(request-target)": f"{method.lower()} {signed_target}", **headers}
    mac = hmac.digest(secret.encode(), "\n".join(f"{name}: {values[name.lower()]}" for name in names).encode(), "sha256")
    return f'Signature keyId="{key_id}",algorithm="hmac-sha256",headers="{" ".join(names)}",signature="{base64.b64encode(mac).decode()}"'


def signed_wire(upstream, target, signed_target, method="GET", extra=()):
    headers = {"accept": "application/json", "date": date()}
    lines = [f"{name}: {value}".encode() for name, value in {**headers, "authorization": signature(signed_target, headers, method)}.items()]
    return wire.send(upstream.port, method, target, [*lines, *extra])


@pytest.fixture
def signed(upstream):
    """The scripts' client, as they use it: `requests` with httpsig's auth."""
    with requests.Session() as session:
        session.trust_env = False
        session.auth = HTTPSignatureAuth(KEY_ID, SECRET, "hmac-sha256", ["(request-target)", "accept", "date"])
        session.headers["Accept"] = "application/json"
        session.headers["Date"] = date()
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        yield session


def test_health_is_anonymous(upstream):
    assert wire.send(upstream.port, "GET", b"/api/health/").status == 200


def test_an_unsigned_call_is_401(upstream):
    answer = wire.send(upstream.port, "GET", USERS.encode())
    assert (answer.status, list(answer.json())) == (401, ["detail"])
    assert upstream.only()["verified"] is None


def test_a_signed_call_succeeds(upstream, signed):
    answer = signed.get(upstream.url + USERS)
    assert (answer.status_code, answer.json()) == (200, [])
    assert upstream.only()["verified"] is True


def test_the_date_is_never_checked(upstream, signed):
    for odd in ("Mon, 17 Feb 2014 06:11:05 GMT", "garbage"):
        assert signed.get(upstream.url + USERS, headers={"Date": odd}).status_code == 200


@pytest.mark.parametrize("tampered", ["target", "method", "date", "accept", "signature", "secret", "key"])
def test_a_tampered_call_is_401(upstream, tampered):
    headers = {"accept": "application/json", "date": date()}
    key = {"key_id": KEY_ID.replace("0001", "0009")} if tampered == "key" else {"secret": SECRET[:-1] + "3"} if tampered == "secret" else {}
    headers["authorization"] = signature(USERS, headers, **key)
    if tampered in ("date", "accept"):
        headers[tampered] += ", x"
    if tampered == "signature":
        head, label, mac = headers["authorization"].partition('signature="')
        headers["authorization"] = head + label + ("B" if mac[0] == "A" else "A") + mac[1:]
    target = USERS + "?limit=1" if tampered == "target" else USERS
    lines = [f"{name}: {value}".encode() for name, value in headers.items()]
    answer = wire.send(upstream.port, "DELETE" if tampered == "method" else "GET", target.encode(), lines)
    assert answer.status == 401, answer
    assert upstream.only()["verified"] is not True


@pytest.mark.parametrize("spoilt", ["key id that is no UUID", "algorithm upper-case", "algorithm hs2019", "date capitalised", "absent header", "bad base64"])
def test_what_crashes_the_reference_is_500(upstream, spoilt):
    headers = {"accept": "application/json", "date": date()}
    line = signature(USERS, headers)
    line = {
        "key id that is no UUID": signature(USERS, headers, key_id="not-a-uuid"),
        "algorithm upper-case": line.replace("hmac-sha256", "HMAC-SHA256"),
        "algorithm hs2019": line.replace("hmac-sha256", "hs2019"),
        "date capitalised": signature(USERS, headers, names=("(request-target)", "accept", "Date")),
        "absent header": line.replace("accept date", "accept date digest"),
        "bad base64": line.partition('signature="')[0] + 'signature="x"',
    }[spoilt]
    answer = wire.send(upstream.port, "GET", USERS.encode(), [f"{n}: {v}".encode() for n, v in {**headers, "authorization": line}.items()])
    assert answer.status == 500, answer


def test_a_second_accept_or_date_line_is_401(upstream):
    for extra in (b"Accept: text/html", b"Date: garbage"):
        assert signed_wire(upstream, USERS.encode(), USERS, extra=[extra]).status == 401


@pytest.mark.parametrize("target", ["/u/a%2Bb/", "/u/%e4%b8%ad/", "/u/;v=1/", "/u/?search=a|b", "/u/?"])
def test_signing_the_bytes_as_sent_is_401_where_the_upstream_reencodes(upstream, target):
    assert signed_wire(upstream, target.encode(), target).status == 401


@pytest.mark.parametrize("expected", sorted({sent for _, sent in WIRE_TABLE if sent}))
def test_every_canonical_form_of_the_table_verifies(upstream, expected):
    answer = signed_wire(upstream, expected.encode(), expected)
    assert (answer.status, answer.json()["full_path"]) == (200, expected), answer


def test_every_generated_canonical_form_verifies(upstream):
    sent = 0
    for target in (target for seed in range(ROUNDS) for target in generated(seed, ROUND_SIZE)):
        try:
            expected = canonical(target)
        except (Refused, Unsaid):
            continue
        answer = signed_wire(upstream, expected.encode(), expected)
        assert (answer.status, answer.json()["full_path"]) == (200, expected), f"{target!r}: {answer}"
        sent += 1
    assert sent > ROUNDS * ROUND_SIZE / 3


def test_the_org_is_query_then_header_then_cookie_then_default(upstream, signed):
    for expected, query, headers in [
        (DEFAULT, "", {}),
        (BRANCH, "", {"Cookie": f"X-JMS-ORG={BRANCH}"}),
        (VAULT, "", {"Cookie": f"X-JMS-ORG={BRANCH}", "X-JMS-ORG": VAULT}),
        (BRANCH, f"?oid={BRANCH}", {"X-JMS-ORG": VAULT}),
        (DEFAULT, "", {"X-JMS-ORG": "no such place"}),
        (VAULT, "", {"X-JMS-ORG": "vault"}),
    ]:
        assert signed.get(f"{upstream.url}/api/v1/orgs/orgs/current/{query}", headers=headers).json()["id"] == expected
    answer = signed_wire(upstream, b"/u/", "/u/", extra=[f"X-JMS-ORG: {VAULT}".encode()] * 2)
    assert answer.json()["org"] == DEFAULT


def test_every_answer_sets_a_cookie(upstream, signed):
    for path in (USERS, "/api/health/", "/nowhere/"):
        assert "jms_public_key" in signed.get(upstream.url + path).headers["Set-Cookie"]


def test_a_missing_slash_is_301_for_every_method(upstream, signed):
    for method in ("GET", "POST", "DELETE"):
        answer = signed.request(method, upstream.url + USERS.rstrip("/"), allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (301, USERS)


def test_pages_name_the_host_that_was_asked(upstream, signed):
    upstream.reset(users=3)
    page = signed.get(f"{upstream.url}{USERS}?limit=1&offset=1").json()
    assert (page["count"], page["next"], page["previous"]) == (
        3, f"{upstream.url}{USERS}?limit=1&offset=2", f"{upstream.url}{USERS}?limit=1")
    page = signed.get(f"{upstream.url}{USERS}?limit=1", headers={"Host": "jms.example.com", "X-Forwarded-Proto": "https"}).json()
    assert page["next"] == f"https://jms.example.com{USERS}?limit=1&offset=1"
    assert signed.get(upstream.url + USERS, headers={"Host": "jms_core"}).status_code == 400


def test_without_a_limit_it_is_a_bare_list_cut_at_200(upstream, signed):
    upstream.reset(users=250)
    assert len(signed.get(upstream.url + USERS).json()) == 200


def test_users_are_made_read_changed_and_deleted(upstream, signed):
    made = signed.post(upstream.url + USERS, json={"username": "张三", "name": "Zhang"})
    assert made.status_code == 201
    one = f"{upstream.url}{USERS}{made.json()['id']}/"
    assert signed.patch(one, json={"name": "San"}).json()["name"] == "San"
    assert signed.get(one, headers={"X-JMS-ORG": BRANCH}).status_code == 404
    assert signed.delete(one).status_code == 204
    assert signed.get(one).status_code == 404


def test_bulk_delete_takes_every_match_and_ignores_unknown_filters(upstream, signed):
    upstream.reset(users=5)
    assert signed.delete(upstream.url + USERS, params={"username": "user001"}).status_code == 204
    assert signed.delete(upstream.url + USERS, params={"username": "nobody"}).status_code == 204
    assert len(signed.get(upstream.url + USERS).json()) == 4
    assert signed.delete(upstream.url + USERS, params={"no-such-filter": "x"}).status_code == 204
    assert signed.get(upstream.url + USERS).json() == []


def test_a_chunked_body_is_silently_empty(upstream, signed):
    body = b'{"username": "chunked"}'
    told = signed.post(upstream.url + "/api/v1/echo/x/", data=iter([body])).json()
    assert (told["body_length"], told["body_sha256"]) == (0, hashlib.sha256(b"").hexdigest())
    answer = signed.post(upstream.url + USERS, data=iter([body]), headers={"Content-Type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (400, ["username"])


def test_a_body_of_known_length_arrives(upstream, signed):
    body = b"\0\xff" * 100_000
    told = signed.post(upstream.url + "/api/v1/echo/x/", data=body).json()
    assert (told["body_length"], told["body_sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


def test_json_without_its_content_type_is_400(upstream, signed):
    answer = signed.post(upstream.url + USERS, data=b'{"username": "x"}')
    assert (answer.status_code, "Missing filename" in answer.text) == (400, True)


def test_an_idle_connection_is_closed_after_two_seconds(upstream):
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=10) as stream:
        stream.sendall(f"GET /api/health/ HTTP/1.1\r\nHost: {upstream.authority}\r\n\r\n".encode())
        assert stream.recv(65536).startswith(b"HTTP/1.1 200")
        before = time.monotonic()
        while stream.recv(65536):
            before = time.monotonic()
        assert 1.5 < time.monotonic() - before < 3


AUTH = "/api/v1/authentication/auth/"


def log_in(upstream, name="robot", password=PASSWORDS["robot"], path=AUTH):
    return direct("POST", upstream.url + path, json={"username": name, "password": password})


@pytest.mark.parametrize("path", [AUTH, "/api/v1/authentication/tokens/"])
def test_a_login_is_201_and_its_token_a_bearer(upstream, path):
    made = log_in(upstream, path=path)
    told = made.json()
    assert (made.status_code, told["keyword"], len(told["token"]), told["user"]["username"]) == (201, "Bearer", 36, "robot")
    until = datetime.datetime.strptime(told["date_expired"], "%Y/%m/%d %H:%M:%S %z").timestamp()
    assert abs(until - time.time() - 24 * 3600) < 60
    for line, status in [(f"Bearer {told['token']}", 200), (f"bearer {told['token']}", 200), (f"Token {told['token']}", 401), ("Bearer x", 401)]:
        assert direct("GET", upstream.url + USERS, headers={"Authorization": line}).status_code == status, line
    assert upstream.logins == 1


def test_a_login_ends_in_time_and_when_it_is_ended(upstream):
    upstream.reset(life=1)
    for end in (lambda: time.sleep(1.1), upstream.expire):
        bearer = {"Authorization": "Bearer " + log_in(upstream).json()["token"]}
        assert direct("GET", upstream.url + USERS, headers=bearer).status_code == 200
        end()
        answer = direct("GET", upstream.url + USERS, headers=bearer)
        assert (answer.status_code, list(answer.json())) == (401, ["detail"])


def test_a_wrong_password_is_400_and_locks_the_account_in_the_end(upstream):
    told = [log_in(upstream, password="wrong") for _ in range(8)]
    assert [(answer.status_code, answer.json()["error"]) for answer in told] == [(400, "password_failed")] * 7 + [(400, "block_login")]
    assert log_in(upstream).json()["error"] == "block_login"


def test_a_second_factor_is_asked_for_with_200(upstream):
    asked = log_in(upstream, "careful", PASSWORDS["careful"])
    assert (asked.status_code, asked.json()["error"]) == (200, "mfa_required")


@pytest.mark.parametrize(("line", "status"), [
    (f"Token {PRIVATE_TOKEN}", 200), (f"token {PRIVATE_TOKEN}", 200), (f"TOKEN {PRIVATE_TOKEN}", 200),
    (f"Bearer {PRIVATE_TOKEN}", 401), (f"Token {PRIVATE_TOKEN[:-1]}", 401), ("Token", 401),
])
def test_a_private_token_has_its_own_keyword_in_any_case(upstream, line, status):
    assert direct("GET", upstream.url + USERS, headers={"Authorization": line}).status_code == status


def test_a_thousand_users_are_the_longest_page(upstream, signed):
    upstream.reset(users=1200)
    page = signed.get(f"{upstream.url}{USERS}?limit=5000").json()
    assert (page["count"], len(page["results"])) == (1200, 1000)
    assert page["next"] == f"{upstream.url}{USERS}?limit=1000&offset=1000"
    assert len(signed.get(page["next"]).json()["results"]) == 200


@pytest.mark.parametrize("announced", [True, False])
def test_an_export_is_csv_of_the_length_asked_for(upstream, signed, announced):
    answer = signed.get(f"{upstream.url}/api/v1/audits/export/?bytes=1000001" + ("&announced=1" if announced else ""), stream=True)
    framing = {name: answer.headers.get(name) for name in ("Content-Length", "Transfer-Encoding")}
    assert framing == ({"Content-Length": "1000001", "Transfer-Encoding": None} if announced else {"Content-Length": None, "Transfer-Encoding": "chunked"})
    assert (answer.headers["Content-Type"], len(answer.content), answer.content[:8]) == ("text/csv", 1000001, b"00000000")


def test_an_upload_is_counted_and_digested_and_a_chunked_one_is_empty(upstream, signed):
    body = bytes(range(256)) * 10_000
    for data, arrived in [(body, body), (iter([body]), b"")]:
        told = signed.put(upstream.url + "/api/v1/upload/", data=data)
        assert (told.status_code, told.json()) == (201, {"length": len(arrived), "sha256": hashlib.sha256(arrived).hexdigest()})
