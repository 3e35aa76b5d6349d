"""The stand-in upstream, a process of its own: it verifies signatures, and fails in the ways that its paths name."""
import base64
import hashlib
import hmac
import json
import multiprocessing
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = b'{"results":["' + b"x" * (8 << 20) + b'"]}'


def secret_of(key_id):
    """Any key is known: its secret follows from its id."""
    return hashlib.sha256(b"fake soak " + key_id.encode()).hexdigest()[:36]


class Calls(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm, wbufsize = "HTTP/1.1", True, -1

    def log_message(self, *_):
        pass

    def signed(self):
        """Whether the signature is that of a key we know over what came."""
        found = dict(re.findall(r'(\w+)="([^"]*)"', self.headers.get("Authorization", "")))
        lines = []
        for name in found.get("headers", "").split():
            value = f"{self.command.lower()} {self.path}" if name == "(request-target)" else self.headers.get(name, "")
            lines.append(f"{name}: {value}")
        digest = hmac.digest(secret_of(found.get("keyId", "")).encode(), "\n".join(lines).encode(), "sha256")
        return hmac.compare_digest(base64.b64encode(digest).decode(), found.get("signature", ""))

    def tell(self, status, content, length=None):
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def take(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.path.strip("/").split("/")[-1].split("?")[0]
        if not self.signed():
            self.tell(401, b'{"detail":"bad signature"}')
        elif kind == "large":
            self.tell(200, LARGE)
        elif kind == "500":
            self.tell(500, b'{"detail":"the upstream failed"}')
        elif kind == "close":
            self.close_connection = True
        elif kind == "cut":
            self.close_connection = True
            self.tell(200, b'{"cut', 1000)
        elif kind == "stall":
            self.close_connection = True
            time.sleep(3)
        else:
            link = f"http://{self.headers['Host']}/api/v1/users/?offset=2"
            self.tell(200, json.dumps({"next": link, "previous": None, "got": len(body), "results": [{"id": 1}]}).encode())

    do_GET = do_POST = do_DELETE = take


class Server(ThreadingHTTPServer):
    daemon_threads, allow_reuse_address, request_queue_size = True, True, 256

    def handle_error(self, *_):
        pass  # The gateway may leave without a word.


def serve(port):
    Server(("127.0.0.1", port), Calls).serve_forever()


def start(port):
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(port,), daemon=True)
    process.start()
    return process
