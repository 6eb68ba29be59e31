"""Owns what the log says of requests that fail: few lines, and of one that is not HTTP none of its bytes.

aiohttp logs a traceback that quotes the line at fault, and that may be a header with a session token; and a
line for each request, so that one client fills the disk.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from aiohttp.http_exceptions import HttpProcessingError

LINES_MAX: Final = 10
WINDOW_S: Final = 10.0


class _WithoutBytes(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg += ": not an HTTP request error=%s"
            record.args = (*(record.args if isinstance(record.args, tuple) else ()), type(error).__name__)
            record.exc_info = record.exc_text = None
        return True


class LimitedLines(logging.Filter):
    """Lets LINES_MAX lines through in each window; the first of a later one says how many were not told."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic_s = monotonic_s
        self._window_ends_s = float("-inf")
        self._told = self._untold = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell or count."""
        now_s = self._monotonic_s()
        if now_s >= self._window_ends_s:
            self._window_ends_s, self._told = now_s + WINDOW_S, 0
        if self._told >= LINES_MAX:
            self._untold += 1
            return False
        self._told += 1
        if self._untold:
            record.msg = f"{record.getMessage()} untold={self._untold}"
            record.args, self._untold = None, 0
        return True


_WITHOUT_BYTES: Final = _WithoutBytes()


def keep_bytes_out_of_logs(*loggers: logging.Logger) -> None:
    """From now on aiohttp's servers in this process log malformed requests in one line, and few of them.

    ``loggers`` write few lines too: those that write one for each request that fails.
    """
    server = logging.getLogger("aiohttp.server")
    for logger in (server, *loggers):
        for former in [one for one in logger.filters if isinstance(one, LimitedLines)]:
            logger.removeFilter(former)
        logger.addFilter(LimitedLines())
    server.removeFilter(_WITHOUT_BYTES)
    server.addFilter(_WITHOUT_BYTES)
