"""Receivers of events: rsyslog, and our own receivers that can fail on request."""
import http.server
import json
import re
import socket
import subprocess
import threading

from world import free_port, until


class Receiver:
    """Accepts POSTs and stores their bodies. A test can make it fail in several ways, or stop it."""

    def __init__(self, tls=None):
        self.port, self.bodies, self.heads, self.way, self.posts, self.tls = free_port(), [], [], "take", 0, tls
        self.server = None
        self.start()

    def start(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body, outer.posts = self.rfile.read(int(self.headers["Content-Length"])), outer.posts + 1
                if outer.way == "drop":
                    self.close_connection = True
                    return
                if outer.way in ("take", "take and drop"):
                    outer.bodies.append(body)
                    outer.heads.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
                if outer.way == "take and drop":
                    self.close_connection = True
                    return
                answer = b"{}"
                self.send_response(503 if outer.way == "refuse" else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", self.port), Handler)
        if self.tls:
            self.server.socket = self.tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Rsyslog:
    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None
        self.out = folder / "received.log"
        folder.mkdir()
        (folder / "rsyslog.conf").write_text(f'''
global(workDirectory="{folder}" maxMessageSize="64k")
module(load="imtcp")
template(name="whole" type="string" string="%pri% %timereported:::date-rfc3339% %app-name% %msgid% %msg%\\n")
input(type="imtcp" address="127.0.0.1" port="{self.port}")
action(type="omfile" file="{self.out}" template="whole")
''')

    def start(self):
        self.process = subprocess.Popen(
            ["rsyslogd", "-n", "-f", str(self.folder / "rsyslog.conf"), "-i", str(self.folder / "pid")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.listens, 10)

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()
        (self.folder / "pid").unlink(missing_ok=True)

    def rows(self):
        text = self.out.read_text() if self.out.exists() else ""
        # A row that a killed rsyslog wrote only partly does not count.
        rows = [re.fullmatch(r"(\d+) (\S+) claviger (\w+) (\{.*\})", row.replace("> ", ">")) for row in text.splitlines()]
        return [row.groups() for row in rows if row]


def lines_of(form, bodies):
    for body in list(bodies):
        if form == "http":
            # Byte for byte as they were hashed: the sink only adds the array around them.
            events, at, text = [], 1, body.decode()
            decoder = json.JSONDecoder()
            while at < len(text) - 1:
                _, end = decoder.raw_decode(text, at)
                events.append(text[at:end])
                at = end + 1
            yield from events
        else:
            for record in json.loads(body)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
                line = record["body"]["stringValue"]
                event = json.loads(line)
                attributes = {attribute["key"]: attribute["value"] for attribute in record["attributes"]}
                assert attributes["claviger.seq"] == {"intValue": str(event["seq"])}
                assert attributes["claviger.event"] == {"stringValue": event["event"]}
                assert record["eventName"] == "claviger." + event["event"]
                assert len(record["timeUnixNano"]) == 19 and record["severityNumber"] in (9, 13, 17)
                yield line


def messages(stream):
    """The lines of RFC 5424 messages, each with its length before it."""
    while match := re.match(rb"(\d+) ", stream):
        end = match.end() + int(match[1])
        if end > len(stream):
            return
        message = stream[match.end():end]
        head = re.match(rb"<(\d+)>1 (\S+) (\S+) claviger (\d+) (\w+) - (\{)", message)
        yield message[head.start(6):].decode()
        stream = stream[end:]
