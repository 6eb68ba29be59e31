"""What one partition may commit, and what travels with the offset.

Owns the commit point: the lowest offset that was polled and is not settled (never a synthetic range, since
compaction and transaction markers leave gaps). Pure; the lane tells what is pending, the source commits what
is due. A revoked partition has nothing due, ever.

The commit's metadata carries the attempts and the cuts of the batch in progress, so that a rebalance, a
restart or a kill -9 neither resets a retry count nor joins halves again:

    {"tidemill":1,"pending":[[failed,first,last,first,last…],…]}      offsets relative to the committed one
    {"tidemill":1,"topic":"<id>",…}      the topic that the offset is of, where the cluster has topic ids

See docs/decisions/0600.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import orjson

from tidemill_poller.retry import Attempts

METADATA_BYTES_MAX: Final = 4096  # Kafka's offset.metadata.max.bytes
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A sub-batch that is not settled: stretches of polled offsets, and how often it was invoked."""

    runs: Sequence[tuple[int, int]]  # (first, last), ascending
    attempts: Attempts

    @property
    def first_offset(self) -> int:
        """The lowest pending offset."""
        return self.runs[0][0]

    @property
    def last_offset(self) -> int:
        """The highest pending offset."""
        return self.runs[-1][1]

    def after(self, offset: int) -> Pending | None:
        """Return what is left beyond an offset."""
        runs = [(max(first, offset + 1), last) for first, last in self.runs if last > offset]
        return Pending(runs=runs, attempts=self.attempts) if runs else None

    def holds(self, offset: int) -> bool:
        """Return whether the record at this offset is still to be delivered."""
        return any(first <= offset <= last for first, last in self.runs)


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """An offset (the next one to read, as Kafka counts) and the metadata to commit with it."""

    offset: int
    metadata: str = ""


class PartitionOffsets:
    """The offsets of one partition, from its assignment to its revocation."""

    def __init__(self, committed: CommitPoint) -> None:
        self.polled_to = committed.offset
        self._committed = committed
        self._settled = committed
        self._revoked = False

    @property
    def committed(self) -> int:
        """The offset that the group would continue from."""
        return self._committed.offset

    @property
    def settled(self) -> int:
        """The offset that the next commit names."""
        return self._settled.offset

    def polled(self, last_offset: int) -> None:
        """Note that everything up to this offset was polled."""
        assert last_offset >= self.polled_to, "a partition is polled in order"
        self.polled_to = last_offset + 1

    def settle(self, pending: Sequence[Pending], *, waiting: int | None) -> None:
        """Move the commit point: `pending` are the sub-batches in progress, `waiting` what follows them."""
        behind = self.polled_to if waiting is None else waiting
        offset = pending[0].first_offset if pending else behind
        assert offset >= self._settled.offset, "what was settled stays settled"
        self._settled = CommitPoint(offset, encode(offset, pending))

    def due(self) -> CommitPoint | None:
        """Return what is to be committed now; None when nothing moved, or nothing is ours any more."""
        return None if self._revoked or self._settled == self._committed else self._settled

    def confirm(self, point: CommitPoint) -> None:
        """Note that Kafka has acknowledged this commit."""
        self._committed = point

    def revoke(self) -> None:
        """Give the partition up: the next owner may have committed already."""
        self._revoked = True


def encode(offset: int, pending: Sequence[Pending]) -> str:
    """Write the metadata for a commit at `offset`; empty when the offset says it all."""
    if not _worth_writing(pending):
        return ""
    parts = [[p.attempts.failed, *(o - offset for run in p.runs for o in run)] for p in pending]
    text = _dump(parts)
    if len(text) > METADATA_BYTES_MAX:
        # Too many gaps: what was settled between is delivered again, but no attempt is forgotten.
        text = _dump([[part[0], part[1], part[-1]] for part in parts])
    return text if len(text) <= METADATA_BYTES_MAX else ""


def decode(offset: int, metadata: str, *, end: int | None = None) -> list[Pending]:
    """Read what `encode` wrote; whatever somebody else wrote there, or a newer version did, is nothing.

    So is a sub-batch that ends at or behind the log's `end`: nobody can have polled it.
    """
    try:
        found = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return []
    if not isinstance(found, dict) or found.get("tidemill") != _VERSION:
        return []
    parts = found.get("pending")
    if not isinstance(parts, list) or not all(_well_formed(part) for part in parts):
        return []
    pending = [
        Pending(
            attempts=Attempts(failed=part[0]),
            runs=[(offset + a, offset + b) for a, b in zip(part[1::2], part[2::2], strict=True)],
        )
        for part in parts
    ]
    if end is not None:
        pending = [part for part in pending if part.last_offset < end]
    return pending if _ascending(pending) else []


def with_topic(metadata: str, topic_id: str | None) -> str:
    """Add the id of the topic to a commit's metadata, if there is one and it fits."""
    if topic_id is None:
        return metadata
    head, pending = f'{{"tidemill":{_VERSION},', metadata.partition(",")[2]
    text = f'{head}"topic":"{topic_id}"' + (f",{pending}" if pending else "}")
    return text if len(text) <= METADATA_BYTES_MAX else metadata


def topic_of(metadata: str) -> str | None:
    """Return the id of the topic that an offset was committed for; None if nobody wrote one."""
    try:
        found = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return None
    topic = found.get("topic") if isinstance(found, dict) and found.get("tidemill") == _VERSION else None
    return topic if isinstance(topic, str) else None


def _worth_writing(pending: Sequence[Pending]) -> bool:
    return len(pending) > 1 or any(p.attempts.failed or len(p.runs) > 1 for p in pending)


def _dump(parts: list[list[int]]) -> str:
    return orjson.dumps({"tidemill": _VERSION, "pending": parts}).decode()


def _well_formed(part: Any) -> bool:
    return (
        isinstance(part, list)
        and len(part) >= 3  # noqa: PLR2004 - a count and at least one run
        and len(part) % 2 == 1
        and all(type(n) is int and n >= 0 for n in part)
    )


def _ascending(pending: Sequence[Pending]) -> bool:
    bounds = [run for part in pending for run in part.runs]
    return all(first <= last for first, last in bounds) and all(
        before[1] < after[0] for before, after in pairwise(bounds)
    )
