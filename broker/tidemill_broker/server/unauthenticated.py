"""Bounds unauthenticated connections, those that have not logged in yet, in number and in time.

Without this, whoever can reach a port could fill the broker with silent connections. While all slots are
taken, new connections wait in the kernel's queue until one logs in or the oldest has had its time.

See docs/decisions/0900.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

# What every connection gets, however many wait: a handshake and a login take some round trips.
GRACE_S: Final = 1.0


class Slot:
    """The slot that one unauthenticated connection takes, until it logs in or ends."""

    __slots__ = ("_deadline", "_end", "_owner", "reason", "since_s")

    def __init__(self, owner: UnauthenticatedConnections, end: Callable[[], None], timeout_s: float) -> None:
        loop = owner.loop
        self.since_s = loop.time()
        self.reason: str | None = None  # why we ended it
        self._owner = owner
        self._end = end
        self._deadline = loop.call_later(timeout_s, self.end, f"no login within {timeout_s:g} s")

    def end(self, reason: str) -> None:
        """End the connection, and free the slot."""
        self.reason = reason
        self.free()
        self._end()

    def free(self) -> None:
        """Free the slot; doing so twice is no error."""
        self._deadline.cancel()
        self._owner.forget(self)


class UnauthenticatedConnections:
    """The slots of all listeners together."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, most: int, timeout_s: float) -> None:
        self.loop = loop
        self._most = most
        self._timeout_s = timeout_s
        self._all: dict[Slot, None] = {}  # the oldest first
        self._left = asyncio.Event()

    def __len__(self) -> int:
        return len(self._all)

    async def admit(self, end: Callable[[], None]) -> Slot:
        """Take a slot as soon as one is free; `end` must end the connection at once."""
        while len(self._all) >= self._most:
            oldest = next(iter(self._all))
            spare_s = oldest.since_s + GRACE_S - self.loop.time()
            if spare_s <= 0:
                oldest.end("no login, and others wait for its slot")
                break
            self._left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(spare_s):
                    await self._left.wait()
        slot = Slot(self, end, self._timeout_s)
        self._all[slot] = None
        return slot

    def forget(self, slot: Slot) -> None:
        """Remove a slot, and wake whoever waits for one."""
        self._all.pop(slot, None)
        self._left.set()

    def end_all(self) -> None:
        """End every connection: the broker stops."""
        for slot in list(self._all):
            slot.end("the broker stops")
