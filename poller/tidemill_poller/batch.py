"""Batches of one partition: when one closes, what is in it, how it is cut.

Owns AWS's three limits (records, window, 6 MB of the serialised event), bisecting and keeping a part. Pure:
`now_s` is an argument. The lane feeds and takes; nothing here knows of functions, commits or Kafka.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tidemill_poller.event import EventSource, Record, UndeliverableRecord, event_bytes, event_json

# The request limit of a synchronous Invoke, in the service's own words:
# "Request must be smaller than 6291456 bytes for the InvokeFunction operation".
PAYLOAD_BYTES_MAX: Final = 6_291_456

_RECORD_OBJECT_BYTES: Final = 500  # a ConsumerRecord, its attributes and the slots that point at it, about
_COMPACT_AFTER: Final = 4096  # taken records that may linger in the list before it is cut

ClosedBy = Literal["size", "time", "bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """What closes a batch."""

    records: int
    window_s: float
    payload_bytes: int = PAYLOAD_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records of one partition in offset order, each with its JSON.

    `places` are the records' places in the batch that was taken first: neighbours in it are neighbours in the
    log as polled, a jump is a record that was settled earlier (a partial batch response).
    """

    source: EventSource
    records: Sequence[Record]
    parts: Sequence[bytes]
    parts_bytes: int  # of all parts together
    closed_by: ClosedBy
    filtered: int = 0
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def first_offset(self) -> int:
        """The lowest offset in the batch."""
        return self.records[0].offset

    @property
    def last_offset(self) -> int:
        """The highest offset in the batch."""
        return last_offset(self.records[-1])

    @property
    def undeliverable(self) -> UndeliverableRecord | None:
        """The batch's only record if it must not be invoked; such a record has a batch of its own."""
        first = self.records[0]
        return first if isinstance(first, UndeliverableRecord) else None

    @property
    def payload_bytes(self) -> int:
        """The exact size of the event."""
        return event_bytes(self.source, len(self.parts), self.parts_bytes)

    def payload(self) -> bytes:
        """Return the event."""
        return event_json(self.source, self.parts)

    def runs(self) -> list[tuple[int, int]]:
        """Return (first, last) offsets of each stretch without a settled record between."""
        runs: list[tuple[int, int]] = []
        start = 0
        for i in range(1, len(self.records) + 1):
            if i == len(self.records) or self.places[i] != self.places[i - 1] + 1:
                runs.append((self.records[start].offset, last_offset(self.records[i - 1])))
                start = i
        return runs

    def cut(self, start: int, stop: int) -> Batch:
        """Return the records from `start` up to `stop`."""
        return self._sub(self.records[start:stop], self.parts[start:stop], self.places[start:stop])

    def bisect(self) -> tuple[Batch, Batch]:
        """Return the two halves in order, the first the larger if they differ; never of a single record."""
        assert len(self.records) > 1
        middle = (len(self.records) + 1) // 2
        return self.cut(0, middle), self.cut(middle, len(self.records))

    def keep(self, indices: Iterable[int]) -> Batch:
        """Return only the records at these indices, in order."""
        kept = sorted(indices)
        return self._sub(
            [self.records[i] for i in kept], [self.parts[i] for i in kept], [self.places[i] for i in kept]
        )

    def _sub(self, records: Sequence[Record], parts: Sequence[bytes], places: Sequence[int]) -> Batch:
        return Batch(
            source=self.source,
            records=records,
            parts=parts,
            parts_bytes=sum(map(len, parts)),
            closed_by=self.closed_by,
            places=places,
        )


def last_offset(record: Record) -> int:
    """Return the last offset that a record covers: its own, but for what stands for a whole batch."""
    return record.last_offset if isinstance(record, UndeliverableRecord) else record.offset


def held_bytes(count: int, parts_bytes: int) -> int:
    """Estimate what records cost in memory: their JSON, the raw value beside it, and the objects."""
    return 2 * parts_bytes + _RECORD_OBJECT_BYTES * count


class ByteBudget:
    """Bytes held by all lanes of a process together; one writer, the event loop's thread."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.used_bytes = 0

    @property
    def spent(self) -> bool:
        """Whether lanes that hold something may fetch no more; one that holds nothing always may."""
        return self.used_bytes >= self._limit_bytes

    @property
    def free_bytes(self) -> int:
        """What may still be fetched; never negative."""
        return max(self._limit_bytes - self.used_bytes, 0)

    def take(self, amount_bytes: int) -> None:
        """Count bytes in."""
        self.used_bytes += amount_bytes

    def give_back(self, amount_bytes: int) -> None:
        """Count bytes out."""
        self.used_bytes -= amount_bytes
        assert self.used_bytes >= 0, "what is given back was taken"


class Buffer:
    """The records of one partition that wait to be batched, oldest first."""

    def __init__(self, source: EventSource, limits: BatchLimits) -> None:
        self._source = source
        self._limits = limits
        self._records: list[Record] = []  # both lists run in parallel; what is before _start was taken
        self._parts: list[bytes] = []
        self._start = 0
        self._arrivals: deque[tuple[int, float]] = deque()  # (last offset of a poll, when it came)
        self._alone: deque[int] = deque()  # offsets of undeliverable records: each is a batch
        self._parts_bytes = 0
        self._filtered = 0

    def __len__(self) -> int:
        return len(self._records) - self._start

    @property
    def first_offset(self) -> int | None:
        """The oldest waiting offset."""
        return self._records[self._start].offset if len(self) else None

    def add(
        self,
        records: Sequence[Record],
        parts: Sequence[bytes],
        *,
        parts_bytes: int,
        now_s: float,
        filtered: int,
        undeliverable: Sequence[int] = (),
    ) -> None:
        """Append what a poll brought and the filter let through; `filtered` it did not.

        `undeliverable` are the offsets of records that must be in a batch of their own.
        """
        self._filtered += filtered
        self._alone += undeliverable
        if not records:
            return
        self._records += records
        self._parts += parts
        self._parts_bytes += parts_bytes
        self._arrivals.append((records[-1].offset, now_s))

    def closes(self, *, now_s: float, opened_s: float, full: bool) -> ClosedBy | None:
        """Return why a batch may be taken now, or None while it should wait.

        The window runs from `opened_s` (the end of the last invocation, or of the last batch) or from the
        oldest record's arrival, whichever is later. `full`: nothing is polled until something is taken, so
        waiting is idle.
        """
        if not len(self):
            return None
        if self._alone or len(self) >= self._limits.records:
            return "size"
        if full or event_bytes(self._source, len(self), self._parts_bytes) >= self._limits.payload_bytes:
            return "bytes"
        return "time" if now_s >= self.deadline_s(opened_s) else None

    def deadline_s(self, opened_s: float) -> float:
        """When the oldest record's window ends; asked only while something waits."""
        return max(opened_s, self._arrivals[0][1]) + self._limits.window_s

    def take(self, closed_by: ClosedBy, *, up_to_offset: int | None = None) -> Batch | None:
        """Take the next batch: what fits, at least one record.

        With `up_to_offset` it takes none beyond that offset; None if there are none.
        """
        wanted = len(self) if up_to_offset is None else self._count_up_to(up_to_offset)
        wanted = min(wanted, self._limits.records)
        if self._alone:
            wanted = min(wanted, self._count_up_to(self._alone[0] - 1) or 1)
        parts = self._parts[self._start : self._start + wanted]
        count, parts_bytes = self._fitting(parts)
        if not count:
            return None
        stop = self._start + count
        batch = Batch(
            source=self._source,
            records=self._records[self._start : stop],
            parts=parts if count == wanted else parts[:count],
            parts_bytes=parts_bytes,
            closed_by=closed_by if count == wanted else "bytes",
            filtered=self._filtered,
            places=range(count),
        )
        self._advance(stop, batch)
        return batch

    def _count_up_to(self, offset: int) -> int:
        return bisect_right(self._records, offset, lo=self._start, key=lambda r: r.offset) - self._start

    def _fitting(self, parts: Sequence[bytes]) -> tuple[int, int]:
        """Return the number, and the bytes, of the leading parts whose event fits; one alone always does."""
        limit = self._limits.payload_bytes
        total = sum(map(len, parts))
        if event_bytes(self._source, len(parts), total) <= limit:
            return len(parts), total
        count = parts_bytes = 0
        for part in parts:
            if count and event_bytes(self._source, count + 1, parts_bytes + len(part)) > limit:
                break
            count, parts_bytes = count + 1, parts_bytes + len(part)
        return count, parts_bytes

    def _advance(self, stop: int, batch: Batch) -> None:
        self._parts_bytes -= batch.parts_bytes
        self._filtered = 0
        self._start = stop
        while self._alone and self._alone[0] <= batch.last_offset:
            self._alone.popleft()
        if stop == len(self._records):
            self._records, self._parts, self._start = [], [], 0
            self._arrivals.clear()
            return
        if stop > _COMPACT_AFTER and stop * 2 > len(self._records):
            del self._records[:stop], self._parts[:stop]
            self._start = 0
        while self._arrivals[0][0] <= batch.last_offset:
            self._arrivals.popleft()
