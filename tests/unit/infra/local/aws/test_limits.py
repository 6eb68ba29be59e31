"""What holds the embedded AWS's event loop is ended; another request is served then."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Iterator

import pytest
import uvloop

from tidemill_local.aws.limits import end_what_holds, spared
from tidemill_local.errors import LoopHeld


@pytest.fixture(autouse=True)
def _timer_ends() -> Iterator[None]:
    kept = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, kept)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_regular_expression_without_end_is_ended_and_the_loop_goes_on(run: object) -> None:
    async def hold() -> None:
        re.search(r"(a+)+$", "a" * 60 + "!")

    async def serve() -> str:
        end_what_holds(asyncio.get_running_loop(), held_s=0.3)
        with pytest.raises(LoopHeld, match="make it smaller"):
            await asyncio.create_task(hold())
        with pytest.raises(LoopHeld):  # and the next one too
            await asyncio.create_task(hold())
        return "served"

    assert callable(run)
    assert run(serve()) == "served"


def test_work_in_many_turns_is_not_ended() -> None:
    async def serve() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        end_what_holds(loop, held_s=1)

        def work(until_s: float) -> None:
            if time.thread_time() > until_s:
                done.set()
            else:
                loop.call_soon(work, until_s)

        work(time.thread_time() + 2)
        await done.wait()

    asyncio.run(serve())


def test_what_is_spared_ends_by_itself() -> None:
    async def serve() -> None:
        end_what_holds(asyncio.get_running_loop(), held_s=0.3)
        with spared():
            until_s = time.thread_time() + 2
            while time.thread_time() < until_s:
                pass

    asyncio.run(serve())
