"""Group commit: replies that must not go out before an fsync wait here and share one.

While one fsync runs in the thread, more appends gather; the next fsync covers them all (flush.messages=1).
Called on the event loop by Produce; knows nothing of replies but that they wait.

See docs/decisions/0103.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tidemill_broker._core import PartitionLog
from tidemill_broker.log.growth import Growth


@dataclass(slots=True, eq=False)
class _Round:
    """All that one fsync of each of these partitions settles."""

    logs: dict[int, PartitionLog] = field(default_factory=dict)
    replies: list[tuple[asyncio.Future[bytes | None], bytes | None]] = field(default_factory=list)


class Flusher:
    """One thread that fsyncs; one round runs while the next one gathers."""

    def __init__(self, growth: Growth) -> None:
        self._growth = growth
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fsync")
        self._gathering = _Round()
        self._running = False

    def after(
        self, logs: Sequence[tuple[int, PartitionLog]], reply: bytes | None
    ) -> asyncio.Future[bytes | None]:
        """The reply, once these partitions are flushed; the future raises OSError if the disk fails."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes | None] = loop.create_future()
        self._gathering.logs.update(logs)
        self._gathering.replies.append((future, reply))
        if not self._running:
            self._begin(loop)
        return future

    def close(self) -> None:
        """Wait for the running round; nobody may call `after` any more."""
        self._thread.shutdown()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        round_, self._gathering, self._running = self._gathering, _Round(), True

        def flushed(work: ThreadFuture[None]) -> None:
            loop.call_soon_threadsafe(self._settle, loop, round_, work.exception())

        self._thread.submit(_flush, list(round_.logs.values())).add_done_callback(flushed)

    def _settle(self, loop: asyncio.AbstractEventLoop, round_: _Round, fault: BaseException | None) -> None:
        if self._gathering.replies:
            self._begin(loop)
        else:
            self._running = False
        for future, reply in round_.replies:
            if future.done():
                continue
            if fault is None:
                future.set_result(reply)
            else:
                future.set_exception(fault)
        if fault is None:
            self._growth.grew(round_.logs)


def _flush(logs: Sequence[PartitionLog]) -> None:
    for log in logs:
        log.flush()
