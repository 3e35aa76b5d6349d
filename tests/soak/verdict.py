"""What a soak is judged by: the size of the process, and its trail."""
import collections
import json
import os
import pathlib
import statistics
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE")


class Samples(threading.Thread):
    """Resident memory in KiB, and open files, of a process, once a second."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.proc, self.taken, self.over = pathlib.Path(f"/proc/{pid}"), [], threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(1):
            try:
                resident = int((self.proc / "statm").read_text().split()[1]) * PAGE // 1024
                self.taken.append((resident, len(os.listdir(self.proc / "fd"))))
            except OSError:
                return  # It has ended; whoever asked for that knows.

    def end(self):
        self.over.set()
        self.join()

    def compared(self):
        """Medians of the second tenth and of the last: memory, then files."""
        tenth = max(1, len(self.taken) // 10)
        early, late = self.taken[tenth:2 * tenth], self.taken[-tenth:]
        return [(statistics.median(sample[at] for sample in early), statistics.median(sample[at] for sample in late)) for at in (0, 1)]

    def wrong(self):
        (memory, memory_later), (files, files_later) = self.compared()
        if memory_later > memory * 1.1:
            yield f"memory grew from {memory:.0f} to {memory_later:.0f} KiB"
        # A few more or fewer connections are open at any moment.
        if files_later > files + 8:
            yield f"open files grew from {files:.0f} to {files_later:.0f}"


class Trail:
    """Every event, read once: outcomes by status, and calls that have not one outcome. Only what is refused has one alone;
    all else must close an intent, so that what was closed can be forgotten: an hour has millions of calls."""

    def __init__(self, folder):
        self.statuses, self.ended, self.stray, self.bytes = collections.Counter(), collections.Counter(), [], 0
        self.open, alone = set(), set()
        for segment in sorted(folder.glob("*.jsonl")):
            for line in segment.open("rb"):
                self.bytes += len(line)
                event = json.loads(line)
                call = event.get("request_id")
                if event["event"] == "intent":
                    self.open.add(call)
                elif event["event"] == "outcome":
                    if call in self.open:
                        self.open.remove(call)
                    elif call in alone or event["ended"] != "refused":
                        self.stray.append(call)
                    else:
                        alone.add(call)
                    self.statuses[event.get("status")] += 1
                    self.ended[event["ended"]] += 1

    def wrong(self, seen):
        """`seen` is what the consumers were answered, by status."""
        if self.stray or self.open:
            yield f"{len(self.stray)} outcomes too many, {len(self.open)} calls without one: {[*self.stray, *self.open][:3]}"
        if self.statuses != seen:
            told, answered = dict(sorted(self.statuses.items())), dict(sorted(seen.items()))
            yield f"the trail has outcomes of {told}, consumers saw {answered}"


def free_for_a_trail(folder, seconds):
    """How many calls a second may be recorded so that a fifth of what is free is enough; one takes about 1.5 KiB."""
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize / 5 / 1536 / seconds


def wait(holds, what, seconds=5):
    """Waits until `holds()`; tells how long that took."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - begun
