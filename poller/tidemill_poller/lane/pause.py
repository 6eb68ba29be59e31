"""Sleeps of one lane that anything of interest to it may end."""

from __future__ import annotations

import asyncio


class Pause:
    """One sleep at a time; for the event loop's thread."""

    def __init__(self) -> None:
        self._wake: asyncio.Future[None] | None = None

    async def until(self, until_s: float | None) -> None:
        """Sleep until `end`, or a time of the event loop's clock."""
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        timer = None if until_s is None else loop.call_at(until_s, self.end)
        try:
            await self._wake
        finally:
            self._wake = None
            if timer is not None:
                timer.cancel()

    def end(self) -> None:
        """End the sleep, if there is one."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
