"""Group members that run by themselves: in a thread, or in a process that can be killed -9.

`python -m tests.oracles.group_members LIBRARY BOOTSTRAP TOPIC GROUP` prints what it reads as JSON lines.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.oracles.kafka_clients import Consumer, Received, open_consumer

# Of a member that is to be killed: others wait so long for its partitions. The brokers of the tests allow it.
SHORT_SESSION_MS = 2_000
SHORT_SESSIONS = {"group.min.session.timeout.ms": "1000"}
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Member:
    """A group member in a thread: polls, remembers what it got, commits after each batch."""

    library: str
    bootstrap: str
    topics: Sequence[str]
    group_id: str
    assignor: str = "range"
    instance_id: str | None = None
    received: list[Received] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)
    assigned: frozenset[tuple[str, int]] = frozenset()
    fault: BaseException | None = None

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Leave the group and wait until that is done; raises what the library raised."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), f"{self.library} does not stop"
        if self.fault is not None:
            raise self.fault

    def _run(self) -> None:
        try:
            self._consume()
        except BaseException as fault:  # noqa: BLE001 - told to whoever leaves
            self.fault = fault

    def _consume(self) -> None:
        consumer = open_consumer(
            self.library,
            self.bootstrap,
            self.topics,
            self.group_id,
            assignor=self.assignor,
            instance_id=self.instance_id,
        )
        try:
            while not self._stop.is_set():
                batch = consumer.poll(0.1)
                self.assigned = consumer.assignment()
                self.received += batch
                self.arrived_s += [time.monotonic()] * len(batch)
                if batch:
                    self._commit(consumer)
        finally:
            consumer.close()

    def _commit(self, consumer: Consumer) -> None:
        try:
            consumer.commit()
        except Exception as fault:
            # A rebalance that began meanwhile refuses the commit; the records come again.
            if not _is_rebalance(fault):
                raise


def _is_rebalance(fault: Exception) -> bool:
    names = ("Rebalance", "CommitFailed", "IllegalGeneration", "UnknownMember", "ILLEGAL_GENERATION")
    return any(name in f"{type(fault).__name__} {fault}" for name in (*names, "REBALANCE", "_NO_OFFSET"))


class MemberProcess:
    """A group member in a process, to be killed -9: it has no chance to leave."""

    def __init__(self, library: str, bootstrap: str, topic: str, group_id: str) -> None:
        self.received: list[Received] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.oracles.group_members", library, bootstrap, topic, group_id],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(10)

    @property
    def partitions(self) -> set[int]:
        """The partitions that it has read from."""
        return {record.partition for record in self.received}

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            partition, offset, value = json.loads(line)
            self.received.append(
                Received(
                    topic="",
                    partition=partition,
                    offset=offset,
                    key=None,
                    value=value.encode(),
                    timestamp_ms=0,
                )
            )


def read_all(library: str, bootstrap: str, topic: str, count: int, *, group_id: str) -> list[Received]:
    """Read this many records of a topic in a group of one."""
    consumer = open_consumer(library, bootstrap, [topic], group_id)
    try:
        received: list[Received] = []
        deadline = time.monotonic() + 30
        while len(received) < count and time.monotonic() < deadline:
            received += consumer.poll(0.2)
        consumer.commit()
        return received
    finally:
        consumer.close()


def in_order(records: Iterable[Received]) -> bool:
    """Whether the numbers that are the values rise within each key."""
    last: dict[bytes | None, int] = {}
    for record in sorted(records, key=lambda record: (record.partition, record.offset)):
        number = int(record.value or b"-1")
        if number <= last.get(record.key, -1):
            return False
        last[record.key] = number
    return True


def _main(library: str, bootstrap: str, topic: str, group_id: str) -> None:
    consumer = open_consumer(library, bootstrap, [topic], group_id, session_ms=SHORT_SESSION_MS)
    while True:
        for record in consumer.poll(0.1):
            value = (record.value or b"").decode()
            print(json.dumps([record.partition, record.offset, value]), flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    _main(*sys.argv[1:])
