"""The shared part of the small stand-ins: a threaded HTTP/1.1 server on loopback that records every request."""
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Request:
    """One request as received."""

    def __init__(self, line, headers, body):
        self.line, self.headers, self.body = line, headers, body
        self.method, self.target, self.version = line.split(" ")
        url = urlsplit(self.target)
        self.path, self.query = url.path, {name: values[-1] for name, values in parse_qs(url.query).items()}
        self.status = self.told = None

    def all(self, name):
        return self.headers.get_all(name) or []

    def json(self):
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return {}

    def page(self, start, count, default=10):
        """The slice that two members of the query select."""
        first, most = int(self.query.get(start, 0)), int(self.query.get(count, default))
        return slice(first, first + most)

    def __repr__(self):
        return f"{self.line} {self.headers.items()} {self.body!r} -> {self.status}"


class Standin:
    """A subclass has `answer(request)`, which is never called concurrently: it returns a status, a body, and more header lines.
    Each request first waits for `pause` seconds, so that simultaneous requests arrive together."""

    def __init__(self):
        self.seen, self.lock, self.pause = [], threading.Lock(), 0
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

            def log_message(self, *_):
                pass

            def take(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(self.requestline, self.headers, body)
                time.sleep(standin.pause)
                with standin.lock:
                    status, told, *more = standin.answer(request)
                    request.status, request.told = status, told
                    standin.seen.append(request)
                content = b"" if told is None else json.dumps(told).encode()
                self.send_response(status)
                for name, value in [("Content-Type", "application/json; charset=utf-8"), *more]:
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = take

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 128

            def handle_error(self, *_):
                pass  # The gateway may disconnect at any time.

        self.server = Server(("127.0.0.1", 0), Handler)
        self.authority = "127.0.0.1:%d" % self.server.server_address[1]
        self.url = f"http://{self.authority}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answered(self, status):
        """The requests that were answered with this status."""
        return [request for request in self.seen if request.status == status]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
