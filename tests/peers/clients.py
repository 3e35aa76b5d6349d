"""Clients that sign, as they exist: each makes one call with an access key's id and secret."""
import base64
import email.utils
import json
import os
import pathlib
import subprocess

import requests
from httpsig.requests_auth import HTTPSignatureAuth

HERE = pathlib.Path(__file__).resolve().parent
NODE_MODULES = os.environ.get("PEERS_NODE_MODULES", "")
THREE, TWO = ["(request-target)", "accept", "date"], ["(request-target)", "date"]


class Answer:
    def __init__(self, status, text):
        self.status, self.text = status, text

    def json(self):
        return json.loads(self.text)

    def __repr__(self):
        return f"{self.status} {self.text[:500]}"


class Httpsig:
    """`requests` with httpsig's `HTTPSignatureAuth`, as JumpServer's documentation shows it."""

    def __init__(self, signed, algorithm="hmac-sha256"):
        self.signed, self.algorithm = signed, algorithm

    def call(self, key, method, url, body=None, date=None):
        with requests.Session() as session:
            session.trust_env = False
            session.auth = HTTPSignatureAuth(key_id=key[0], secret=key[1], algorithm=self.algorithm, headers=self.signed)
            headers = {"Accept": "application/json", "Date": date or email.utils.formatdate(usegmt=True)}
            answer = session.request(method, url, json=body, headers=headers, timeout=30)
            return Answer(answer.status_code, answer.text)


class Node:
    """Node's `http` with `http-signature`, another implementation of the same draft."""

    def __init__(self, signed, algorithm="hmac-sha256"):
        self.signed, self.algorithm = signed, algorithm

    def call(self, key, method, url, body=None, date=None):
        asked = {"url": url, "method": method, "keyId": key[0], "secret": key[1], "algorithm": self.algorithm, "signed": self.signed,
                 "headers": {"Accept": "application/json"}}
        if date:
            asked["headers"]["Date"] = date
        if body is not None:
            asked["body"] = json.dumps(body)
            asked["headers"]["Content-Type"] = "application/json"
        done = subprocess.run(["node", "call.js"], cwd=HERE / "node", env={**os.environ, "NODE_PATH": NODE_MODULES},
                              input=json.dumps(asked), capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done
        told = json.loads(done.stdout)
        return Answer(told["status"], told["body"])


class Curl:
    """A shell script: openssl signs, curl sends, and `Accept` is curl's own."""

    def __init__(self, signed):
        self.signed = signed

    def call(self, key, method, url, body=None, date=None):
        date, target = date or email.utils.formatdate(usegmt=True), "/" + url.split("/", 3)[3]
        lines = {"(request-target)": f"{method.lower()} {target}", "accept": "*/*", "date": date}
        string = "\n".join(f"{name}: {lines[name]}" for name in self.signed)
        mac = subprocess.run(["openssl", "dgst", "-sha256", "-hmac", key[1], "-binary"], input=string.encode(), capture_output=True, check=True).stdout
        line = (f'Signature keyId="{key[0]}",algorithm="hmac-sha256",headers="{" ".join(self.signed)}",'
                f'signature="{base64.b64encode(mac).decode()}"')
        words = ["curl", "-sS", "--noproxy", "*", "-g", "-X", method, "-H", f"Date: {date}", "-H", f"Authorization: {line}", "-w", "\n%{http_code}", url]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
        text, _, status = done.stdout.rpartition("\n")
        return Answer(int(status), text)


SIGNERS = {
    "requests with httpsig, three headers": Httpsig(THREE),
    "requests with httpsig, two headers": Httpsig(TWO),
    "node http-signature, three headers": Node(THREE),
    "node http-signature, two headers": Node(TWO),
    "curl with openssl, three headers": Curl(THREE),
    "curl with openssl, two headers": Curl(TWO),
}
