"""A destination in memory: takes failure records, or fails as told. Held to the contract of the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tidemill_poller.destinations import FailureRecord
from tidemill_poller.errors import DestinationUnavailable


class RecordingDestination:
    """Keeps what it took, in order. `refuse` makes the next sends fail; `taken` wakes who waits for one."""

    def __init__(self) -> None:
        self.records: list[FailureRecord] = []
        self.trace_headers: list[dict[str, str]] = []
        self.refused = 0
        self.taken = asyncio.Event()
        self._refusals: list[DestinationUnavailable] = []

    def refuse(self, times: int, reason: str = "the queue is not there", *, retriable: bool = True) -> None:
        self._refusals += [DestinationUnavailable(reason, retriable=retriable) for _ in range(times)]

    async def send(self, record: FailureRecord, *, trace_headers: Mapping[str, str]) -> None:
        if self._refusals:
            self.refused += 1
            raise self._refusals.pop(0)
        self.records.append(record)
        self.trace_headers.append(dict(trace_headers))
        self.taken.set()
