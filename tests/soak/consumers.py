"""The consumers, each a process of its own: what they call, and what they may be answered."""
import collections
import http.client
import multiprocessing
import socket
import time

AWAY = {502, 504}


class Account:
    """What a consumer did and saw. `statuses` counts the calls that have an answer."""

    def __init__(self):
        self.statuses, self.kinds, self.tenths, self.wrong = (collections.Counter() for _ in range(4))

    def add(self, other):
        for name, counter in vars(other).items():
            vars(self)[name].update(counter)

    def percentile(self, share):
        """Milliseconds within which this share of the calls had their answer."""
        left = share * sum(self.tenths.values())
        for tenth in sorted(self.tenths):
            left -= self.tenths[tenth]
            if left <= 0:
                return tenth / 10
        return 0.0


class Caller:
    def __init__(self, port, token, account=None):
        self.port, self.account = port, account or Account()
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.connection, self.left = None, 0

    def call(self, kind, method, path, expected, body=None, slowly=False):
        """One call. An answer that is not `expected`, or none, is wrong; a body that is cut is told as `cut`."""
        begun, status, seen = time.monotonic(), None, None
        try:
            self.connect(slowly)
            self.connection.request(method, path, body, self.headers)
            answer = self.connection.getresponse()
            status = seen = answer.status
            left = answer.length
            while slowly and (more := answer.read(64 << 10)):
                left -= len(more)
                time.sleep(0.02)
            answer.read()
            if slowly and left:
                seen = "cut"
        except http.client.IncompleteRead:
            seen = "cut"
        except (OSError, http.client.HTTPException) as error:
            seen = f"{type(error).__name__} {error}"
        if status is not None:
            self.account.statuses[status] += 1
        if seen != status or status is None:
            self.left = 0
        self.account.kinds[kind, seen] += 1
        if kind == "steady":
            self.account.tenths[round((time.monotonic() - begun) * 10_000)] += 1
        if seen not in expected:
            self.account.wrong[f"{kind}: {method} {path.split('?')[0]} answered {seen}"] += 1
        return seen

    def connect(self, slowly):
        """Every 200 calls, or after a failed one, anew."""
        if self.left == 0:
            self.close()
            self.connection, self.left = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120), 200
            if slowly:
                # So little room that the gateway feels it.
                self.connection.sock = socket.socket()
                self.connection.sock.settimeout(120)
                self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
                self.connection.sock.connect(("127.0.0.1", self.port))
        self.left -= 1

    def close(self):
        if self.connection:
            self.connection.close()


def steady(caller, turn):
    """Nothing that happens meanwhile may make one of these fail."""
    if turn % 10 == 9:
        caller.call("steady", "POST", "/api/v1/users/", {200}, body=b'{"name":"fake"}' * (turn % 7))
    elif turn % 50 == 8:
        caller.call("denied", "DELETE", "/api/v1/users/7/", {403})
    else:
        caller.call("steady", "GET", f"/api/v1/users/?offset={turn}", {200})


def shaky(caller, turn):
    """What the upstream does is told, and told truly; while it restarts it is away."""
    path, expected = [("ok", {200}), ("500", {500}), ("close", {502}), ("cut", {"cut"}), ("ok", {200}), ("stall", {504})][turn % 6]
    caller.call("shaky", "GET", f"/shaky/api/{path}", expected | AWAY | ({"cut"} if path == "ok" else set()))


def guest(caller, turn):
    """Frozen now and then."""
    caller.call("guest", "GET", f"/api/v1/users/?search={turn}", {200, 403, 503})


def slow(caller, turn):
    """Takes seconds for what is there at once, and gets it whole."""
    caller.call("slow", "GET", "/api/v1/large/", {200}, slowly=True)


def stranger(caller, turn):
    """Has a token that was never issued."""
    caller.call("stranger", "GET", "/api/v1/users/", {401})


def run(behaviour, port, token, rate, stop, accounts):
    """Calls at `rate` a second until `stop` is set; where it is slower, what was missed is not made up for."""
    caller, turn, due = Caller(port, token), 0, time.monotonic()
    while not stop.is_set():
        pause = due - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        due = max(due, time.monotonic() - 0.1) + 1 / rate.value
        behaviour(caller, turn)
        turn += 1
    caller.close()
    accounts.put(caller.account)


class Crowd:
    """Consumers that were started together; `rate` is that of each, a second."""

    def __init__(self, port, of):
        context = multiprocessing.get_context("fork")
        self.stop, self.accounts = context.Event(), context.Queue()
        self.processes, self.rates = [], []
        for behaviour, token, rate in of:
            self.rates.append(context.Value("d", rate))
            arguments = (behaviour, port, token, self.rates[-1], self.stop, self.accounts)
            self.processes.append(context.Process(target=run, args=arguments, daemon=True))
            self.processes[-1].start()

    def end(self):
        """Lets every consumer finish its call, and sums up what they saw."""
        self.stop.set()
        account = Account()
        for _ in self.processes:
            account.add(self.accounts.get(timeout=150))
        for process in self.processes:
            process.join()
        return account
