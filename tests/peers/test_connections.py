"""Stale connections and large bodies: known problems of a proxy for this upstream."""
import hashlib
import random
import time

import pytest

from world import explain

ECHO = "/api/v1/echo/x/"
FIVE_MIB = 5 * 1024 * 1024


@pytest.mark.parametrize("idle", [1.45, 1.95, 2.0, 2.5])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_pause_between_two_calls_does_no_harm(gateway, script, upstream, method, idle):
    """The upstream closes an idle connection after 2 s; the script keeps its connection to the gateway."""
    for pause in (idle, 0):
        answer = script.request(method, gateway.url + ECHO, data=b"body" if method == "POST" else None)
        assert answer.status_code == 200, explain(answer)
        time.sleep(pause)
    assert [seen["method"] for seen in upstream.seen()] == [method, method], "each call was sent once"


def test_calls_in_a_row_share_upstream_connections(gateway, script, upstream):
    for _ in range(20):
        assert script.get(gateway.url + ECHO).status_code == 200
    ports = {seen["peer_port"] for seen in upstream.seen()}
    assert len(ports) < 10, f"20 calls in a row took {len(ports)} upstream connections"


def body():
    return random.Random(5).randbytes(FIVE_MIB)


def pieces():
    whole = body()
    return (whole[start:start + 70_001] for start in range(0, len(whole), 70_001))


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_body_of_five_mib_arrives_whole(gateway, script, upstream, framing):
    data = body() if framing == "content-length" else pieces()
    answer = script.post(gateway.url + ECHO, data=data, headers={"Content-Type": "application/octet-stream"})
    assert answer.status_code == 200, explain(answer)
    told = answer.json()
    assert (told["body_length"], told["body_sha256"]) == (FIVE_MIB, hashlib.sha256(body()).hexdigest())
    headers = upstream.only()["headers"]
    assert [value for name, value in headers if name == "content-length"] == [str(FIVE_MIB)]
    assert "transfer-encoding" not in dict(headers)


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_body_over_the_limit_is_413_and_never_leaves(gateway, script, upstream, framing):
    size = 17 * 1024 * 1024
    data = bytes(size) if framing == "content-length" else (bytes(65536) for _ in range(size // 65536))
    try:
        answer = script.post(gateway.url + ECHO, data=data)
    except OSError:  # the gateway may answer and close while the script still sends
        answer = None
    assert answer is None or answer.status_code == 413, explain(answer)
    assert upstream.seen() == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_an_empty_body_is_told_as_empty(gateway, script, upstream, method):
    answer = script.request(method, gateway.url + ECHO)
    assert (answer.status_code, answer.json()["body_length"]) == (200, 0), explain(answer)
    assert upstream.only()["wire_length"] == 0
    assert "transfer-encoding" not in dict(upstream.only()["headers"])


def test_head_has_no_body_and_leaves_the_connection_in_order(gateway, script):
    for _ in range(2):
        assert script.head(gateway.url + "/api/v1/users/users/").content == b""
        assert script.get(gateway.url + "/api/v1/users/users/").json() == []
