"""What aiokafka fetched, taken from it before it decodes anything; `client` asks for it.

Owns the hooks into aiokafka's fetcher (its version is pinned) and the order in which partitions are read. The
batches of a partition wait compressed, in its fetcher, in the place of its reader. See docs/decisions/0605.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiokafka.consumer.fetcher import FetchResult
from aiokafka.structs import TopicPartition

from tidemill_poller.batch import ByteBudget
from tidemill_poller.event import Record, UndeliverableRecord
from tidemill_poller.source.record_batches import FetchReader

_ROOM_BYTES_MIN: Final = 64 * 1024  # a poll's share when the budget is spent: nobody is starved
_FETCHES_MAX: Final = 3  # of a batch that cannot be read: the fault may be the connection's
_BACKOFF_S: Final = 0.1
_LARGE: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inflate")
"""Large batches, of all mappings one at a time: a second one would hold as much memory again."""
_WIDE: Final = threading.Lock()
"""Held by who reads a batch with a wide window, 128 MiB at most; others try again at their next poll."""


class Fetches:
    """The fetched batches of one consumer, as records. For the event loop's thread."""

    def __init__(self, consumer: Any, budget: ByteBudget, *, read_committed: bool) -> None:
        self._consumer = consumer
        self._budget = budget
        self._read_committed = read_committed
        self._fetcher: Any = None
        self._faults: dict[TopicPartition, tuple[int, int]] = {}  # offset, and how often it was fetched
        self._held_bytes = 0
        self._is_closed = False

    def attach(self) -> None:
        """Take what is fetched from here on; called before the first position is set."""
        fetcher = self._consumer._fetcher  # noqa: SLF001 - see above
        if fetcher is not self._fetcher:
            self._fetcher = fetcher
            fetching = fetcher._proc_fetch_request  # noqa: SLF001 - see above

            async def fetch(assignment: Any, node_id: int, request: Any) -> bool:
                return await self._fetch(fetching, assignment, node_id, request)

            fetcher._proc_fetch_request = fetch  # noqa: SLF001 - see above
            fetcher._client = _Unread(fetcher._client)  # noqa: SLF001 - see above

    def close(self) -> None:
        """Give every byte back."""
        self._is_closed = True
        self._budget.give_back(self._held_bytes)
        self._held_bytes = 0

    async def _fetch(self, fetching: Any, assignment: Any, node_id: int, request: Any) -> bool:
        # The broker gives one batch all the same, of a partition of which nothing waits.
        request._max_bytes = min(request._max_bytes, max(self._budget.free_bytes, 1))  # noqa: SLF001 - see above
        request.fetched = []  # filled by _Unread
        woke = bool(await fetching(assignment, node_id, request))
        if not assignment.active:
            return woke
        offsets = {
            TopicPartition(topic, entry[0]): entry[1]
            for topic, entries in request.topics
            for entry in entries
        }
        for tp, data, aborted, end in request.fetched:
            state = assignment.state_value(tp)
            if state is None or not state.has_valid_position or state.position != offsets.get(tp):
                continue
            reader = FetchReader(
                tp.topic,
                tp.partition,
                data,
                offset=state.position,
                end=end,
                aborted=aborted,
                read_committed=self._read_committed,
            )
            self._fetcher._records[tp] = FetchResult(  # noqa: SLF001 - see above
                tp, assignment=assignment, partition_records=reader, backoff=_BACKOFF_S
            )
            woke = True
        self._count_held()
        return woke

    async def poll(
        self, partitions: Collection[TopicPartition], *, timeout_s: float, records_max: int
    ) -> dict[TopicPartition, list[Record]]:
        """Return records as `AIOKafkaConsumer.getmany` does, as many as the budget has room for."""
        consumer, ends_s = self._consumer, time.monotonic() + timeout_s
        consumer._coordinator.check_errors()  # noqa: SLF001 - see above
        with consumer._subscription.fetch_context():  # noqa: SLF001 - see above
            while True:
                if consumer._subscription.reassignment_in_progress:  # noqa: SLF001 - see above
                    await consumer._subscription.wait_for_assignment()  # noqa: SLF001 - see above
                polled = await self._take(set(partitions), records_max)
                left_s = ends_s - time.monotonic()
                if polled or left_s <= 0:
                    return polled
                waiter = self._fetcher._create_fetch_waiter()  # noqa: SLF001 - see above
                try:
                    await asyncio.wait([waiter], timeout=left_s)
                    if not waiter.done():
                        return {}
                    waiter.result()
                finally:
                    waiter.cancel()

    async def _take(
        self, wanted: Collection[TopicPartition], records_max: int
    ) -> dict[TopicPartition, list[Record]]:
        fetched = self._fetcher._records  # noqa: SLF001 - see above
        polled: dict[TopicPartition, list[Record]] = {}
        ready = [tp for tp in fetched if tp in wanted]
        for tp in [tp for tp in fetched if tp not in wanted and not self._assigned(tp)]:
            del fetched[tp]
        room = max(self._budget.free_bytes, _ROOM_BYTES_MIN)
        for tp in ready:
            entry = fetched.get(tp)
            if entry is None or records_max <= 0:
                continue
            if type(entry) is not FetchResult:
                if not polled:
                    self._drop(tp)
                    entry.check_raise()
                continue
            records = await self._read(tp, entry, records_max, max(room // len(ready), 1))
            if records:
                polled[tp] = records
                records_max -= len(records)
        self._count_held()
        return polled

    async def _read(self, tp: TopicPartition, entry: Any, records_max: int, bytes_max: int) -> list[Record]:
        """Read one partition's share; the partition is the last in turn for the next poll."""
        fetched, reader = self._fetcher._records, entry._partition_records  # noqa: SLF001 - see above
        if not entry.check_assignment(tp):
            self._drop(tp)
            return []
        position = reader.next_fetch_offset
        records = reader.read(records_max=records_max, bytes_max=bytes_max)
        if reader.large and not records:
            records = await self._read_large(reader, records_max, bytes_max)
        if fetched.get(tp) is not entry or not self._stands_at(entry, tp, position):
            return []  # revoked, or sought elsewhere, meanwhile
        if records and self._fetch_again(tp, records[0]):
            self._drop(tp)
            return []
        entry._update_position()  # noqa: SLF001 - see above
        if reader.done:
            self._drop(tp)
        else:
            fetched.move_to_end(tp)
        return list(records)

    async def _read_large(self, reader: FetchReader, records_max: int, bytes_max: int) -> list[Record]:
        """Read of a batch that inflates to much; nothing while another one's window is that wide."""
        loop = asyncio.get_running_loop()
        records: list[Record] = []
        is_mine = False
        try:
            while reader.large and not records:
                if reader.wide and not is_mine:
                    is_mine = _WIDE.acquire(blocking=False)
                    if not is_mine:
                        break
                records = await loop.run_in_executor(
                    _LARGE, lambda: reader.read(records_max=records_max, bytes_max=bytes_max, large=True)
                )
            reader.rest()  # not when cancelled: the thread still reads, and nobody will after it
        finally:
            if is_mine:
                _WIDE.release()
        return records

    def _fetch_again(self, tp: TopicPartition, first: Record) -> bool:
        """Whether a batch that cannot be read is fetched once more."""
        if not isinstance(first, UndeliverableRecord) or first.condition != "BatchUnreadable":
            return False
        offset, fetches = self._faults.get(tp, (-1, 0))
        fetches = fetches + 1 if offset == first.offset else 1
        self._faults[tp] = first.offset, fetches
        return fetches < _FETCHES_MAX

    def _stands_at(self, entry: Any, tp: TopicPartition, position: int) -> bool:
        assignment = entry._assignment  # noqa: SLF001 - see above
        return bool(assignment.active and assignment.state_value(tp).position == position)

    def _assigned(self, tp: TopicPartition) -> bool:
        return bool(self._consumer._subscription.is_assigned(tp))  # noqa: SLF001 - see above

    def _drop(self, tp: TopicPartition) -> None:
        """Let the partition be fetched again, from its position."""
        fetcher = self._fetcher
        fetcher._records.pop(tp, None)  # noqa: SLF001 - see above
        fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001 - see above

    def _count_held(self) -> None:
        """Count what waits: fetched batches, and those that are inflated in part."""
        if self._is_closed:
            return
        entries = self._fetcher._records.values()  # noqa: SLF001 - see above
        readers = [entry._partition_records for entry in entries if type(entry) is FetchResult]  # noqa: SLF001 - see above
        held = sum(reader.held_bytes for reader in readers if reader is not None)
        self._budget.give_back(self._held_bytes)
        self._budget.take(held)
        self._held_bytes = held


class _Unread:
    """The fetcher's client; keeps the batches of a fetch from aiokafka's readers."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        response = await self._client.send(node_id, request, **options)
        if not hasattr(request, "fetched"):
            return response
        topics = []
        for topic, partitions in response.topics:
            kept = []
            for partition, error_code, end, *rest in partitions:
                if error_code == 0 and rest[-1]:
                    aborted = _aborted(response.API_VERSION, rest)
                    request.fetched.append((TopicPartition(topic, partition), rest[-1], aborted, end))
                    rest[-1] = b""
                kept.append((partition, error_code, end, *rest))
            topics.append((topic, kept))
        response.topics = topics
        return response


def _aborted(version: int, rest: list[Any]) -> Any:
    """Return the aborted transactions of a partition, as aiokafka finds them."""
    if version >= 11:  # noqa: PLR2004 - Fetch v11 has the preferred replica behind them
        return rest[2]
    return rest[-2] if version >= 4 else ()  # noqa: PLR2004 - and before v4 there were none
