"""The recorded signatures are right: two independent implementations produce the same ones."""
import base64
import hmac
import json

import pytest
from httpsig.sign import HeaderSigner
from httpsig.utils import parse_authorization_header
from httpsig.verify import HeaderVerifier

from world import ROOT

VECTORS = ROOT / "tests" / "vectors"
SIGNATURES = json.loads((VECTORS / "signatures.json").read_text())
MACS = json.loads((VECTORS / "hmac.json").read_text())


def named(rows):
    return pytest.mark.parametrize("vector", rows, ids=[row["name"] for row in rows])


def request_headers(vector):
    return {name: value for name, value in vector["headers"] if name != "(request-target)"}


@named(SIGNATURES)
def test_the_standard_library_makes_the_same_signature(vector):
    signing_string = "\n".join(f"{name}: {value}" for name, value in vector["headers"])
    mac = hmac.digest(vector["secret"].encode(), signing_string.encode("ascii"), "sha256")
    assert base64.b64encode(mac).decode() == vector["expected"]


@named(SIGNATURES)
def test_the_request_target_follows_from_method_and_target(vector):
    for name, value in vector["headers"]:
        if name == "(request-target)":
            assert value == f"{vector['method'].lower()} {vector['target']}"


@named(SIGNATURES)
def test_the_scripts_client_makes_the_same_signature(vector):
    signer = HeaderSigner(vector["key_id"], vector["secret"], vector["algorithm"], [name for name, _ in vector["headers"]])
    signed = signer.sign(request_headers(vector), method=vector["method"], path=vector["target"])
    _, fields = parse_authorization_header(signed["authorization"])
    assert (fields["signature"], fields["keyid"]) == (vector["expected"], vector["key_id"])


@named(SIGNATURES)
def test_the_upstreams_verifier_accepts_it_and_nothing_near_it(vector):
    names = " ".join(name for name, _ in vector["headers"])
    line = f'Signature keyId="{vector["key_id"]}",algorithm="{vector["algorithm"]}",headers="{names}",signature="{vector["expected"]}"'

    def verifies(secret=vector["secret"], **changed):
        headers = {**request_headers(vector), "authorization": line, **changed}
        return HeaderVerifier(headers, secret, method=vector["method"], path=vector["target"]).verify()

    assert verifies()
    assert not verifies(date="Mon, 17 Feb 2014 06:11:06 GMT")
    assert not verifies(secret=vector["secret"] + "x")


@named(MACS)
def test_the_published_hmac_is_the_standard_librarys(vector):
    mac = hmac.digest(bytes.fromhex(vector["key_hex"]), bytes.fromhex(vector["message_hex"]), "sha256").hex()
    assert len(vector["mac_hex"]) >= 32
    assert mac.startswith(vector["mac_hex"])
