"""The inlet of a lane: filtered records wait here, counted in bytes, until a batch of them is taken.

Owns when a partition wants to be polled, when a batch may go, and the sub-batches that were left before this
lane opened: they are put together as they were, with the attempts they had. Called by the lane alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from tidemill_poller.batch import Batch, Buffer, ByteBudget, held_bytes
from tidemill_poller.event import EventSource, Record, UndeliverableRecord, records_json
from tidemill_poller.lane.dependencies import Filtering, LaneDependencies
from tidemill_poller.offsets import Pending
from tidemill_poller.retry import Attempts, resumed

# How long a sub-batch waits for its last record, beyond the window: retention may have taken it meanwhile.
_RESTORE_WAIT_S: Final = 5.0
_COPIES: Final = 2  # the event, and what of it the connection has not sent


class InputBuffer:
    """Records in, batches out; `now_s` is the event loop's time."""

    def __init__(
        self, dependencies: LaneDependencies, source: EventSource, restored: Sequence[Pending]
    ) -> None:
        self.restored = deque(restored)
        self._filter = dependencies.filter
        self._policy = dependencies.policy
        self._buffer = Buffer(source, dependencies.limits)
        self._budget: ByteBudget = dependencies.budget
        self._batch_records_max = dependencies.limits.records
        self._buffer_bytes_max = dependencies.buffer_bytes
        self._waiting_bytes = 0  # fed, not taken
        self._taken_bytes = 0  # taken, not released
        self._sent_bytes = 0  # copies of what is taken, in its event and on its way; nobody's reason to wait

    @property
    def held_bytes(self) -> int:
        """What waits and what is taken and not settled."""
        return self._waiting_bytes + self._taken_bytes

    @property
    def wants_records(self) -> bool:
        """Whether to poll: by this partition's bytes, and by those of all together. Empty always may."""
        held = self.held_bytes
        return not held or (held < self._buffer_bytes_max and not self._budget.spent)

    @property
    def first_offset(self) -> int | None:
        """The oldest offset that waits."""
        return self._buffer.first_offset

    def feed(self, records: Sequence[Record], *, now_s: float) -> int:
        """Keep the records that the filter wants; gives their number."""
        wanted = self._filter
        undeliverable = [r.offset for r in records if isinstance(r, UndeliverableRecord)]
        kept = records if wanted is None else [r for r in records if _wanted(wanted, r)]
        parts = records_json(kept)
        parts_bytes = sum(map(len, parts))
        held = held_bytes(len(parts), parts_bytes)
        self._waiting_bytes += held
        self._budget.take(held)
        self._buffer.add(
            kept,
            parts,
            parts_bytes=parts_bytes,
            now_s=now_s,
            filtered=len(records) - len(kept),
            undeliverable=undeliverable,
        )
        return len(kept)

    def deadline_s(self, opened_s: float) -> float | None:
        """When to look again though nothing new came; None: never."""
        if not len(self._buffer):
            return None
        return self._buffer.deadline_s(opened_s) + (_RESTORE_WAIT_S if self.restored else 0.0)

    def take(self, *, now_s: float, opened_s: float, polled_to: int) -> tuple[Batch, Attempts] | None:
        """Take the next batch if it may go now, and the attempts it had."""
        if self.restored:
            return self._take_restored(now_s, opened_s, polled_to)
        closed_by = self._buffer.closes(now_s=now_s, opened_s=opened_s, full=not self.wants_records)
        batch = self._buffer.take(closed_by) if closed_by else None
        if batch is None:
            return None
        self._count_out(batch)
        return batch, Attempts()

    def release(self) -> None:
        """Forget the batch that was taken last: it is settled."""
        self._budget.give_back(self._taken_bytes + self._sent_bytes)
        self._taken_bytes = self._sent_bytes = 0

    def clear(self) -> None:
        """Give every byte back; what waits will be read again by the next owner."""
        self._budget.give_back(self.held_bytes + self._sent_bytes)
        self._waiting_bytes = self._taken_bytes = self._sent_bytes = 0

    def _take_restored(self, now_s: float, opened_s: float, polled_to: int) -> tuple[Batch, Attempts] | None:
        head = self.restored[0]
        deadline_s = self.deadline_s(opened_s)
        whole = polled_to > head.last_offset
        full = len(self._buffer) >= self._batch_records_max or not self.wants_records
        if not whole and not full and (deadline_s is None or now_s < deadline_s):
            return None
        batch = self._buffer.take("size", up_to_offset=head.last_offset)
        self._shorten_head(head, batch, whole=whole)
        if batch is None:
            return None
        self._count_out(batch)
        left = [i for i, record in enumerate(batch.records) if head.holds(record.offset)]
        if not left:
            self.release()  # settled before the lane opened
            return None
        return batch.keep(left), resumed(self._policy, head.attempts)

    def _shorten_head(self, head: Pending, batch: Batch | None, *, whole: bool) -> None:
        """Keep what the taken batch leaves of the head; records that no longer exist are not waited for."""
        more = not whole or (self.first_offset is not None and self.first_offset <= head.last_offset)
        rest = head.after(batch.last_offset) if batch and more else None
        self.restored.popleft()
        if rest:
            self.restored.appendleft(rest)

    def _count_out(self, batch: Batch) -> None:
        self._taken_bytes = held_bytes(len(batch), batch.parts_bytes)
        self._waiting_bytes -= self._taken_bytes
        self._sent_bytes = _COPIES * batch.parts_bytes
        self._budget.take(self._sent_bytes)


def _wanted(wanted: Filtering, record: Record) -> bool:
    """Whether a record is kept; no filter can tell of one that cannot be read."""
    return isinstance(record, UndeliverableRecord) or wanted.matches(record.value)
