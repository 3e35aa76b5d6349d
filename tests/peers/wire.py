"""One HTTP/1.1 exchange with exactly the given request bytes: no client library changes them."""
import http.client
import json
import socket


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.headers.items()} {self.body[:500]!r}"


def send(port, method, target, headers=(), body=b""):
    """Sends `target` and each of `headers` (b"Name: value") unchanged, after a Host and before a Connection: close."""
    lines = [method.encode() + b" " + target + b" HTTP/1.1", f"Host: 127.0.0.1:{port}".encode(), *headers, b"Connection: close"]
    return send_bytes(port, b"\r\n".join(lines) + b"\r\n\r\n" + body, method)


def send_bytes(port, request, method="GET"):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
        stream.sendall(request)
        response = http.client.HTTPResponse(stream, method=method)
        response.begin()
        return Answer(response, response.read())
