"""Tells of invocations to whoever is interested: traces, metrics by OTLP, CloudWatch's metrics.

Called on the event loop at the end of every invocation: without anybody interested it costs one comparison.
Must not know environments or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationEnd:
    """One invocation that is over."""

    function: str
    version: str
    arn: str  # as it was invoked
    request_id: str
    caller_trace: str  # X-Amzn-Trace-Id as the caller sent it
    ended_ns: int  # since the epoch
    duration_ms: float
    init_ms: float | None  # of a cold start
    memory_mb: int
    peak_mb: int
    error_type: str  # "" if it succeeded


class Listener(Protocol):
    """One who is interested; must not block."""

    def began(self, function: str, concurrent: int) -> None:
        """Take note of how many invocations of a function run or wait now."""

    def throttled(self, function: str) -> None:
        """Count an invocation that was answered 429."""

    def ended(self, end: InvocationEnd) -> None:
        """Take note of an invocation that is over."""


class Reporter:
    """Passes everything to every listener."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self.listeners = listeners

    def began(self, function: str, concurrent: int) -> None:
        """See Listener."""
        for listener in self.listeners:
            listener.began(function, concurrent)

    def throttled(self, function: str) -> None:
        """See Listener."""
        for listener in self.listeners:
            listener.throttled(function)

    def ended(self, end: InvocationEnd) -> None:
        """See Listener."""
        for listener in self.listeners:
            listener.ended(end)
