#!/usr/bin/env python3
"""Does what each instruction of the Dockerfile says, without an engine, and runs what comes of it.

A stage is a folder. COPY takes from the folder's files as .dockerignore leaves them; RUN lines run as they
stand, with the caches of this machine in the place of the engine's; of the last image there is what the
binary links to. Then the health check, the gateway and its end run in there as the image's user, who can
write nowhere but in its volume. Needs root, for chroot and another user."""
import fnmatch
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
# The libraries of gcr.io/distroless/cc-debian12 that a binary of Rust may link to.
OFFERED = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "linux-vdso.so.1"}
SETTINGS = {"LABEL", "USER", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def instructions():
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, rest = line.split(None, 1)
            yield word, " ".join(rest.split())


def in_context(path):
    """Whether .dockerignore leaves `path`, relative to the top, to the engine. The last pattern that matches counts."""
    kept = True
    for pattern in (ROOT / ".dockerignore").read_text().split("\n"):
        if pattern and not pattern.startswith("#"):
            above = [str(part) for part in [path, *path.parents]]
            if any(fnmatch.fnmatchcase(part, pattern.lstrip("!")) for part in above):
                kept = pattern.startswith("!")
    return kept


class Stage:
    def __init__(self, folder, image):
        self.root, self.image, self.workdir, self.settings = folder, image, "/", {}
        folder.mkdir(mode=0o755)

    def at(self, path):
        return self.root / os.path.join(self.workdir, path).lstrip("/")

    def copy(self, words, stages):
        options = dict(word[2:].split("=") for word in words if word.startswith("--"))
        *sources, to = [word for word in words if not word.startswith("--")]
        assert set(options) <= {"from", "chown"}, options
        for source in sources:
            origin = stages[options["from"]].at(source) if "from" in options else ROOT / source
            target = self.at(to) / origin.name if to.endswith("/") else self.at(to)
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            assert origin.exists(), f"COPY {source}: it is not there"
            for file in [origin, *origin.rglob("*")] if origin.is_dir() else [origin]:
                if "from" in options or file.is_dir() or in_context(file.relative_to(ROOT)):
                    made = target / file.relative_to(origin)
                    made.mkdir(exist_ok=True) if file.is_dir() else shutil.copy2(file, made)
                    shutil.copystat(file, made)
                    os.chown(made, *map(int, options.get("chown", "0:0").split(":")))
            assert target.is_file() or "from" in options or any(target.rglob("*")), f"COPY {source}: all of it is ignored"

    def run(self, command):
        for mount in re.findall(r"--mount=type=cache,target=(\S+)", command):
            assert mount in (f"{self.workdir}/target", "/usr/local/cargo/registry"), f"a cache at {mount}"
        self.at("target").symlink_to(TARGET)
        variables = dict(os.environ)
        if shutil.which("rustup"):
            # The compiler that the tree is built with here, so that what it has built already is used again.
            active = subprocess.run(["rustup", "show", "active-toolchain"], cwd=ROOT, capture_output=True, text=True, check=True)
            variables["RUSTUP_TOOLCHAIN"] = active.stdout.split()[0]
        command = re.sub(r"--mount=\S+ ", "", command)
        assert not re.search(r"(^|\s)/", command), "an absolute path would be one of this machine"
        subprocess.run(["sh", "-ec", command], cwd=self.at("."), env=variables, check=True)


def build(folder):
    stages, stage = {}, None
    for word, rest in instructions():
        if word == "FROM":
            image, name = (rest.split(" AS ") + ["last"])[:2]
            stage = stages[name] = Stage(folder / name, image)
        elif word == "WORKDIR":
            stage.workdir = rest
            stage.at(".").mkdir(parents=True)
        elif word == "COPY":
            stage.copy(rest.split(), stages)
        elif word == "RUN":
            stage.run(rest)
        else:
            assert word in SETTINGS, f"{word}: this check does not know how to do that"
            stage.settings[word] = rest
        print(f"ok {word} {rest}"[:140], flush=True)
    return stages["build"], stages["last"]


def link(image, binary):
    """Puts beside the binary what the last image would offer it."""
    for line in subprocess.run(["ldd", image.at(binary)], capture_output=True, text=True, check=True).stdout.splitlines():
        name = os.path.basename(line.split()[0])
        assert name in OFFERED, f"the last image has no {name}"
        for path in re.findall(r"(/\S+) \(0x", line):
            made = image.at(path)
            made.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            shutil.copy(path, made)


def configure(image, user):
    """The least configuration, its secret handed over as systemd and Kubernetes do: root's, for one group to read."""
    with socket.socket() as data, socket.socket() as admin:
        ports = []
        for probe in (data, admin):
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    etc = image.at(image.settings["ENV"].split("=")[1]).parent
    etc.mkdir(mode=0o755, parents=True)
    own = f'state_dir = {image.settings["VOLUME"].strip("[]")}\nlisteners = [{{ address = "127.0.0.1:{ports[0]}" }}]\nadmin.address = "127.0.0.1:{ports[1]}"\n'
    (etc / "claviger.toml").write_text(own + (ROOT / "config/minimal.toml").read_text())
    (etc / "jms.secret").write_text("fake-secret-of-the-image")
    (etc / "jms.secret").chmod(0o440)
    os.chown(etc / "jms.secret", 0, user[1])
    return ports[0]


def run(image):
    user = [int(number) for number in image.settings["USER"].split(":")]
    assert 0 not in user
    exec_form = {word: json.loads(image.settings[word].split("CMD ")[-1]) for word in ("ENTRYPOINT", "CMD", "HEALTHCHECK")}
    link(image, exec_form["ENTRYPOINT"][0])
    port = configure(image, user)
    volume = image.at(json.loads(image.settings["VOLUME"])[0])
    assert volume.stat().st_uid == user[0] and volume.stat().st_mode & 0o022 == 0

    def enter():
        os.chroot(image.root)
        os.chdir("/")
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])

    def start(argv):
        variables = dict([image.settings["ENV"].split("=")])
        return subprocess.Popen(argv, preexec_fn=enter, env=variables, stdin=subprocess.DEVNULL)

    health = lambda: start(exec_form["HEALTHCHECK"]).wait(10)
    assert health() == 1, "nothing runs, and it is healthy"
    gateway = start(exec_form["ENTRYPOINT"] + exec_form["CMD"])
    try:
        until = time.monotonic() + 20
        while health() != 0:
            assert gateway.poll() is None and time.monotonic() < until, "it never becomes healthy"
            time.sleep(0.1)
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/api/v1/users/", timeout=10)
            raise AssertionError("a call without a token was let through")
        except urllib.error.HTTPError as refused:
            assert refused.code == 401, refused
        gateway.send_signal(signal.Signals[image.settings["STOPSIGNAL"]])
        assert gateway.wait(35) == 0, "it does not end well"
    finally:
        gateway.kill()
        gateway.wait()
    trail = "".join(path.read_text() for path in (volume / "audit").glob("*.jsonl"))
    assert '"code":"unauthenticated"' in trail, trail
    strays = [path for path in image.root.rglob("*") if path.lstat().st_uid == user[0] and volume not in [path, *path.parents]]
    assert not strays, f"written outside the volume: {strays}"


def main():
    if os.geteuid() != 0:
        sys.exit("tests/deploy/image.py: needs root, for chroot and another user")
    assert not in_context(pathlib.Path("state/master.key")) and not in_context(pathlib.Path("rust-toolchain.toml"))
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        first, last = build(pathlib.Path(folder))
        version = re.search(r'rust-version = "(.+)"', (ROOT / "Cargo.toml").read_text())[1]
        assert first.image == f"rust:{version}-bookworm" and "-debian12:" in last.image, (first.image, last.image)
        assert last.settings["EXPOSE"] in (ROOT / "config/claviger.toml").read_text().split("address = \"127.0.0.1:")[1]
        run(last)
    print("1 passed: the image is built, healthy, and ends well")


main()
