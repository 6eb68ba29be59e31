"""Owns what ministack's handlers may not do: hold the loop that serves all requests, run on, start a process.

A regular expression, a loop without end or a template that grows holds everybody else up, and nothing in the
engine's code gives way; a signal's handler is the one place that can end it. Authority: Python's `signal`
(handlers run in the main thread, and `re` looks for them) and PEP 578 (audit hooks). See docs/decisions/0804.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final

from tidemill_local.errors import LoopHeld

# CPU time of one turn of the loop; a Scan's page, the largest, is some 0.1 s.
HELD_S: Final = 10.0
# Step Functions' quotas of a standard execution.
EVENTS_MAX: Final = 25_000
DATA_MAX: Final = 256 * 1024
_LOOK_S: Final = 1.0
_TURN_S: Final = 0.5
# Set where an exception in the middle would leave half a frame in a file.
_IS_SPARED: Final = ContextVar("is_spared", default=False)
_PROCESS_EVENTS: Final = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}
)


def end_what_holds(loop: asyncio.AbstractEventLoop, *, held_s: float = HELD_S) -> None:
    """Raise LoopHeld in whatever keeps this loop from its next turn for ``held_s`` of CPU time.

    To be called in the main thread, which runs the loop. The time is that of this thread alone: a machine
    that is busy otherwise ends nothing.
    """
    turned = time.thread_time()

    def turn() -> None:
        nonlocal turned
        turned = time.thread_time()
        loop.call_later(_TURN_S, turn)

    def look(_number: int, _frame: FrameType | None) -> None:
        nonlocal turned
        if time.thread_time() - turned < held_s or _IS_SPARED.get():
            return
        turned = time.thread_time()
        raise LoopHeld(f"This held all other requests up for {held_s:g} s and was ended: make it smaller.")

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_S, _LOOK_S)
    turn()


@contextmanager
def spared() -> Iterator[None]:
    """Let what is done inside end by itself, however long it holds the loop."""
    token = _IS_SPARED.set(True)
    try:
        yield
    finally:
        _IS_SPARED.reset(token)


def bound_executions(machines: Any) -> None:
    """Let ministack's executions fail where AWS's do; ``machines`` is its module of Step Functions."""
    add, failure = machines._add_event, machines._ExecutionError  # noqa: SLF001 - it has no setting for it

    def bounded_add(execution: dict[str, Any], event_type: str, details: dict[str, Any] | None = None) -> Any:
        event = add(execution, event_type, details)
        if event_type.startswith("Execution"):
            return event
        if len(execution["events"]) >= EVENTS_MAX:
            raise failure(
                "States.Runtime",
                f"The execution reached the maximum number of history events ({EVENTS_MAX}).",
            )
        for detail in (details or {}).values():
            if (
                isinstance(detail, dict)
                and len(detail.get("input", "") + detail.get("output", "")) > DATA_MAX
            ):
                raise failure("States.DataLimitExceeded", "The state's data exceeds the limit of 256 KiB.")
        return event

    machines._add_event = bounded_add  # noqa: SLF001 - the same


def forbid_processes() -> None:
    """Let this process start no other one, for good: what handlers would start runs users' code."""
    sys.addaudithook(_forbid)


def _forbid(event: str, _arguments: tuple[Any, ...]) -> None:
    if event in _PROCESS_EVENTS:
        raise PermissionError("The embedded AWS runs no code: make a function of it.")
