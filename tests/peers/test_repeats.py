"""Requests that the gateway sends again after the upstream closed a kept connection: reads only."""
import socket
import threading

import pytest

from world import Gateway, explain, session_for

USERS = "/api/v1/users/users/"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n[]"


class Closing:
    """Answers the first request of each connection; at the second it closes without an answer. Stores all bodies."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.authority = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.bodies = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        with stream, stream.makefile("rb") as lines:
            for answer in (ANSWER, b""):
                if not lines.readline():
                    return
                headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(lines.readline, b"\r\n"))
                self.bodies.append(lines.read(int(headers.get("content-length", 0))))
                stream.sendall(answer)


@pytest.fixture
def upstream():
    return Closing()


@pytest.fixture
def gateway(tmp_path, upstream):
    gateway = Gateway(tmp_path, upstream)
    gateway.write("claviger.toml", "workers = 1\n" + gateway.config.read_text())
    yield gateway.start()
    assert gateway.stop() == 0


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 4096])
def test_a_read_is_repeated_with_the_short_body_that_some_clients_send(gateway, upstream, body):
    """JumpServer's SDK sends `{}` with each read."""
    with session_for("onboarding") as script:
        for _ in range(6):
            answer = script.get(gateway.url + USERS, data=body)
            assert answer.status_code == 200, explain(answer)
    assert len(upstream.bodies) > 6 and set(upstream.bodies) == {body}, "some came twice"


@pytest.mark.parametrize(("method", "body"), [("POST", b"{}"), ("PUT", b"{}"), ("PATCH", b"{}"), ("DELETE", b"{}"), ("DELETE", b"")])
def test_a_write_is_never_repeated(gateway, upstream, method, body):
    with session_for("onboarding") as script:
        statuses = [script.request(method, gateway.url + USERS, data=body).status_code for _ in range(6)]
    assert len(upstream.bodies) == 6 and set(statuses) == {200, 502}, statuses
