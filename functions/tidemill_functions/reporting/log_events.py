"""Cuts what environments write into log events, one a record, and events into PutLogEvents requests. Pure.

The limits are those of PutLogEvents in AWS's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

EVENT_BYTES_MAX: Final = 256 * 1024 - 26
_OVERHEAD_BYTES: Final = 26
_REQUEST_BYTES_MAX: Final = 1_048_576
_REQUEST_EVENTS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One record of a log."""

    time_ms: int
    message: str


class Records:
    """The records of one stream: lines, of which some came in part."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, time_ms: int, chunk: bytes, *, is_ours: bool) -> Iterator[LogEvent]:
        """Yield the records that are whole now; a line of Lambda's own begins a new one.

        A CR joins the lines of one record: so awslambdaric writes tracebacks.
        """
        if is_ours:
            yield from self.end(time_ms)
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            whole.append(self._rest)
            self._rest = b""
        for line in whole:
            yield from _events(time_ms, line)

    def end(self, time_ms: int) -> Iterator[LogEvent]:
        """Yield what is left of a record that nobody ended."""
        rest, self._rest = self._rest, b""
        yield from _events(time_ms, rest)


def _events(time_ms: int, line: bytes) -> Iterator[LogEvent]:
    line = line.rstrip(b"\r")
    # CloudWatch Logs takes no empty message.
    for begin in range(0, len(line), EVENT_BYTES_MAX):
        part = line[begin : begin + EVENT_BYTES_MAX]
        yield LogEvent(time_ms, part.decode(errors="replace").replace("\r", "\n"))


def requests(events: Sequence[LogEvent]) -> Iterator[Sequence[LogEvent]]:
    """Yield the events in parts that one request may have."""
    part: list[LogEvent] = []
    size = 0
    for event in events:
        event_bytes = len(event.message.encode()) + _OVERHEAD_BYTES
        if part and (size + event_bytes > _REQUEST_BYTES_MAX or len(part) == _REQUEST_EVENTS_MAX):
            yield part
            part, size = [], 0
        part.append(event)
        size += event_bytes
    if part:
        yield part
