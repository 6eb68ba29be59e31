"""Fetch (key 1, versions 4 to 18): the native core reads request and records and writes the response.

The long poll is here: a fetch whose min_bytes are not there yet waits for its partitions to grow.
Sessions (KIP-227) are never opened: every answer has session id 0, so clients send full requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from broker.apis.api import Api, Reply
from broker.apis.broker import Broker, Connection

if TYPE_CHECKING:
    from broker.log.growth import Growth
    from broker.log.topics import WaitingFetch


def fetch(
    broker: Broker,
    connection: Connection,  # noqa: ARG001  # every handler is called alike
    frame: memoryview,
) -> Reply | Awaitable[Reply]:
    """Answer at once, or when enough has come or the time is up."""
    answer = broker.topics.fetch(frame)
    if isinstance(answer, memoryview):
        return answer
    return _LongPoll(answer, broker.topics.growth).future


class _LongPoll:
    """One waiting fetch: tried again when one of its partitions grows, answered at its deadline."""

    def __init__(self, waiting: WaitingFetch, growth: Growth) -> None:
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Reply] = loop.create_future()
        self._waiting = waiting
        self._growth = growth
        self._handles = waiting.handles
        self._deadline = loop.call_later(waiting.max_wait_ms / 1000, self._expire)
        growth.watch(self._handles, self._wake)
        # Also when the connection goes and the server cancels the future.
        self.future.add_done_callback(self._forget)

    def _wake(self) -> None:
        self._try(last=False)

    def _expire(self) -> None:
        self._try(last=True)

    def _try(self, *, last: bool) -> None:
        if self.future.done():
            return
        try:
            frame = self._waiting.poll(last)
        except OSError as fault:
            self.future.set_exception(fault)
            return
        if frame is not None:
            self.future.set_result(memoryview(frame))

    def _forget(self, _: asyncio.Future[Reply]) -> None:
        self._deadline.cancel()
        self._growth.unwatch(self._handles, self._wake)


APIS: Final = (Api(key=1, name="Fetch", min_version=4, max_version=18, handle=fetch, raw=True),)
