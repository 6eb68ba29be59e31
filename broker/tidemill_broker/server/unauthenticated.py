"""Strangers, connections that have not logged in yet: bounded in number, and in time.

Without this, whoever can reach a port could fill the broker with silent connections. When all places are
taken, new ones wait in the kernel's queue until somebody logs in or the oldest has had its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

# What every stranger gets, however many wait: a handshake and a login take some round trips.
GRACE_S: Final = 1.0


class Stranger:
    """One connection's place among them. `leave` gives it back, after the login or at the end."""

    __slots__ = ("_deadline", "_end", "_strangers", "reason", "since_s")

    def __init__(self, strangers: Strangers, end: Callable[[], None], timeout_s: float) -> None:
        loop = strangers.loop
        self.since_s = loop.time()
        self.reason: str | None = None  # why we ended it
        self._strangers = strangers
        self._end = end
        self._deadline = loop.call_later(timeout_s, self.end, f"no login within {timeout_s:g} s")

    def end(self, reason: str) -> None:
        """End its connection, and give the place back."""
        self.reason = reason
        self.leave()
        self._end()

    def leave(self) -> None:
        """Give the place back; twice is once."""
        self._deadline.cancel()
        self._strangers.forget(self)


class Strangers:
    """All places, of all listeners together."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, most: int, timeout_s: float) -> None:
        self.loop = loop
        self._most = most
        self._timeout_s = timeout_s
        self._all: dict[Stranger, None] = {}  # the oldest first
        self._left = asyncio.Event()

    def __len__(self) -> int:
        return len(self._all)

    async def admit(self, end: Callable[[], None]) -> Stranger:
        """Give a place to one more, as soon as there is one; `end` must end the connection at once."""
        while len(self._all) >= self._most:
            oldest = next(iter(self._all))
            spare_s = oldest.since_s + GRACE_S - self.loop.time()
            if spare_s <= 0:
                oldest.end("no login, and others wait for its place")
                break
            self._left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(spare_s):
                    await self._left.wait()
        stranger = Stranger(self, end, self._timeout_s)
        self._all[stranger] = None
        return stranger

    def forget(self, stranger: Stranger) -> None:
        """Take one out; who waits for a place is told."""
        self._all.pop(stranger, None)
        self._left.set()

    def end_all(self) -> None:
        """End every one: the broker stops."""
        for stranger in list(self._all):
            stranger.end("the broker stops")
