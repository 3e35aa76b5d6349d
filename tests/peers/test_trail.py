"""The audit trail, read with only its description."""
import re
import shutil

import pytest

import wire
from trail import broken_links
from world import DEFAULT, SECRET, TOKENS, VAULT, direct, explain, session_for

USERS = "/api/v1/users/users/"


def test_a_forwarded_call_is_an_intent_and_an_outcome_under_one_id(gateway, script, upstream):
    for method, target, status in [
        ("GET", f"{USERS}?limit=2", 200), ("POST", USERS, 201), ("DELETE", f"{USERS}?username=x%2By", 204), ("GET", "/nowhere/", 404),
    ]:
        answer = script.request(method, gateway.url + target, json={"username": "x"} if method == "POST" else None)
        assert answer.status_code == status, explain(answer)
        request_id = answer.headers["X-Request-Id"]
        intent, outcome = gateway.trail.of(request_id, ["intent", "outcome"])
        assert [intent["event"], outcome["event"]] == ["intent", "outcome"]
        assert intent["seq"] < outcome["seq"]
        for event in (intent, outcome):
            assert (event["request_id"], event["consumer"], event["upstream"], event["method"], event["target"], event["org"], event["decision"]) == (
                request_id, "onboarding", "jumpserver", method, target, DEFAULT, "allowed")
            assert "jms-test" in str(event["credential"])
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|\+00:00)", event["time"]), event["time"]
            assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", event["request_id"])
        assert (outcome["status"], outcome["upstream_status"], outcome["ended"]) == (status, status, "answered")
    assert len(upstream.seen()) == 4


def test_the_outcome_is_written_before_the_answer_is_whole(gateway, script):
    for _ in range(20):
        answer = script.get(gateway.url + USERS)
        events = gateway.trail.of(answer.headers["X-Request-Id"])
        assert [event["event"] for event in events] == ["intent", "outcome"]


def test_the_bytes_of_both_bodies_are_counted(gateway, script):
    answer = script.post(gateway.url + "/api/v1/echo/x/", data=b"x" * 12345)
    outcome = gateway.trail.of(answer.headers["X-Request-Id"], ["intent", "outcome"])[-1]
    assert (outcome["bytes_in"], outcome["bytes_out"]) == (12345, len(answer.content))
    assert outcome["duration_us"] >= outcome["upstream_us"] > 0


@pytest.mark.parametrize(("consumer", "path", "status"), [
    (None, USERS, 401),
    ("stranger", USERS, 403),
    ("reader", "/api/v1/users/users/../users/", 400),
    ("reader", "/api/v1/orgs/orgs/current/", 403),
    ("onboarding", f"{USERS}?oid={VAULT}", 403),
])
def test_a_refused_call_is_an_outcome_alone(gateway, upstream, consumer, path, status):
    token = TOKENS.get(consumer, "nobody-has-this-token")
    answer = wire.send(gateway.port, "GET", path.encode(), [f"Authorization: Bearer {token}".encode()])
    assert (answer.status, upstream.seen()) == (status, []), answer
    events = gateway.trail.of(answer.headers["X-Request-Id"], ["outcome"])
    assert [(event["event"], event["decision"], event["status"], event["ended"], event["code"]) for event in events] == [
        ("outcome", "denied", status, "refused", answer.headers["Claviger-Error"])]
    assert "upstream_status" not in events[0]


def test_a_call_that_the_upstream_failed_has_both_events(gateway, script):
    answer = script.get(f"{gateway.url}/rotten{USERS}")
    assert answer.status_code == 502, explain(answer)
    intent, outcome = gateway.trail.of(answer.headers["X-Request-Id"], ["intent", "outcome"])
    assert (intent["event"], outcome["event"]) == ("intent", "outcome")
    assert (outcome["code"], outcome["status"], outcome["upstream_status"], outcome["ended"]) == ("upstream_auth", 502, 401, "failed")


def test_secret_looking_query_values_are_masked(gateway, script, upstream):
    names = ["token", "access_token", "password", "passwd", "client_secret", "api_key", "sign", "credential"]
    answer = script.get(f"{gateway.url}/api/v1/echo/x/", params={**{name: f"canary-{name}" for name in names}, "limit": "5"})
    assert "canary-token" in upstream.only()["target"], "forwarded all the same"
    for event in gateway.trail.of(answer.headers["X-Request-Id"], ["intent", "outcome"]):
        assert "canary" not in str(event) and "limit=5" in event["target"]


def test_every_event_of_the_whole_run_is_paired_chained_and_free_of_secrets(gateway, script):
    for _ in range(3):
        script.get(gateway.url + USERS)
        direct("GET", gateway.url + USERS)
    lines, calls = gateway.trail.lines(), {}
    assert broken_links(lines) == []
    for event in gateway.trail.events():
        assert event["event"] in ("intent", "outcome", "admin", "head", "journal"), event
        if event["event"] in ("intent", "outcome"):
            calls.setdefault(event["request_id"], []).append(event["event"])
    odd = {request_id: kinds for request_id, kinds in calls.items() if kinds not in (["outcome"], ["intent", "outcome"])}
    assert odd == {}
    whole = b"\n".join(lines)
    for secret in (SECRET, *TOKENS.values()):
        assert secret.encode() not in whole
    assert b"\r" not in whole


def test_what_the_gateway_prints_is_free_of_secrets(gateway, script):
    script.get(gateway.url + USERS)
    printed = gateway.log.read_text(errors="replace")
    assert not [secret for secret in (SECRET, *TOKENS.values()) if secret in printed]


# ---- its proof

def make_some_calls(gateway):
    with session_for("onboarding") as session:
        for number in range(4):
            assert session.get(f"{gateway.url}{USERS}?offset={number}").status_code == 200
    assert direct("GET", gateway.url + USERS).status_code == 401


def test_verify_holds_beside_a_live_gateway(own_gateway):
    own_gateway.start()
    make_some_calls(own_gateway)
    verified = own_gateway.run("audit", "verify")
    assert verified.returncode == 0, verified


def test_verify_and_python_agree_after_a_stop_and_a_second_run(own_gateway):
    for _ in range(2):
        own_gateway.start()
        make_some_calls(own_gateway)
        assert own_gateway.stop() == 0
    lines = own_gateway.trail.lines()
    assert len(own_gateway.trail.segments()) == 2, "a segment is opened at start"
    assert (broken_links(lines), sum(b'"intent"' in line for line in lines)) == ([], 8)
    verified = own_gateway.run("audit", "verify")
    assert verified.returncode == 0, verified


def flip(line):
    """Another method with the same number of bytes."""
    assert b'"GET"' in line
    return line.replace(b'"GET"', b'"PUT"')


SPOILT = {
    "a byte flipped": lambda lines, at: [*lines[:at], flip(lines[at]), *lines[at + 1:]],
    "a line deleted": lambda lines, at: [*lines[:at], *lines[at + 1:]],
    "a line repeated": lambda lines, at: [*lines[:at], lines[at], *lines[at:]],
    "two lines swapped": lambda lines, at: [*lines[:at], lines[at + 1], lines[at], *lines[at + 2:]],
}


def test_verify_finds_what_was_altered(own_gateway):
    own_gateway.start()
    make_some_calls(own_gateway)
    assert own_gateway.stop() == 0
    segment = own_gateway.trail.segments()[-1]
    kept = own_gateway.folder / "kept"
    shutil.copy2(segment, kept)
    lines = segment.read_bytes().rstrip(b"\n").split(b"\n")
    middle = [number for number, line in enumerate(lines) if b'"GET"' in line][2]
    for how, spoil in SPOILT.items():
        segment.write_bytes(b"\n".join(spoil(lines, middle)) + b"\n")
        assert broken_links(own_gateway.trail.lines()), f"{how}: Python must see it too"
        verified = own_gateway.run("audit", "verify")
        assert verified.returncode == 1, f"{how}: exit {verified.returncode}\n{verified.stdout}{verified.stderr}"
    shutil.copy2(kept, segment)
    verified = own_gateway.run("audit", "verify")
    assert verified.returncode == 0, verified
