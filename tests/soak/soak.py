#!/usr/bin/env python3
"""Runs a gateway at half load for SOAK_SECONDS (default 3600) while things happen to it every few seconds. No call may fail
that should not, memory and open files must stay, and the trail must be intact with one outcome for each call.

    CLAVIGER_BIN   the gateway; else the release build, which is made if needed
    SOAK_SEED      the order of what happens (default 1)

Nothing but Python's standard library. Exit code 0 where everything held."""
import itertools
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid

import consumers
import upstream
import verdict
from verdict import wait

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
SECONDS = int(os.environ.get("SOAK_SECONDS") or 3600)
PAUSE = 4  # seconds between what happens
STEADY = [f"tool-{number}" for number in range(4)]

CONFIG = """
state_dir = "state"
[[listeners]]
address = "127.0.0.1:{port}"
[admin]
address = "127.0.0.1:{admin}"
[audit]
rotate = "32MiB"
[limits]
upstream_timeout = "2s"
auth_failures_per_minute = 0
refusals_per_minute = 1000000
[upstreams.steady]
profile = "jumpserver"
endpoint = "http://127.0.0.1:{steady}"
org = "00000000-0000-0000-0000-000000000002"
credential = "steady"
scheme.access-key = {{}}
[upstreams.shaky]
profile = "jumpserver"
endpoint = "http://127.0.0.1:{shaky}"
org = "00000000-0000-0000-0000-000000000002"
credential = "shaky"
scheme.access-key = {{}}
[[routes]]
prefix = "/"
upstream = "steady"
[[routes]]
prefix = "/shaky"
upstream = "shaky"
[roles.most]
allow = [{{ paths = ["/**"] }}]
deny = [{{ methods = ["DELETE"], paths = ["/**"] }}]
"""
CONSUMER = """
[consumers.{name}]
[[grants]]
consumer = "{name}"
upstream = "steady"
roles = ["most"]
[[grants]]
consumer = "{name}"
upstream = "shaky"
roles = ["most"]
"""


def free_ports(count):
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Gateway:
    def __init__(self, folder, binary):
        self.folder, self.binary, self.config = folder, binary, folder / "claviger.toml"
        self.port, self.admin, steady, self.shaky_port = free_ports(4)
        ports = {"port": self.port, "admin": self.admin, "steady": steady, "shaky": self.shaky_port}
        names = [*STEADY, "shaky", "guest", "slow", "passing"]
        self.text = CONFIG.format(**ports) + "".join(CONSUMER.format(name=name) for name in names)
        (folder / "state").mkdir(mode=0o700)
        self.write("claviger.toml", self.text)
        self.steady, self.shaky = upstream.start(steady), upstream.start(self.shaky_port)
        for name in ("steady", "shaky"):
            self.ask("credential", "add", name, "--upstream", name, "--kind", "access-key", *self.key())
        self.tokens = {name: self.issue(name)["token"] for name in names}
        self.log = (folder / "gateway.log").open("wb")
        self.process = subprocess.Popen([binary, "serve", "--config", self.config], stdout=self.log, stderr=self.log)
        try:
            wait(self.ready, "the gateway is ready", 30)
        except AssertionError:
            self.process.kill()
            raise

    def write(self, name, text):
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def key(self):
        """A key that the upstreams know, as options."""
        key_id = str(uuid.uuid4())
        return "--id", key_id, "--secret-file", str(self.write("secret", upstream.secret_of(key_id)))

    def ask(self, *words):
        command = [self.binary, *words, "--config", self.config, "--output", "json"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: exit {done.returncode}: {done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def issue(self, consumer):
        return self.ask("token", "issue", "--consumer", consumer)

    def ready(self):
        return self.process.poll() is None and self.page("readyz") is not None

    def page(self, name):
        """A page of the admin listener, or None."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/{name}", timeout=5) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return None

    def figure(self, name):
        found = [line for line in (self.page("metrics") or "").splitlines() if line.startswith(name)]
        return float(found[0].split()[-1]) if found else None

    def stop(self):
        """What is wrong with how it ends."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.steady.terminate()
        self.shaky.terminate()
        return [f"the gateway ended with exit code {code}"] if code else []


class Happenings:
    """What happens to a gateway under load, each with what must follow."""

    def __init__(self, gateway):
        self.gateway, self.account, self.counts = gateway, consumers.Account(), {}
        self.all = [self.reload, self.rotation, self.token, self.freeze, self.restart]

    def one(self, happening):
        happening()
        self.counts[happening.__name__] = self.counts.get(happening.__name__, 0) + 1

    def seen(self, token, path="/api/v1/users/"):
        caller = consumers.Caller(self.gateway.port, token, self.account)
        status = caller.call("asked", "GET", path, set(range(100, 600)))
        caller.close()
        return status

    def reload(self):
        name = "claviger_config_last_reload_success_timestamp_seconds"
        before = self.gateway.figure(name)
        time.sleep(1)
        self.gateway.write("claviger.toml", f"{self.gateway.text}# {time.time()}\n")
        self.gateway.process.send_signal(signal.SIGHUP)
        wait(lambda: self.gateway.figure(name) != before, "the configuration was reloaded")

    def rotation(self):
        self.gateway.ask("credential", "rotate", "steady", "--yes", *self.gateway.key())

    def token(self):
        issued = self.gateway.issue("passing")
        wait(lambda: self.seen(issued["token"]) == 200, "a new token is good")
        self.gateway.ask("token", "revoke", issued["id"], "--yes")
        wait(lambda: self.seen(issued["token"]) == 401, "a revoked token is not")

    def freeze(self):
        token = self.gateway.tokens["guest"]
        self.gateway.ask("freeze", "--consumer", "guest", "--yes")
        wait(lambda: self.seen(token) in (403, 503), "a frozen consumer is refused")
        self.gateway.ask("unfreeze", "--consumer", "guest", "--yes")
        wait(lambda: self.seen(token) == 200, "a unfrozen one is served")

    def restart(self):
        token = self.gateway.tokens["shaky"]
        self.gateway.shaky.kill()
        self.gateway.shaky.join()
        wait(lambda: self.seen(token, "/shaky/api/ok") == 502, "an upstream that is away is told")
        self.gateway.shaky = upstream.start(self.gateway.shaky_port)
        wait(lambda: self.seen(token, "/shaky/api/ok") == 200, "it is back", 20)


def soak(gateway, seconds, happenings):
    """What the consumers saw, what is wrong, and how the gateway's size went."""
    tokens, wrong = gateway.tokens, []
    flat_out = consumers.Crowd(gateway.port, [(consumers.steady, tokens[name], 1e6) for name in STEADY])
    time.sleep(5)
    account = flat_out.end()
    most = sum(account.statuses.values()) / 5
    rate = min(most / 2, verdict.free_for_a_trail(gateway.folder, seconds))
    print(f"flat out {most:.0f} calls/s; from here on {rate:.0f}/s for {seconds} s", flush=True)

    samples = verdict.Samples(gateway.process.pid)
    others = [(consumers.shaky, tokens["shaky"], 5), (consumers.guest, tokens["guest"], 5), (consumers.stranger, "clv_fake", 2)]
    others += [(consumers.slow, tokens["slow"], 1)] * 4
    crowd = consumers.Crowd(gateway.port, [(consumers.steady, tokens[name], rate / len(STEADY)) for name in STEADY] + others)
    begun, chance = time.monotonic(), random.Random(int(os.environ.get("SOAK_SEED") or 1))
    for number in itertools.count():
        left = begun + seconds - time.monotonic()
        if left <= 0 or gateway.process.poll() is not None:
            break
        if number % len(happenings.all) == 0:
            order = chance.sample(happenings.all, len(happenings.all))
        try:
            happenings.one(order[number % len(order)])
        except AssertionError as missed:
            wrong.append(f"{order[number % len(order)].__name__}: {missed}")
        time.sleep(max(0, min(PAUSE, begun + seconds - time.monotonic())))
    samples.end()
    account.add(crowd.end())
    account.add(happenings.account)
    return account, wrong, samples


def judged(gateway, account, wrong, samples):
    """Everything that is wrong, after the gateway has ended; prints the figures."""
    wrong += [f"{count} times {what}" for what, count in account.wrong.most_common(20)]
    wrong += samples.wrong()
    verified = subprocess.run([gateway.binary, "audit", "verify", "--config", gateway.config], capture_output=True, text=True)
    if verified.returncode != 0:
        wrong.append(f"audit verify: {verified.stdout}{verified.stderr}")
    trail = verdict.Trail(gateway.folder / "state" / "audit")
    wrong += trail.wrong(account.statuses)
    log = (gateway.folder / "gateway.log").read_text(errors="replace")
    wrong += [line for line in log.splitlines() if "panicked" in line][:5]

    (memory, memory_later), (files, files_later) = samples.compared()
    print(f"calls {sum(account.statuses.values())}: " + ", ".join(f"{status} {count}" for status, count in sorted(account.statuses.items())))
    print(f"steady calls: half within {account.percentile(0.5)} ms, 99 of 100 within {account.percentile(0.99)} ms")
    print(f"memory {memory:.0f} KiB after the first tenth, {memory_later:.0f} at the end; open files {files:.0f}, {files_later:.0f}")
    print(f"trail {trail.bytes >> 20} MiB, outcomes: " + ", ".join(f"{ended} {count}" for ended, count in trail.ended.items()))
    print(f"audit verify: {verified.stdout.strip().splitlines()[0] if verified.stdout.strip() else verified.returncode}")
    return wrong


def main():
    binary = os.environ.get("CLAVIGER_BIN")
    if not binary:
        subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
        binary = TARGET / "release" / "claviger"
    binary = pathlib.Path(binary).resolve()
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-", dir=TARGET) as folder:
        gateway = Gateway(pathlib.Path(folder), binary)
        try:
            happenings = Happenings(gateway)
            account, wrong, samples = soak(gateway, SECONDS, happenings)
            wrong += gateway.stop()
        finally:
            gateway.process.kill()
        print("happened: " + ", ".join(f"{name} {count}" for name, count in happenings.counts.items()))
        wrong = judged(gateway, account, wrong, samples)
        if wrong:
            print((gateway.folder / "gateway.log").read_text(errors="replace")[-2000:])
    for what in wrong:
        print(f"WRONG {what}")
    print("the soak held" if not wrong else f"{len(wrong)} things did not hold")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
