"""Long answers in turns: a handler of many elements yields between them, and others are served meanwhile.

A handler that is a generator may be held at any `yield`, so state is read and written between two of them.
While an answer is in turns its connection reads no further request, as in Kafka. Knows no API.

See docs/decisions/0204.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from time import perf_counter
from typing import Any, Final, TypeVar

# What one answer may take before others have their turn; a step between two yields may take longer.
TURN_S: Final = 0.010

Answer = TypeVar("Answer")
Steps = Generator[None, None, Answer]


class Turns:
    """Long answers of all connections, one of which has its turn in each round of the event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self, steps: Steps[Answer]) -> Answer:
        """Run the steps to their end, a turn at a time."""
        while True:
            async with self._lock:
                done, answer = run_for(steps, TURN_S)
            if done:
                return answer  # type: ignore[no-any-return]  # what the steps return
            await asyncio.sleep(0)


def run_for(steps: Steps[Any], seconds: float) -> tuple[bool, Any]:
    """Run steps until they end or the time is up; whether they ended, and their answer."""
    end_s = perf_counter() + seconds
    try:
        next(steps)
        while perf_counter() < end_s:
            next(steps)
    except StopIteration as done:
        return True, done.value
    return False, None
