"""Owns the log of one function: a file that is rolled once, and the readers that wait for more of it.

Knows no process and no HTTP. Environments write it, the API reads it. Written straight to the file, so that a
kill -9 of the server loses no line; what is written between two rolls is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 64 * 1024


class FunctionLog:
    """The last lines of one function, over all of its environments."""

    def __init__(self, path: Path, *, file_bytes_max: int) -> None:
        self._path = path
        self._older = path.with_suffix(".log.1")
        self._file_bytes_max = file_bytes_max
        self._descriptor = -1
        self._size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        self._written = asyncio.Event()
        self._removed = False

    def write(self, text: bytes) -> None:
        """Append; rolls the file when it is full. After `close` it is lost."""
        if self._descriptor < 0:
            return
        try:
            if self._size + len(text) > self._file_bytes_max and self._size:
                self._roll()
            self._size += os.write(self._descriptor, text)
        except OSError as error:  # a full disk must not fail invocations
            logger.warning("log lines lost file=%s reason=%s", self._path.name, error)
        self._written.set()

    def tail(self, lines: int) -> bytes:
        """Return the last `lines` lines, of both files."""
        return b"".join(self._read_all().splitlines(keepends=True)[-lines:]) if lines > 0 else b""

    async def follow(self) -> AsyncIterator[bytes]:
        """Yield what is written from now on, until the reader goes away."""
        file = self._path.open("rb")
        try:
            file.seek(0, os.SEEK_END)
            while True:
                # Whoever waits shares the event; it is cleared before the read, so that no write is missed.
                self._written.clear()
                while chunk := file.read(_READ_BYTES):
                    yield chunk
                if self._removed:
                    return
                if os.fstat(file.fileno()).st_ino != self._path.stat().st_ino:
                    file.close()
                    file = self._path.open("rb")
                    continue
                await self._written.wait()
        finally:
            file.close()

    def close(self) -> None:
        """Close the file; readers end with their connections."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Close and delete; its readers come to their end."""
        self.close()
        self._removed = True
        self._written.set()
        self._path.unlink(missing_ok=True)
        self._older.unlink(missing_ok=True)

    def _roll(self) -> None:
        self._path.replace(self._older)
        self.close()
        self._open()

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _read_all(self) -> bytes:
        older = self._older.read_bytes() if self._older.exists() else b""
        return older + self._path.read_bytes()
