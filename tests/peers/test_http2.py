"""HTTP/2 as PyPI's `h2` and curl speak it: what the gateway serves, and the cost of floods."""
import socket
import ssl
import subprocess
import time

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest

import world
from world import TOKENS, Gateway, free_port

MIB = 1024 * 1024
USERS = "/api/v1/users/users/"
MOST = 200 * MIB


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, running_upstream):
    """A gateway with a second listener, which uses TLS."""
    folder = tmp_path_factory.mktemp("http2")
    gateway = Gateway(folder)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=gw.test",
         "-addext", "subjectAltName=DNS:gw.test,IP:127.0.0.1", "-keyout", folder / "gw.key", "-out", folder / "gw.crt"], check=True, capture_output=True)
    (folder / "gw.key").chmod(0o600)
    gateway.tls_port = free_port()
    listener = f'\n[[listeners]]\naddress = "127.0.0.1:{gateway.tls_port}"\ntls = {{ cert = "gw.crt", key = "gw.key" }}\n'
    gateway.configure(world.config(running_upstream) + listener, limits='body_timeout = "2s"\nheader_timeout = "2s"')
    gateway.start()
    yield gateway
    assert gateway.stop() == 0


class Consumer:
    """A connection of PyPI's `h2`."""

    def __init__(self, gateway, **config):
        context = ssl.create_default_context(cafile=gateway.folder / "gw.crt")
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", gateway.tls_port), 10)
        self.socket = context.wrap_socket(raw, server_hostname="gw.test")
        assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8", **config))
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, path=USERS, *more, method="GET", end=True, token=TOKENS["onboarding"]):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", "gw.test"), (":path", path), ("authorization", f"Bearer {token}")]
        self.h2.send_headers(stream, head + list(more), end_stream=end)
        return stream

    def events(self, seconds=10):
        self.socket.settimeout(seconds)
        while True:
            data = self.socket.recv(65536)
            if not data:
                return
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                yield event
            self.flush()

    def answers(self, streams):
        """Status and body of each stream."""
        heads, bodies, open_streams = {}, {stream: b"" for stream in streams}, set(streams)
        for event in self.events():
            if isinstance(event, h2.events.ResponseReceived):
                heads[event.stream_id] = int(dict(event.headers)[":status"])
            elif isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] += event.data
            elif isinstance(event, h2.events.StreamReset):
                heads[event.stream_id] = f"reset {event.error_code}"
                open_streams.discard(event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                open_streams.discard(event.stream_id)
            if not open_streams:
                return {stream: (heads[stream], bodies[stream]) for stream in streams}
        raise AssertionError(f"the connection ended before {open_streams}")

    def ended(self, seconds=10):
        """Whether the gateway closes the connection in time."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


def test_a_hundred_requests_at_once_are_each_answered(gateway, upstream):
    consumer = Consumer(gateway)
    streams = [consumer.ask(f"{USERS}?limit={number}") for number in range(100)]
    consumer.flush()
    answers = consumer.answers(streams)
    assert {status for status, _ in answers.values()} == {200}
    assert len(upstream.seen()) == 100


def test_a_large_body_passes_in_both_directions(gateway, upstream):
    consumer = Consumer(gateway)
    stream = consumer.ask("/api/v1/echo/x/", ("content-type", "application/octet-stream"), method="POST", end=False)
    data, sent = b"z" * (3 * MIB), 0
    consumer.flush()
    while sent < len(data):
        room = min(consumer.h2.local_flow_control_window(stream), consumer.h2.max_outbound_frame_size, len(data) - sent)
        if room == 0:
            for event in consumer.h2.receive_data(consumer.socket.recv(65536)):
                assert not isinstance(event, h2.events.StreamReset)
            continue
        consumer.h2.send_data(stream, data[sent:sent + room], end_stream=sent + room == len(data))
        sent += room
        consumer.flush()
    status, body = consumer.answers([stream])[stream]
    assert status == 200, body[:300]
    assert upstream.only()["wire_length"] == len(data)
    export = consumer.ask(f"/api/v1/audits/export/?bytes={5 * MIB}")
    consumer.flush()
    status, body = consumer.answers([export])[export]
    assert (status, len(body)) == (200, 5 * MIB)


def test_curl_speaks_it(gateway, upstream):
    done = subprocess.run(
        ["curl", "-sS", "--http2", "--cacert", gateway.folder / "gw.crt", "--resolve", f"gw.test:{gateway.tls_port}:127.0.0.1", "-w", "\n%{http_version} %{http_code}",
         "-H", f"Authorization: Bearer {TOKENS['onboarding']}", f"https://gw.test:{gateway.tls_port}{USERS}"], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[-1] == "2 200", done
    assert upstream.only()["target"] == USERS


def reset_quickly(consumer, number):
    stream = consumer.ask()
    consumer.h2.reset_stream(stream, 8)


def ping(consumer, number):
    consumer.h2.ping(number.to_bytes(8, "big"))


def change_settings(consumer, number):
    consumer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65535 + number % 2})


def raw_frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def continue_for_ever(consumer, number):
    consumer.socket.sendall(raw_frame(1, 0, 1) if number == 0 else raw_frame(9, 0, 1, b"\x00\x01a\x01" + b"b" * 100))


def say_nothing(consumer, number):
    if number == 0:
        consumer.ask(method="POST", end=False)
        consumer.flush()
    consumer.socket.sendall(raw_frame(0, 0, 1) * 10)


def make_room(consumer, number):
    consumer.socket.sendall(raw_frame(8, 0, 0, b"\0\0\0\1") * 10)


def make_room_for_an_answer(consumer, number):
    if number == 0:
        consumer.ask(method="POST", end=False)
        consumer.flush()
    consumer.socket.sendall(raw_frame(8, 0, 1, b"\0\0\0\1") * 10)


@pytest.mark.parametrize("flood", [reset_quickly, ping, change_settings, continue_for_ever, say_nothing, make_room, make_room_for_an_answer])
def test_a_flood_ends_its_connection_and_costs_little(gateway, upstream, flood):
    connections = []
    for _ in range(20):
        consumer = Consumer(gateway)
        try:
            for number in range(20_000):
                flood(consumer, number)
                if number % 50 == 49:
                    consumer.flush()
        except OSError:
            pass
        else:
            assert consumer.ended(), f"{flood.__name__} went on"
        connections.append(consumer)
    resident, peak = gateway.resident()
    print(f"{flood.__name__}: resident {resident / MIB:.1f} MiB, peak {peak / MIB:.1f}")
    assert peak < MOST
    told = [event for event in gateway.trail.events() if event.get("reason", "").startswith("connection abuse")]
    assert len(told) >= 1
    consumer = Consumer(gateway)
    stream = consumer.ask()
    consumer.flush()
    assert consumer.answers([stream])[stream][0] == 200


def test_a_small_head_that_becomes_a_large_one_is_refused(gateway, upstream):
    """Fifty thousand references to one field of four thousand bytes: an HPACK bomb."""
    before, consumer = len(gateway.trail.events()), Consumer(gateway)
    encoder = hpack.Encoder()
    head = [(":method", "GET"), (":scheme", "https"), (":authority", "gw.test"), (":path", USERS), ("x-bomb", "b" * 4000)]
    block = encoder.encode(head, huffman=False) + b"\xbe" * 16_000
    pieces = [block[at:at + 16_000] for at in range(0, len(block), 16_000)]
    try:
        for stream in range(1, 101, 2):
            consumer.socket.sendall(raw_frame(1, 1, stream, pieces[0]))
            for at, piece in enumerate(pieces[1:], 2):
                consumer.socket.sendall(raw_frame(9, 4 if at == len(pieces) else 0, stream, piece))
    except OSError:
        pass  # the gateway may close the connection because of it
    world.until(lambda: any(event.get("code") == "malformed" for event in gateway.trail.events()[before:]))
    _, peak = gateway.resident()
    assert peak < MOST and upstream.seen() == []


def test_consumers_that_take_nothing_are_cut_off_and_cost_little(gateway, upstream):
    """Answers of 5 MiB, a hundred on each of ten connections, of which the client reads no byte."""
    consumers = []
    for _ in range(10):
        consumer = Consumer(gateway)
        for _ in range(100):
            consumer.ask(f"/api/v1/audits/export/?bytes={5 * MIB}")
        consumer.flush()
        consumers.append(consumer)
    time.sleep(4)
    _, peak = gateway.resident()
    print(f"peak {peak / MIB:.1f} MiB")
    assert peak < MOST
    for consumer in consumers:
        resets = sum(isinstance(event, h2.events.StreamReset) for event in drained(consumer))
        assert resets == 100


def drained(consumer):
    consumer.socket.settimeout(3)
    while True:
        try:
            data = consumer.socket.recv(65536)
        except TimeoutError:
            return
        if not data:
            return
        yield from consumer.h2.receive_data(data)
