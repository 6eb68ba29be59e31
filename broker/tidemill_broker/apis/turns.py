"""Long answers in turns: a handler of many elements yields between them, and others are served meanwhile.

A handler that is a generator may be held at any `yield`, so state is read and written between two of them.
While an answer is in turns its connection reads no further request, as in Kafka. What a generator yields is
None, or a call into the native core that may take long: that is made beside the event loop. Knows no API.

See docs/decisions/0204.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, Final, TypeVar

from tidemill_broker.log.authorized import NativeSteps

# What one answer may take before others have their turn; a step between two yields may take longer.
TURN_S: Final = 0.010

Answer = TypeVar("Answer")
Steps = Generator[None, None, Answer]


class Turns:
    """Long answers of all connections, one of which has its turn in each round of the event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        # One thread: what is inflated for all connections together is bounded, and they have turns there too.
        self._native = ThreadPoolExecutor(1, thread_name_prefix="native")

    async def take(self, steps: NativeSteps[Answer] | Steps[Answer]) -> Answer:
        """Run the steps to their end, a turn at a time."""
        result = None
        while True:
            async with self._lock:
                done, answer = run_for(steps, TURN_S, result)
            if done:
                return answer  # type: ignore[no-any-return]  # what the steps return
            if answer is None:
                result = None
                await asyncio.sleep(0)
            else:
                result = await asyncio.get_running_loop().run_in_executor(self._native, answer)


def run_for(steps: NativeSteps[Any] | Steps[Any], seconds: float, first: Any = None) -> tuple[bool, Any]:
    """Run steps until they end, the time is up, or one is a call; whether they ended, and their answer or it.

    `first` is what they are sent: what their last call has returned.
    """
    end_s = perf_counter() + seconds
    try:
        call = steps.send(first)
        while call is None and perf_counter() < end_s:
            call = next(steps)
    except StopIteration as done:
        return True, done.value
    return False, call
