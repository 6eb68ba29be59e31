"""Sends functions' logs to CloudWatch Logs of the AWS in use, from a thread of its own.

Writing costs an append to a bounded buffer and never waits. While AWS is away the oldest lines are dropped
and counted; that is said once, and again with the count when it is back. Knows no function and no process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tidemill_functions.aws import AwsClients
from tidemill_functions.errors import AwsUnavailable
from tidemill_functions.reporting.log_events import LogEvent, Records, requests

logger = logging.getLogger(__name__)

BUFFER_BYTES_MAX: Final = 4 * 1024 * 1024
_PERIOD_S: Final = 0.5
_RETRY_S: Final = 2.0
_CLOSED_WITHIN_S: Final = 3.0
_MISSING: Final = "ResourceNotFoundException"
_EXISTS: Final = "ResourceAlreadyExistsException"


@dataclass(slots=True, eq=False)
class LogStream:
    """One environment's stream; `write` may be called by the event loop only."""

    group: str
    name: str
    logs: CloudWatchLogs
    records: Records = field(default_factory=Records)  # the thread's own

    def write(self, chunk: bytes, *, is_ours: bool) -> None:
        """Take what the environment wrote, or a line of Lambda's own."""
        self.logs.put(self, chunk, is_ours=is_ours)


class CloudWatchLogs:
    """The buffer and the thread that empties it; between `start` and `close`."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._buffer: deque[tuple[LogStream, int, bytes, bool]] = deque()
        self._bytes = 0
        self._dropped_lines = 0
        self._is_away = False
        self._unsent: deque[tuple[LogStream, Sequence[LogEvent]]] = deque()
        self._stop = threading.Event()
        # A daemon: a stop of the server does not wait for an AWS that hangs.
        self._thread = threading.Thread(target=self._run, name="cloudwatch logs", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def close(self) -> None:
        """Send what is there, for a time; blocks."""
        self._stop.set()
        self._thread.join(_CLOSED_WITHIN_S)

    def stream(self, group: str, name: str) -> LogStream:
        """Return a stream; AWS is told of it when it is first written to."""
        return LogStream(group, name, self)

    def put(self, stream: LogStream, chunk: bytes, *, is_ours: bool) -> None:
        """Take a chunk of a stream; the oldest go when the buffer is full."""
        with self._lock:
            self._buffer.append((stream, time.time_ns() // 1_000_000, chunk, is_ours))
            self._bytes += len(chunk)
            while self._bytes > BUFFER_BYTES_MAX:
                _, _, lost, _ = self._buffer.popleft()
                self._bytes -= len(lost)
                self._dropped_lines += lost.count(b"\n")

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stop.wait(_RETRY_S if self._is_away else _PERIOD_S)
            try:
                self._send()
            except AwsUnavailable as error:
                self._tell_away(error)
            except Exception:  # no fault of ours may end the thread that all logs go through
                logger.exception("log lines not sent to cloudwatch logs")
                self._unsent.clear()
        if lines := self._left():
            logger.warning("log lines not sent to cloudwatch logs before the stop lines=%d", lines)

    def _send(self) -> None:
        """Send all that is there. Raises AwsUnavailable if that is to be tried again."""
        while True:
            while self._unsent:
                stream, events = self._unsent[0]
                is_taken = self._put_events(stream, events)
                self._unsent.popleft()
                if is_taken:
                    self._tell_back()
            if not self._take():
                return

    def _take(self) -> bool:
        """Cut what was written into requests; return whether there was anything."""
        with self._lock:
            taken, self._buffer, self._bytes = self._buffer, deque(), 0
        by_stream: dict[LogStream, list[LogEvent]] = {}
        for stream, time_ms, chunk, is_ours in taken:
            by_stream.setdefault(stream, []).extend(stream.records.take(time_ms, chunk, is_ours=is_ours))
        for stream, events in by_stream.items():
            self._unsent += [(stream, part) for part in requests(events)]
        return bool(self._unsent)

    def _put_events(self, stream: LogStream, events: Sequence[LogEvent]) -> bool:
        """Return whether AWS took them; what it rejects is dropped. Raises AwsUnavailable if it is away."""
        try:
            try:
                self._put(stream, events)
            except AwsUnavailable as error:
                if error.code != _MISSING:
                    raise
                self._make("create_log_group", logGroupName=stream.group)
                self._make("create_log_stream", logGroupName=stream.group, logStreamName=stream.name)
                self._put(stream, events)
        except AwsUnavailable as error:
            if error.is_temporary:
                raise
            self._dropped_lines += len(events)
            self._tell_away(error)
            return False
        return True

    def _put(self, stream: LogStream, events: Sequence[LogEvent]) -> None:
        self._clients.call(
            "logs",
            "put_log_events",
            logGroupName=stream.group,
            logStreamName=stream.name,
            logEvents=[{"timestamp": event.time_ms, "message": event.message} for event in events],
        )

    def _make(self, operation: str, **members: str) -> None:
        try:
            self._clients.call("logs", operation, **members)
        except AwsUnavailable as error:
            if error.code != _EXISTS:
                raise

    def _tell_away(self, error: AwsUnavailable) -> None:
        if not self._is_away:
            logger.warning(
                "cloudwatch logs takes no log lines reason=%s; tidemill function logs has them, and"
                " TIDEMILL_FUNCTIONS_CLOUDWATCH_LOGS=false stops sending them",
                error,
            )
        self._is_away = True

    def _tell_back(self) -> None:
        if self._is_away and not self._dropped_lines:
            logger.info("cloudwatch logs takes log lines again")
        elif self._dropped_lines:
            logger.warning("log lines not in cloudwatch logs dropped_lines=%d", self._dropped_lines)
        self._is_away, self._dropped_lines = False, 0

    def _left(self) -> int:
        with self._lock:
            lines = sum(chunk.count(b"\n") for _, _, chunk, _ in self._buffer)
        return lines + sum(len(events) for _, events in self._unsent) + self._dropped_lines
