"""A handler that proves what it was given, and the reader of its proof.

The handler appends one line per invocation to a file per partition: `attempts` before it looks at the
records, `done` for those that it took. One write per line: a kill -9 loses a line but never mixes two.

See docs/decisions/0703.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

# A record whose value holds `poison` cannot be processed. One that holds `gate` stops its invocation while
# the test keeps the gate closed: whatever is killed meanwhile is killed in the middle.
SOURCE = """
import base64, json, os, pathlib, time

PROOF = pathlib.Path(os.environ["PROOF_DIR"])


def handler(event, context):
    failures = []
    for partition, records in event["records"].items():
        rows = [[r["offset"], text(r.get("key")), text(r.get("value"))] for r in records]
        note("attempts", partition, rows)
        for offset, _, value in rows:
            if "gate" in value:
                pass_gate(value)
        bad = [row for row in rows if "poison" in row[2]]
        if bad and not os.environ.get("PARTIAL"):
            raise ValueError(f"{len(bad)} of {len(rows)} records are poison")
        note("done", partition, [row for row in rows if row not in bad])
        failures += [{"itemIdentifier": {"partition": partition, "offset": row[0]}} for row in bad]
    return {"batchItemFailures": failures}


def text(encoded):
    return base64.b64decode(encoded or "").decode()


def note(kind, partition, rows):
    line = "\\n" + json.dumps(rows) + "\\n"
    file = os.open(PROOF / f"{kind}-{partition}", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)


def pass_gate(value):
    (PROOF / "at-gate.new").write_text(str(os.getpid()))
    os.replace(PROOF / "at-gate.new", PROOF / "at-gate")
    deadline = time.monotonic() + 15
    while not (PROOF / "gate-is-open").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
"""

Row = tuple[int, str, str]


@dataclass(frozen=True)
class Proof:
    """What the handler wrote, as (offset, key, value) per invocation and partition."""

    directory: Path

    def attempts(self, partition: str) -> list[list[Row]]:
        return self._read("attempts", partition)

    def done(self, partition: str) -> list[Row]:
        """All records taken in the order of the invocations, duplicates included."""
        return [row for rows in self._read("done", partition) for row in rows]

    def offsets_done(self, topic: str) -> set[tuple[int, int]]:
        """(partition, offset) of every record taken."""
        files = self.directory.glob(f"done-{topic}-*")
        found = set()
        for file in files:
            partition = int(file.name.rpartition("-")[2])
            found |= {(partition, row[0]) for row in self.done(f"{topic}-{partition}")}
        return found

    def handler_at_gate(self) -> int | None:
        """The pid of the handler that waits at the gate."""
        file = self.directory / "at-gate"
        return int(file.read_text()) if file.exists() else None

    def open_gate(self) -> None:
        (self.directory / "gate-is-open").touch()

    def close_gate(self) -> None:
        (self.directory / "gate-is-open").unlink()

    def _read(self, kind: str, partition: str) -> list[list[Row]]:
        file = self.directory / f"{kind}-{partition}"
        invocations = []
        for line in file.read_text().splitlines() if file.exists() else []:
            try:
                rows = json.loads(line)
            except ValueError:
                continue  # empty, or torn by a kill -9
            invocations.append([(row[0], row[1], row[2]) for row in rows])
        return invocations
