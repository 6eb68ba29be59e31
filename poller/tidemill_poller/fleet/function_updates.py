"""Notices that a function was updated while partitions wait to invoke it again.

One GetFunctionConfiguration a function and interval, however many partitions wait for it, and none while
nobody waits. What cannot be asked changes nothing: the wait then ends as it would have. `Fleet` runs it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

logger = logging.getLogger(__name__)

_CALLS_MAX: Final = 8  # at a time; Lambda allows an account 15 control calls a second
_REMEMBERED_S: Final = 1000.0  # longer than an invocation may take: an update during one is noticed after it

OnUpdate = Callable[[], None]
Revision = Callable[[str], Awaitable[str | None]]


class FunctionUpdates:
    """`revision` returns what changes with a function's code and configuration, None when it is not known."""

    def __init__(self, revision: Revision, *, interval_s: float) -> None:
        """Look every `interval_s`; 0 means never."""
        self._revision = revision
        self._interval_s = interval_s
        self._waiting: dict[str, list[OnUpdate]] = {}
        self._known: dict[str, tuple[str, float]] = {}  # the last revision, and when somebody waited for it
        self._wanted = asyncio.Event()
        self._calls = asyncio.Semaphore(_CALLS_MAX)

    @contextmanager
    def watching(self, function_arn: str, on_update: OnUpdate) -> Iterator[None]:
        """Call `on_update` whenever the function is found updated, until the context ends."""
        self._waiting.setdefault(function_arn, []).append(on_update)
        self._wanted.set()
        try:
            yield
        finally:
            waiting = self._waiting[function_arn]
            waiting.remove(on_update)
            if not waiting:
                del self._waiting[function_arn]

    async def run(self) -> None:
        """Look at the functions that are waited for, until cancelled."""
        while self._interval_s:
            await self._wanted.wait()
            self._forget()
            async with asyncio.TaskGroup() as tasks:
                for function_arn in list(self._waiting):
                    tasks.create_task(self._look(function_arn), name=f"look at {function_arn}")
            await asyncio.sleep(self._interval_s)
            if not self._waiting:
                self._wanted.clear()

    async def _look(self, function_arn: str) -> None:
        async with self._calls:
            try:
                revision = await self._revision(function_arn)
            except Exception:
                # A fault of ours: it must not end the pollers.
                logger.exception("function not looked at function=%s", function_arn)
                return
        waiting = list(self._waiting.get(function_arn, ()))
        if revision is None or not waiting:
            return
        before = self._known.get(function_arn)
        self._known[function_arn] = revision, asyncio.get_running_loop().time()
        if before is None or before[0] == revision:
            return
        logger.info("function updated, retrying now function=%s partitions=%d", function_arn, len(waiting))
        for on_update in waiting:
            on_update()

    def _forget(self) -> None:
        """Forget revisions that are too old to say what failed: an update since then is no news."""
        oldest_s = asyncio.get_running_loop().time() - _REMEMBERED_S
        for function_arn in [arn for arn, (_, seen_s) in self._known.items() if seen_s < oldest_s]:
            del self._known[function_arn]
