"""What one environment writes into its function's log: the handler's output and Lambda's own lines around it.

Owns the pipe that the handler process writes to, and the tail that LogType=Tail asks for. Knows no process
and no invocation. Called by environment.py.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from tidemill_functions.reporting.cloudwatch_logs import LogStream
from tidemill_functions.runtime.logs import FunctionLog
from tidemill_functions.runtime.platform_lines import PlatformLines, Report

# Lambda's LogType=Tail answers the last 4 KB of the log.
TAIL_BYTES: Final = 4096
_READ_BYTES: Final = 64 * 1024
# A handler that prints without end must not keep the event loop: the rest is read on the next turn.
_READS_AT_ONCE: Final = 16


class Transcript:
    """One environment's part of the log; it follows the environment's life."""

    def __init__(
        self, log: FunctionLog, lines: PlatformLines, stream: LogStream | None, *, memory_mb: int
    ) -> None:
        self._log = log
        self._lines = lines
        self._stream = stream
        self._memory_mb = memory_mb
        self._loop = asyncio.get_running_loop()
        self._pipe = -1
        self._tail = bytearray()
        self._init_ms: float | None = None

    def open(self, version: str) -> int:
        """Begin with INIT_START; return the end of the pipe for the process, which the caller closes."""
        self.write(self._lines.init_start(version))
        self._pipe, writing_end = os.pipe()
        os.set_blocking(self._pipe, False)
        self._loop.add_reader(self._pipe, self.read)
        return writing_end

    def loaded(self, init_ms: float) -> None:
        """Take note that the handler is loaded; the next report says how long that took."""
        self._init_ms = init_ms

    def begin(self, request_id: str) -> None:
        """Begin an invocation. The tail of the first one begins with what was logged at import."""
        if self._init_ms is None:
            self._tail.clear()
        self.write(self._lines.start(request_id))

    def end(self, request_id: str, *, duration_ms: float, peak_mb: int, error_type: str) -> Report:
        """End an invocation; all that its handler printed stands above these lines."""
        self.read()
        report = Report(
            request_id=request_id,
            duration_ms=duration_ms,
            init_ms=self._init_ms,
            memory_mb=self._memory_mb,
            peak_mb=peak_mb,
            error_type=error_type,
        )
        self._init_ms = None
        self.write(self._lines.end(report))
        return report

    def error(self, text: str) -> None:
        """Write what Lambda says of an end that no handler tells."""
        self.write(self._lines.error(text))

    def tail(self) -> bytes:
        """Return the last 4 KB of the invocation that ended."""
        return bytes(self._tail[-TAIL_BYTES:])

    def write(self, text: str) -> None:
        """Write lines of Lambda's own."""
        self._append(text.encode(), is_ours=True)

    def read(self) -> None:
        """Take what the process has written so far; it writes before it answers."""
        if self._pipe < 0:
            return
        for _ in range(_READS_AT_ONCE):
            try:
                chunk = os.read(self._pipe, _READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self._loop.remove_reader(self._pipe)
                return
            self._append(chunk)

    def close(self) -> None:
        """Close the pipe of a process that is gone and read to its end."""
        if self._pipe >= 0:
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = -1
        if self._stream is not None:
            self._stream.write(b"", is_ours=True)  # ends a line that the process did not end

    def _append(self, text: bytes, *, is_ours: bool = False) -> None:
        if not text:
            return
        if self._stream is not None:
            self._stream.write(text, is_ours=is_ours)
        if b"\r" in text:  # awslambdaric joins the lines of one record by CR when it writes to a pipe
            text = text.replace(b"\r", b"\n")
        self._log.write(text)
        self._tail += text
        if len(self._tail) > 4 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]
