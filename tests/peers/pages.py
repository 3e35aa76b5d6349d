"""The pages of the documentation, and their blocks as a reader runs them: in order, in one new folder, in one shell.

| in a page | treatment |
| --- | --- |
| ```` ```sh ```` | run; any failing command fails the page |
| ```` ```python ```` | run by the interpreter of these tests |
| ```` ```toml title="add to claviger.toml" ```` | added to that file; `title="NAME"` alone makes the file NAME |
| ```` ```text ```` | the blocks since the last such block must have printed each of its lines; `…` stands for any text |
| `<!-- norun: reason -->` | the block after it is not run |
| `<!-- after: PAGE -->` | the blocks of that page are run first |
"""
import collections
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import unicodedata

from world import CLAVIGER, ROOT, free_port

DOCS = ROOT / "docs"
FENCE = re.compile(r"(?:<!-- norun: (?P<norun>[^>]+) -->\s*)?^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.M | re.S)
AFTER = re.compile(r"^<!-- after: (\S+) -->$", re.M)
KNOWN = {"sh", "python", "toml", "text", "json"}

Block = collections.namedtuple("Block", "language title text norun")

# The gateway's binary as on a reader's path: `serve` returns once the gateway is ready, and secrets come from files.
COMMAND = r"""#!/usr/bin/env bash
set -euo pipefail
name=${3:-}
case "${1:-} ${2:-}" in
serve*)
    if [ -e "$PAGE/pid" ]; then kill "$(cat "$PAGE/pid")" 2>/dev/null || true; while kill -0 "$(cat "$PAGE/pid")" 2>/dev/null; do sleep 0.05; done; fi
    setsid "$CLAVIGER" "$@" </dev/null >>"$PAGE/gateway.log" 2>&1 &
    echo $! >"$PAGE/pid"
    for _ in $(seq 200); do
        if "$CLAVIGER" ready >/dev/null 2>&1; then exit 0; fi
        if ! kill -0 "$(cat "$PAGE/pid")" 2>/dev/null; then break; fi
        sleep 0.05
    done
    cat "$PAGE/gateway.log"
    exit 1 ;;
"credential add" | "credential rotate")
    case " $* " in *" --secret-file "*) exec "$CLAVIGER" "$@" ;; esac
    "$CLAVIGER" "$@" <"$PAGE/secrets/$name" ;;
"audit fingerprint")
    "$CLAVIGER" "$@" <"$PAGE/secrets/found" ;;
"token issue")
    "$CLAVIGER" "$@" | tee "$PAGE/last"
    grep -o 'clv_[A-Za-z0-9]*' "$PAGE/last" | tail -n 1 >"$PAGE/token" ;;
"access-key issue")
    "$CLAVIGER" "$@" | tee "$PAGE/last"
    sed -n 's/^id *//p' "$PAGE/last" >"$PAGE/key-id"
    sed -n 's/^secret *//p' "$PAGE/last" >"$PAGE/key-secret" ;;
init*)
    "$CLAVIGER" "$@"
    find . -name claviger.toml -exec sed -i -f "$PAGE/places" {} + ;;
*)
    exec "$CLAVIGER" "$@" ;;
esac
"""


def pages(language="en"):
    return sorted((DOCS / language).rglob("*.md"))


def blocks(page):
    return blocks_in(page.read_text())


def blocks_in(text):
    found = [Block(**block.groupdict()) for block in FENCE.finditer(text)]
    assert len(found) * 2 == len(re.findall("^```", text, re.M)), f"a block that is not read in\n{text}"
    return found


def before(page):
    """The pages that this one requires first, and the page itself."""
    named = AFTER.search(page.read_text())
    return [*before(DOCS / "en" / named[1]), page] if named else [page]


class Reader:
    """Follows pages in a folder: `places` maps the pages' texts to the real places, `secrets` are the typed secrets."""

    def __init__(self, folder, places, secrets):
        self.folder, self.state = folder / "work", folder / "page"
        for made in (self.folder, self.state, self.state / "secrets", self.state / "bin", self.state / "out"):
            made.mkdir(mode=0o700)
        ports = [free_port() for _ in range(3)]
        self.places = {
            **places,
            "https://gateway.example.com:7443": f"https://127.0.0.1:{ports[2]}",
            "https://gateway.example.com": f"http://127.0.0.1:{ports[0]}",
            "127.0.0.1:7070": f"127.0.0.1:{ports[0]}", "127.0.0.1:7071": f"127.0.0.1:{ports[1]}", "0.0.0.0:7443": f"127.0.0.1:{ports[2]}",
        }
        (self.state / "places").write_text("".join(f"s|{re.escape(said)}|{true}|g\n" for said, true in self.places.items()))
        for name, secret in secrets.items():
            (self.state / "secrets" / name).write_text(secret)
        self.command("claviger", COMMAND)
        self.command("pidof", 'cat "$PAGE/pid"\n')
        # A busy machine gets one second more than a page says.
        self.command("sleep", 'case $1 in *.*) ;; *) set -- $(($1 + 1)) ;; esac\nexec "$(PATH=${PATH#*:} command -v sleep)" "$1"\n')

    def command(self, name, text):
        file = self.state / "bin" / name
        file.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}")
        file.chmod(0o755)

    def placed(self, text):
        for said, true in self.places.items():
            text = text.replace(said, true)
        for said, file in (("clv_…", "token"), ("KEY_ID", "key-id"), ("KEY_SECRET", "key-secret")):
            text = text.replace(said, f'$(cat "$PAGE/{file}")')
        return text

    def line(self, number, block):
        """The shell lines for a block."""
        out = f'>"$PAGE/out/{number}" 2>&1 </dev/null'
        if block.language == "sh":
            return f"{{\n{self.placed(block.text)}\n}} {out}\n"
        if block.language == "python":
            file = self.state / f"{number}.py"
            token = f"open({str(self.state / 'token')!r}).read().strip()"
            file.write_text(self.placed(block.text.replace('"clv_…"', token)))
            return f"{shlex.quote(sys.executable)} {shlex.quote(str(file))} {out}\n"
        if block.language == "toml":
            added = block.title.startswith("add to ")
            file, text = block.title.removeprefix("add to "), self.placed(block.text)
            return f"cat {'>>' if added else '>'}{shlex.quote(file)} <<'END OF FILE'\n\n{text}END OF FILE\n: {out}\n"
        return f": {out}\n"

    def follow(self, done):
        """Runs the blocks and returns the output of each."""
        script = "set -euo pipefail\n" + "".join(self.line(number, block) for number, block in enumerate(done))
        environment = {**os.environ, "PATH": f"{self.state / 'bin'}:{os.environ['PATH']}", "PAGE": str(self.state), "CLAVIGER": CLAVIGER}
        environment.pop("CLAVIGER_CONFIG", None)
        try:
            ended = subprocess.run(["bash", "-c", script], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)
        finally:
            self.stop()
        outs = sorted((self.state / "out").iterdir(), key=lambda file: int(file.name))
        printed = [file.read_text(errors="replace") for file in outs]
        if ended.returncode:
            log = self.state / "gateway.log"
            said = log.read_text()[-2000:] if log.exists() else ""
            raise AssertionError(f"exit {ended.returncode} in\n{done[len(outs) - 1].text}\nprinted:\n{printed[-1]}\n{ended.stderr}\ngateway:\n{said}")
        return printed

    def stop(self):
        pid = self.state / "pid"
        if pid.exists():
            try:
                os.kill(int(pid.read_text()), signal.SIGTERM)
            except ProcessLookupError:
                pass


def missing(done, printed):
    """The lines of `text` blocks that were not printed."""
    lacking, since = [], ""
    for block, out in zip(done, printed):
        if block.language != "text":
            since += out
            continue
        for line in filter(None, block.text.splitlines()):
            if not re.search(r"[^\n]*".join(map(re.escape, line.strip().split("…"))), since):
                lacking.append(f"{line!r} is not in\n{since}")
        since = ""
    return lacking


COMMENTED = {"sh", "python", "toml"}
HEADING = re.compile(r"^(?P<level>#+) (?P<title>.*?)(?: \{ #(?P<anchor>\S+) \})?$", re.M)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

Shape = collections.namedtuple("Shape", "after headings anchors blocks tables code links numbers")


def twins():
    """The pages in both languages, each in English and in Chinese, the README first."""
    return [(ROOT / "README.md", ROOT / "README.zh.md"), *((DOCS / "en" / page.relative_to(DOCS / "zh"), page) for page in pages("zh"))]


def plain(block):
    """A block without its comments, which differ between the languages."""
    lines = block.text.splitlines()
    if block.language in COMMENTED:
        lines = [re.sub(r"(^|\s+)#.*$", "", line).rstrip() for line in lines]
    return block.language, block.title, block.norun, [line for line in lines if line]


def anchor(title):
    """The anchor that Markdown gives to an English heading."""
    ascii_alone = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_alone).strip().lower())


def cells(line):
    return re.split(r"(?<!\\)\|", line.strip())[1:-1]


def shape(text):
    """The common shape of a translated page and its original. Prose is compared section by section."""
    prose = FENCE.sub("", text)
    headings = list(HEADING.finditer(prose))
    bounds = [0, *(heading.end() for heading in headings), len(prose)]
    sections = [prose[begin:end] for begin, end in zip(bounds, bounds[1:])]
    words = [LINK.sub("", CODE.sub("", section)) for section in sections]
    return Shape(
        after=AFTER.findall(text),
        headings=[heading["level"] for heading in headings],
        anchors=[heading["anchor"] or anchor(heading["title"]) for heading in headings[1:]],
        blocks=list(map(plain, blocks_in(text))),
        tables=[[sorted(CODE.findall(cell)) for cell in cells(line)] for line in prose.splitlines() if line.startswith("|")],
        code=[set(CODE.findall(section)) for section in sections],
        links=[sorted(LINK.findall(section)) for section in sections],
        numbers=[set(NUMBER.findall(section)) for section in words],
    )
