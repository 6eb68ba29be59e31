"""Other processes, watched from a test: whether one lives, and waiting until what it does can be seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def wait_until(read: Callable[[], T | None], *, timeout_s: float = 40.0, what: str = "a condition") -> T:
    """Poll until `read` gives something true, and return that; the deadline is for a machine that is busy."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := read()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"waited {timeout_s:g} s for {what}; last seen: {value!r}")
        time.sleep(0.01)
    return value


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
