"""Fetch (key 1, versions 4 to 18): the native core reads request and records and writes the response.

The long poll is here: a fetch whose min_bytes are not there yet waits for its partitions to grow.
Sessions (KIP-227) are never opened: every answer has session id 0, so clients send full requests.

See docs/decisions/0100 and docs/decisions/0104.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from tidemill_broker.apis.api import Api, Reply
from tidemill_broker.apis.broker import Broker, Connection
from tidemill_broker.apis.turns import Steps
from tidemill_broker.log.authorized import poll
from tidemill_broker.log.growth import Growth
from tidemill_broker.log.topics import WaitingFetch
from tidemill_broker.protocol.errors import MalformedFrame

# How long a change of rights may go unseen by a fetch that waits.
RECHECK_S: Final = 0.5


def fetch(
    broker: Broker, connection: Connection, frame: memoryview
) -> Reply | Awaitable[Reply] | Steps[Reply | Awaitable[Reply]]:
    """Answer at once, or when enough has come or the time is up."""
    answer = broker.topics.begin_fetch(frame, connection.rights.readable, connection)
    if isinstance(answer, memoryview | WaitingFetch):
        return _answer(broker, connection, answer)
    return _in_turns(broker, connection, answer)


def _in_turns(
    broker: Broker, connection: Connection, steps: Steps[memoryview | WaitingFetch]
) -> Steps[Reply | Awaitable[Reply]]:
    return _answer(broker, connection, (yield from steps))


def _answer(
    broker: Broker, connection: Connection, answer: memoryview | WaitingFetch
) -> Reply | Awaitable[Reply]:
    if isinstance(answer, memoryview):
        return answer
    return _LongPoll(answer, broker.topics.growth, connection).future


class _LongPoll:
    """One waiting fetch: tried again when one of its partitions grows, answered at its deadline.

    Or as soon as a right is gone: a fetch may wait for minutes, and a right must end within a second.
    """

    def __init__(self, waiting: WaitingFetch, growth: Growth, connection: Connection) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting = waiting
        self._growth = growth
        self._connection = connection
        self._rules = (connection.rights, connection.rights.version)
        self._handles = waiting.handles
        self._deadline_s = self._loop.time() + waiting.max_wait_ms / 1000
        self._timer = self._set_timer()
        growth.watch(self._handles, self._wake)
        # Also when the connection goes and the server cancels the future.
        self.future.add_done_callback(self._forget)

    def _wake(self) -> None:
        self._try(last=False)

    def _set_timer(self) -> asyncio.TimerHandle:
        due_s = min(self._deadline_s, self._loop.time() + RECHECK_S)
        return self._loop.call_at(due_s, self._look)

    def _look(self) -> None:
        """Answer if the time is up, else see to the rights."""
        last = self._loop.time() >= self._deadline_s
        rights = self._connection.rights
        rights.refresh()
        if last or (rights, rights.version) != self._rules:
            self._rules = (rights, rights.version)
            self._try(last=last)
        if not last:
            self._timer = self._set_timer()

    def _try(self, *, last: bool) -> None:
        if self.future.done():
            return
        try:
            frame = poll(self._waiting, self._connection.rights.readable, self._connection, last=last)
        except (OSError, MalformedFrame) as fault:
            self.future.set_exception(fault)
            return
        if frame is not None:
            self.future.set_result(memoryview(frame))

    def _forget(self, _: asyncio.Future[Reply]) -> None:
        self._timer.cancel()
        self._growth.unwatch(self._handles, self._wake)


APIS: Final = (Api(key=1, name="Fetch", min_version=4, max_version=18, handle=fetch, raw=True),)
