"""The trail's heads and proofs, checked with knowledge of RFC 6962 and C2SP's signed notes only, not of the gateway."""
import base64
import hashlib
import json

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

from world import Gateway, config, session_for

USERS = "/api/v1/users/users/"


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def root(leaves):
    """RFC 6962, section 2.1."""
    if len(leaves) < 2:
        return sha(b"\0", leaves[0]) if leaves else sha()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\1", root(leaves[:split]), root(leaves[split:]))


def opened(note, vkey):
    """The size and root of a checkpoint that the key has signed; raises an error if it has not."""
    name, hashed, key = vkey.strip().split("+", 2)
    key = base64.b64decode(key)
    assert key[0] == 1 and sha(name.encode(), b"\n", key)[:4].hex() == hashed
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    [signature] = [base64.b64decode(line.split(" ")[2]) for line in signatures.splitlines() if line.startswith(f"\u2014 {name} ")]
    assert signature[:4].hex() == hashed
    eddsa.new(ECC.import_key(b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00" + key[1:]), "rfc8032").verify(text.encode(), signature[4:])
    origin, size, head, *_ = text.splitlines()
    assert origin == name
    return int(size), base64.b64decode(head)


def proven(proof, vkey):
    """The event that a proof shows to be on the trail (C2SP tlog-proof)."""
    top, _, note = proof.partition("\n\n")
    form, extra, index, *hashes = top.split("\n")
    assert form == "c2sp.org/tlog-proof@v1"
    line, at = base64.b64decode(extra.removeprefix("extra ")), int(index.removeprefix("index "))
    size, head = opened(note, vkey)
    body, _, rest = line.rpartition(b',"hash":"')
    leaf = sha(body)
    assert leaf.hex() == rest.decode().removesuffix('"}')
    node, last = sha(b"\0", leaf), size - 1
    for part in map(base64.b64decode, hashes):  # RFC 9162, section 2.1.3.2
        if at % 2 or at == last:
            node = sha(b"\1", part, node)
            while at and not at % 2:
                at, last = at >> 1, last >> 1
        else:
            node = sha(b"\1", node, part)
        at, last = at >> 1, last >> 1
    assert last == 0 and node == head
    return json.loads(line)


@pytest.fixture
def busy(tmp_path, running_upstream):
    gateway = Gateway(tmp_path)
    gateway.configure(config(running_upstream) + '\n[audit]\ncheckpoint_events = 7\ncheckpoint_interval = "200ms"\norigin = "gw.test/trail"\nrotate = "32KiB"\n')
    gateway.start()
    yield gateway
    gateway.stop()


def test_every_head_is_signed_over_the_events_before_it(busy):
    with session_for("onboarding") as script:
        for _ in range(60):
            assert script.get(busy.url + USERS).status_code == 200
    assert busy.stop() == 0
    vkey, leaves, heads = (busy.folder / "state" / "audit.pub").read_text(), [], 0
    for line in busy.trail.lines():
        event = json.loads(line)
        if event["event"] == "head":
            assert opened(event["note"], vkey) == (len(leaves), root(leaves))
            heads += 1
        leaves.append(bytes.fromhex(event["hash"]))
    assert len(leaves) > 130 and heads > 10


def test_a_proof_is_taken_by_who_has_nothing_else(busy):
    with session_for("onboarding") as script:
        calls = [script.get(busy.url + f"{USERS}?limit={number + 1}").headers["X-Request-Id"] for number in range(40)]
    assert busy.stop() == 0
    vkey = busy.told("audit", "key")["key"]
    for number, call in enumerate(calls):
        event = proven(busy.told("audit", "prove", call)["proof"], vkey)
        assert (event["request_id"], event["target"], event["ended"]) == (call, f"{USERS}?limit={number + 1}", "answered")
