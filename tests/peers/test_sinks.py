"""Sinks: whatever happens to the receiver or the gateway, the receiver gets every event of the trail, and no call waits for it."""
import collections
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
import requests

from receivers import Receiver, Rsyslog, lines_of, messages
from world import Gateway, config, direct, session_for, until

USERS = "/api/v1/users/users/"


class Load:
    """Sends calls without a pause until it is stopped. Each must be answered."""

    def __init__(self, gateway):
        self.calls, self.ended, self.failed = 0, False, None
        self.threads = [threading.Thread(target=self.run, args=(gateway.url + USERS,)) for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def run(self, url):
        with session_for("onboarding") as script:
            while not self.ended and not self.failed:
                try:
                    answer = script.get(url)
                except requests.RequestException as error:
                    self.failed = str(error)
                    return
                if answer.status_code != 200:
                    self.failed = answer.text
                self.calls += 1

    def end(self):
        """Stops after enough calls, however slow the machine is."""
        deadline = time.monotonic() + 60
        while self.calls <= 50 and not self.failed and time.monotonic() < deadline:
            time.sleep(0.05)
        self.ended = True
        for thread in self.threads:
            thread.join()
        assert not self.failed and self.calls > 50, self.failed


def gateway_with(tmp_path, upstream, sinks):
    gateway = Gateway(tmp_path)
    gateway.configure(config(upstream) + '\n[audit]\nrotate = "64KiB"\ncompress_after = "0s"\n' + sinks)
    return gateway


def on_the_trail(gateway):
    """Every event of the trail, from an export, because segments may be compressed."""
    done = gateway.run("audit", "export", "-")
    assert done.returncode == 0, done
    return {json.loads(line)["seq"]: line for line in done.stdout.splitlines()}


def all_taken(gateway, taken, seconds=30):
    """Waits until `taken()`, the lines by their seq, has every event of the trail; then compares them."""
    trail = on_the_trail(gateway)
    until(lambda: trail.keys() <= taken().keys(), seconds)
    got = taken()
    for seq, line in trail.items():
        assert got[seq][0] == line
        assert len(set(got[seq])) == 1
    return got


def by_seq(lines):
    found = collections.defaultdict(list)
    for line in lines:
        found[json.loads(line)["seq"]].append(line)
    return found


@pytest.mark.skipif(not shutil.which("rsyslogd"), reason="run by tests/peers/run, which installs it")
def test_rsyslog_that_is_killed_under_load_gets_every_event(tmp_path, running_upstream):
    rsyslog = Rsyslog(tmp_path / "rsyslog")
    gateway = gateway_with(tmp_path, running_upstream, f'[audit.sinks.siem]\nkind = "syslog"\nurl = "tcp://127.0.0.1:{rsyslog.port}"\n')
    gateway.start()
    load = Load(gateway)
    try:
        for pause in (0.0, 2.0, 1.0):
            time.sleep(pause)
            rsyslog.start()
            time.sleep(2)
            rsyslog.kill()
        time.sleep(1)
        rsyslog.start()
        time.sleep(1)
        load.end()
        lines = lambda: by_seq(row[3] for row in rsyslog.rows())
        got = all_taken(gateway, lines, 45)
        rows = rsyslog.rows()
        event = json.loads(rows[-1][3])
        assert (rows[-1][2], int(rows[-1][0]) >> 3) == (event["event"], 13)
        assert rows[-1][1][:19] == event["time"][:19]
        # At most twice for each kill.
        assert max(len(lines) for lines in got.values()) <= 4
        # In order, except for repeated events.
        seqs = [json.loads(row[3])["seq"] for row in rows]
        assert sum(later < former for former, later in zip(seqs, seqs[1:])) <= 4
    finally:
        load.ended = True
        code = gateway.stop()
        if rsyslog.process:
            rsyslog.kill()
    assert code == 0


@pytest.mark.parametrize("form", ["http", "otlp"])
def test_a_receiver_that_fails_in_every_way_gets_every_event(tmp_path, running_upstream, form):
    receiver = Receiver()
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("fake-token-of-the-collector\n")
    gateway = gateway_with(tmp_path, running_upstream, f'''
[audit.sinks.collector]
kind = "{form}"
url = "http://127.0.0.1:{receiver.port}/v1/logs?x=1"
token = {{ file = "token" }}
''')
    gateway.start()
    load = Load(gateway)
    try:
        for way in ("refuse", "take", "drop", "take", "take and drop", "take"):
            receiver.way = way
            time.sleep(0.8)
        receiver.stop()
        time.sleep(1)
        gateway.process.kill()  # in the middle of all
        gateway.process.wait()
        load.ended = True
        for thread in load.threads:
            thread.join()
        receiver.start()
        gateway.start()
        load = Load(gateway)
        time.sleep(1)
        load.end()
        got = all_taken(gateway, lambda: by_seq(lines_of(form, receiver.bodies)))
        twice = sum(len(lines) > 1 for lines in got.values())
        assert 0 < twice < len(got)
        head = receiver.heads[-1]
        assert (head["path"], head["authorization"]) == ("/v1/logs?x=1", "Bearer fake-token-of-the-collector")
        metrics = direct("GET", f"http://127.0.0.1:{gateway.admin_port}/metrics").text
        assert 'claviger_audit_sink_up{sink="collector"} 1' in metrics
        assert "fake-token" not in gateway.log.read_text()
    finally:
        load.ended = True
        gateway.stop()
        receiver.stop()


def test_a_sink_that_is_down_holds_nothing_up_and_keeps_its_events_from_being_let_go(tmp_path, running_upstream):
    receiver = Receiver()
    receiver.stop()
    gateway = gateway_with(tmp_path, running_upstream, f'''retain = "1s"
[audit.sinks.away]
kind = "http"
url = "http://127.0.0.1:{receiver.port}/"
''')
    gateway.start()
    try:
        with session_for("onboarding") as script:
            for _ in range(200):
                began = time.monotonic()
                assert script.get(gateway.url + USERS).status_code == 200
                assert time.monotonic() - began < 2
        time.sleep(4)
        trail = on_the_trail(gateway)
        assert min(trail) == 1, "nothing was let go"
        assert "the sink does not accept events" in gateway.log.read_text()
        receiver.start()
        until(lambda: trail.keys() <= by_seq(lines_of("http", receiver.bodies)).keys(), 45)
        until(lambda: min(on_the_trail(gateway)) > 1, 20)
        assert gateway.told("audit", "verify")["retired"] > 0
    finally:
        gateway.stop()
        receiver.stop()


def test_standard_output_has_every_line_over_restarts_and_a_reader_that_stops_is_not_waited_for(tmp_path, running_upstream):
    gateway = gateway_with(tmp_path, running_upstream, '[audit.sinks.out]\nkind = "stdout"\n')
    out = tmp_path / "out"
    for _ in range(2):
        with out.open("ab") as file:
            gateway.start(stdout=file)
        with session_for("onboarding") as script:
            for _ in range(40):
                assert script.get(gateway.url + USERS).status_code == 200
        assert gateway.stop() == 0
    trail = on_the_trail(gateway)
    lines = out.read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == sorted(trail), "each once, in order"
    assert set(lines) == set(trail.values())
    # A pipe that nobody reads.
    process = gateway.start(stdout=subprocess.PIPE).process
    with session_for("onboarding") as script:
        for _ in range(300):
            assert script.get(gateway.url + USERS).status_code == 200
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 15
    process.stdout.close()


def test_witnesses_hold_the_latest_head_and_it_finds_a_trail_that_was_cut(tmp_path, running_upstream):
    receiver = Receiver()
    gateway = gateway_with(tmp_path, running_upstream, f'''checkpoint_events = 10
[audit.sinks.worm]
kind = "witness"
file = "kept.head"
[audit.sinks.elsewhere]
kind = "witness"
url = "http://127.0.0.1:{receiver.port}/heads"
''')
    gateway.start()
    try:
        with session_for("onboarding") as script:
            for _ in range(60):
                assert script.get(gateway.url + USERS).status_code == 200
        time.sleep(1)
        assert gateway.stop() == 0
        key, kept = gateway.folder / "state" / "audit.pub", gateway.folder / "kept.head"
        report = gateway.told("audit", "verify", "--head", str(kept))
        assert kept.read_text() == report["checkpoint"]
        assert receiver.bodies[-1].decode() == report["checkpoint"] and receiver.heads[-1]["content-type"].startswith("text/plain")
        # In its folder, `verify` compares the trail with the head in the state folder; a copy without its last segment passes with only the key.
        segments = sorted(path for path in (gateway.folder / "state" / "audit").iterdir() if path.name.startswith("audit-"))
        segments[-1].unlink()
        known = gateway.run("audit", "verify")
        assert known.returncode == 1 and "cut off" in known.stderr, known
        copy = tmp_path / "copy"
        shutil.copytree(segments[-1].parent, copy)
        alone = gateway.run("audit", "verify", "--dir", str(copy), "--key", str(key))
        assert alone.returncode == 0, alone
        cut = gateway.run("audit", "verify", "--head", str(kept), "--key", str(key))
        assert cut.returncode == 1 and "cut off" in cut.stderr, cut
    finally:
        gateway.stop()
        receiver.stop()


def test_by_tls_alone_or_by_what_the_file_says(tmp_path, running_upstream):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(tmp_path / "r.key"), "-out", str(tmp_path / "r.crt")], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "r.crt", tmp_path / "r.key")
    receiver = Receiver(context)
    listener = socket.create_server(("127.0.0.1", 0))
    taken = bytearray()

    def take():
        while True:
            try:
                with context.wrap_socket(listener.accept()[0], server_side=True) as stream:
                    while piece := stream.recv(65536):
                        taken.extend(piece)
            except ssl.SSLError:
                pass
            except OSError:
                return

    threading.Thread(target=take, daemon=True).start()
    gateway = gateway_with(tmp_path, running_upstream, f'''
[audit.sinks.known]
kind = "http"
url = "https://localhost:{receiver.port}/"
ca_file = "r.crt"
[audit.sinks.stranger]
kind = "http"
url = "https://localhost:{receiver.port}/"
[audit.sinks.syslog]
kind = "syslog"
url = "tls://localhost:{listener.getsockname()[1]}"
ca_file = "r.crt"
''')
    gateway.start()
    try:
        with session_for("onboarding") as script:
            assert script.get(gateway.url + USERS).status_code == 200
        trail = on_the_trail(gateway)
        until(lambda: trail.keys() <= by_seq(lines_of("http", receiver.bodies)).keys(), 10)
        until(lambda: trail.keys() <= by_seq(messages(bytes(taken))).keys(), 10)
        assert re.search(r"takes no events.*stranger.*certificate|stranger.*certificate|certificate.*stranger", gateway.log.read_text()), gateway.log.read_text()
    finally:
        assert gateway.stop() == 0
        receiver.stop()
        listener.close()
    for url, why in [("http://log.example.com/", "in plaintext"), ("tcp://log.example.com:514", "none that it can have"), ("https://", "none that it can have")]:
        gateway.configure(config(running_upstream) + f'\n[audit.sinks.wrong]\nkind = "http"\nurl = "{url}"\n')
        refused = gateway.run("check")
        assert refused.returncode == 1 and why in refused.stderr + refused.stdout, refused
