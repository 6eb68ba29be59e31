"""Counts what a handler does between two turns: calls, which are the same on every machine, not time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator
from types import FrameType, GeneratorType
from typing import Any


def most_calls_in_a_turn(begin: Callable[[], Any]) -> int:
    """Begin an answer, take all its turns, and return the calls of the longest step.

    A handler that waits for somebody is left where it waits. What the handler raises is raised.
    """
    response, most = _counted(begin)
    if isinstance(response, GeneratorType):
        return max(most, _longest_step(response))
    if isinstance(response, Coroutine):
        waiting, calls = _counted(lambda: _until_it_waits(response))
        most = max(most, calls)
        if waiting:
            response.close()
    return most


def _longest_step(steps: Generator[None, None, Any]) -> int:
    most, ended = 0, False
    while not ended:
        ended, calls = _counted(lambda: next(steps, steps) is steps)
        most = max(most, calls)
    return most


def _until_it_waits(response: Coroutine[Any, Any, Any]) -> bool:
    try:
        response.send(None)
    except StopIteration:
        return False
    return True


def _counted(call: Callable[[], Any]) -> tuple[Any, int]:
    calls = 0

    def count(_frame: FrameType, event: str, _what: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        return call(), calls
    finally:
        sys.setprofile(before)
