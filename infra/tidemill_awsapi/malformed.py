"""Owns what the log says of a request that is not HTTP: one line without its bytes.

aiohttp logs a traceback that quotes the line at fault, and that may be a header with a session token.
"""

import logging

from aiohttp.http_exceptions import HttpProcessingError


class _WithoutBytes(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg += ": not an HTTP request error=%s"
            record.args = (*(record.args if isinstance(record.args, tuple) else ()), type(error).__name__)
            record.exc_info = record.exc_text = None
        return True


_WITHOUT_BYTES = _WithoutBytes()


def keep_bytes_out_of_logs() -> None:
    """From now on aiohttp's servers in this process log malformed requests in one line."""
    logging.getLogger("aiohttp.server").addFilter(_WITHOUT_BYTES)
