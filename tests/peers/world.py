"""The two processes under test, the stand-in upstream and the gateway, and the ways in which tests control them."""
import collections
import hashlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import requests

from trail import Trail

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLAVIGER = os.environ.get("CLAVIGER") or str(ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "claviger")

KEY_ID, SECRET = "f7373851-ea61-47bb-8357-000000000001", "d6ed1a06-66f7-4584-af18-000000000002"
ROTTEN_ID, ROTTEN_SECRET = "f7373851-ea61-47bb-8357-00000000000f", "00000000-66f7-4584-af18-00000000000f"
DEFAULT = "00000000-0000-0000-0000-000000000002"
BRANCH = "11111111-1111-4111-8111-111111111111"
VAULT = "22222222-2222-4222-8222-222222222222"  # known to the upstream, granted to nobody
PRIVATE_TOKEN = "0123456789abcdef0123456789abcdef01234567"
PASSWORDS = {"robot": "fake robot's \"pässword\" 张三", "careful": "fake careful's password"}  # `careful` has a second factor

TOKENS = {name: f"peers-{name}-" + hashlib.sha256(name.encode()).hexdigest()[:30] for name in ("onboarding", "reader", "stranger")}

HEAD = """\
state_dir = "state"

[[listeners]]
address = "127.0.0.1:{port}"

[admin]
address = "127.0.0.1:{admin_port}"

[limits]
auth_failures_per_minute = 0
{limits}
"""

CONFIG = """
[upstreams.jumpserver]
profile = "jumpserver"
endpoint = "http://{authority}"
org = "{DEFAULT}"
credential = "jms-test"
scheme.access-key = {{}}

[upstreams.rotten]
profile = "jumpserver"
endpoint = "http://{authority}"
org = "{DEFAULT}"
credential = "jms-rotten"
scheme.access-key = {{}}

[upstreams.by-token]
profile = "jumpserver"
endpoint = "http://{authority}"
org = "{DEFAULT}"
credential = "jms-token"
scheme.token = {{}}

[credentials.jms-token]
value = {{ file = "token.secret" }}

[credentials.jms-test]
access-key = {{ id = "{KEY_ID}", secret = {{ file = "jms.secret" }} }}

[credentials.jms-rotten]
access-key = {{ id = "{ROTTEN_ID}", secret = {{ file = "rotten.secret" }} }}

[[routes]]
prefix = "/"
upstream = "jumpserver"

[[routes]]
prefix = "/jumpserver"
upstream = "jumpserver"

[[routes]]
prefix = "/rotten"
upstream = "rotten"

[[routes]]
prefix = "/by-token"
upstream = "by-token"

[roles.everything]
allow = [ {{ paths = ["/**"] }} ]

[roles.read-users]
allow = [ {{ methods = ["GET"], paths = ["/api/v1/users/**"] }} ]

[[grants]]
consumer = "onboarding"
upstream = "jumpserver"
roles = ["everything"]
orgs = ["{DEFAULT}", "{BRANCH}"]

[[grants]]
consumer = "onboarding"
upstream = "rotten"
roles = ["everything"]

[[grants]]
consumer = "onboarding"
upstream = "by-token"
roles = ["everything"]

[[grants]]
consumer = "reader"
upstream = "jumpserver"
roles = ["read-users"]
orgs = ["{DEFAULT}"]
"""


def free_port():
    """A port below the system's range for connections, one of which could take it before the process listens."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := random.randrange(20_000, 32_000)))
                return port
            except OSError:
                pass


def wait_until_answers(process, url, log, seconds=20):
    """Waits until `url` answers 200; if the process ends or never answers, fails with the end of its log."""
    until, last = time.monotonic() + seconds, "no answer"
    while time.monotonic() < until and process.poll() is None:
        try:
            answer = direct("GET", url)
            if answer.status_code == 200:
                return
            last = f"{answer.status_code} {answer.text[:300]}"
        except requests.ConnectionError as away:
            last = str(away)
        time.sleep(0.05)
    state = "still running" if process.poll() is None else f"exit {process.returncode}"
    process.kill()
    raise AssertionError(f"{url} never answered 200 ({state}; {last}); its log ends:\n{log.read_text(errors='replace')[-3000:]}")


def direct(method, url, **kwargs):
    """One call over its own connection, ignoring the proxies of the environment."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=30, **kwargs)


def config(upstream):
    """The configuration that most tests need, for this upstream."""
    return CONFIG.format(authority=upstream.authority, **globals())


def until(holds, seconds=3):
    """Waits until `holds()`; fails if that does not happen in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


Place = collections.namedtuple("Place", "url key token")


class Upstream:
    def __init__(self, folder):
        self.port = free_port()
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.authority}"
        log = folder / "upstream.log"
        keys = {KEY_ID: SECRET, ROTTEN_ID: "not the secret that the gateway was given"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "jumpserver:application", "--host", "127.0.0.1", "--port", str(self.port),
             "--timeout-keep-alive", "2", "--no-proxy-headers", "--lifespan", "off", "--log-level", "warning"],
            cwd=HERE, env={**os.environ, "JUMPSERVER_KNOWS": json.dumps({"keys": keys, "token": PRIVATE_TOKEN, "passwords": PASSWORDS})},
            stdout=log.open("wb"), stderr=subprocess.STDOUT)
        wait_until_answers(self.process, f"{self.url}/api/health/", log)

    def reset(self, users=0, **logins):
        assert direct("GET", f"{self.url}/_reset/", params={"users": users, **logins}).json() == {"users": users}

    def expire(self):
        """Ends all logins."""
        direct("GET", f"{self.url}/_expire/")

    @property
    def logins(self):
        """The number of login attempts since the last reset."""
        return direct("GET", f"{self.url}/_logins/").json()["logins"]

    def seen(self):
        """Every request since the last reset, except the gateways' own health checks, which they send when there are no calls."""
        every = direct("GET", f"{self.url}/_seen/").json()
        is_own = lambda seen: seen["target"] == "/api/health/" and "authorization" not in {name.lower() for name, _ in seen["headers"]}
        return [seen for seen in every if not is_own(seen)]

    def only(self):
        """The only request since the last reset."""
        seen = self.seen()
        assert len(seen) == 1, f"the upstream should have seen one request, not {len(seen)}: {[(s['method'], s['target']) for s in seen]}"
        return seen[0]

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Gateway:
    def __init__(self, folder, upstream=None):
        if not os.access(CLAVIGER, os.X_OK):
            raise AssertionError(f"no gateway to test at {CLAVIGER}: build it, or say where it is with CLAVIGER=…")
        folder.chmod(0o700)
        self.folder, self.config = folder, folder / "claviger.toml"
        self.port, self.admin_port = free_port(), free_port()
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.authority}"
        self.trail = Trail(folder / "state" / "audit")
        self.log = folder / "gateway.log"
        (folder / "state").mkdir(mode=0o700)
        self.write("jms.secret", SECRET)
        self.write("rotten.secret", ROTTEN_SECRET)
        self.write("token.secret", PRIVATE_TOKEN)
        if upstream:
            self.configure(config(upstream))
        self.process = None

    def configure(self, text, limits=""):
        """A configuration with these upstreams, routes, roles and grants, and all consumers."""
        consumers = "".join(
            f'\n[consumers.{name}]\ntoken_sha256 = ["{hashlib.sha256(token.encode()).hexdigest()}"]\n' for name, token in TOKENS.items())
        self.write("claviger.toml", HEAD.format(port=self.port, admin_port=self.admin_port, limits=limits) + text + consumers)

    def write(self, name, text):
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)

    def start(self, stdout=None):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([CLAVIGER, "--config", str(self.config), "serve"], stdout=stdout or log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until_answers(self.process, f"http://127.0.0.1:{self.admin_port}/readyz", self.log)
        return self

    def stop(self):
        """Sends SIGTERM; returns the exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"the gateway did not end within 20 s of SIGTERM; its log ends:\n{self.log.read_text()[-3000:]}") from None

    def run(self, *words):
        """Runs `claviger --config FILE words…` to its end."""
        return subprocess.run([CLAVIGER, "--config", str(self.config), *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    def told(self, *words):
        """The JSON that a command prints with `--output json`; it must succeed."""
        done = self.run("--output", "json", *words)
        assert done.returncode == 0, f"claviger {' '.join(words)}: {done}"
        return json.loads(done.stdout)

    def access_key(self, consumer, *options):
        """Issues a virtual access key; returns its id and its secret."""
        issued = self.told("access-key", "issue", "--consumer", consumer, *options)
        return issued["id"], issued["secret"]

    def resident(self):
        """The present resident memory, and its peak since `forget_peak`, in bytes."""
        status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return tuple(int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))

    def forget_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


def session_for(consumer):
    """A plain `requests` session with the script's token, as scripts use it."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {TOKENS[consumer]}"
    return session


def explain(answer):
    """An answer in one line, for assertion messages."""
    return f"{answer.status_code} {dict(answer.headers)} {answer.content[:500]!r}"
