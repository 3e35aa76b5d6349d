"""Reads the audit trail as a stranger with only its description would: files, lines, SHA-256."""
import hashlib
import json
import time


class Trail:
    def __init__(self, folder):
        self.folder = folder

    def segments(self):
        return sorted(self.folder.glob("*.jsonl"))

    def lines(self):
        """Every complete line, in order, without its newline; an unfinished last line is left out."""
        found = []
        for segment in self.segments():
            whole, _, _ = segment.read_bytes().rpartition(b"\n")
            found += whole.split(b"\n") if whole else []
        return found

    def events(self):
        return [json.loads(line) for line in self.lines()]

    def of(self, request_id, kinds=None, seconds=3):
        """The events of one call, in order; waits until they are of these `kinds`, then returns all."""
        until = time.monotonic() + seconds
        while True:
            events = [event for event in self.events() if event.get("request_id") == request_id]
            if kinds is None or [event["event"] for event in events] == list(kinds) or time.monotonic() > until:
                return events
            time.sleep(0.05)


def broken_links(lines):
    """The faults of a chain of lines: each line's own hash, its link to the line before, its number."""
    wrong, before = [], None
    for number, line in enumerate(lines, 1):
        event = json.loads(line)
        hashed, found, _ = line.rpartition(b',"hash"')
        if not found or list(event)[-1] != "hash":
            wrong.append(f"line {number}: hash is not the last member")
        if hashlib.sha256(hashed).hexdigest() != event.get("hash"):
            wrong.append(f"line {number}: its hash is not that of its bytes")
        if before is not None and event.get("prev") != before["hash"]:
            wrong.append(f"line {number}: prev is not the hash of line {number - 1}")
        if before is not None and event.get("seq") != before["seq"] + 1:
            wrong.append(f"line {number}: seq {event.get('seq')} follows {before['seq']}")
        before = event
    return wrong
