"""Owns one append-only file of records: what was appended is there after the process was killed.

A frame is the length and the CRC-32 of its payload, then the payload, and is written by one call before a
request is answered; the kernel has it then, so that only a power failure loses it. Knows nothing of what the
records mean.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

MAGIC: Final = b"tidemill-aws-1\n"
_HEAD: Final = struct.Struct("<II")
_READ_BYTES: Final = 8 * 1024 * 1024
_NEW: Final = ".new"
_DAMAGED: Final = ".damaged"


class StateUnwritable(Exception):
    """The journal cannot be written; the message is one sentence with the file."""


class Journal:
    """The file, open for appending. ``read`` it once before the first ``append``."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._fd = -1
        self._new_fd = -1
        self.size_bytes = 0

    def read(self) -> Iterator[bytes]:
        """Each frame's payload; the file ends at the first that is cut or damaged, and the log says so."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._new_file.unlink(missing_ok=True)
        self._fd = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        length = os.fstat(self._fd).st_size
        place = 0
        with self._file.open("rb", buffering=_READ_BYTES) as source:
            if source.read(len(MAGIC)) == MAGIC:
                place = len(MAGIC)
                while head := source.read(_HEAD.size):
                    payload = _payload(
                        head, source.read(_HEAD.unpack(head)[0]) if len(head) == _HEAD.size else b""
                    )
                    if payload is None:
                        break
                    place += _HEAD.size + len(payload)
                    yield payload
        if place < length:
            self._cut(place, length)
        if place == 0:
            os.pwrite(self._fd, MAGIC, 0)
            place = len(MAGIC)
        self.size_bytes = place
        os.lseek(self._fd, place, os.SEEK_SET)

    def append(self, payload: bytes) -> None:
        """Write one frame. Raises OSError, and then the file ends where it ended before."""
        frame = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            _write(self._fd, frame)
        except OSError:
            os.ftruncate(self._fd, self.size_bytes)
            os.lseek(self._fd, self.size_bytes, os.SEEK_SET)
            raise
        self.size_bytes += len(frame)
        if self._new_fd >= 0:
            self._append_new(frame)

    def begin_rewriting(self) -> None:
        """Start a second file; from now on it gets what is appended, and what is given to ``rewrite``."""
        self._new_fd = os.open(self._new_file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._append_new(MAGIC)

    def rewrite(self, payload: bytes) -> None:
        """Write one frame to the second file alone."""
        if self._new_fd >= 0:
            self._append_new(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)

    def end_rewriting(self) -> bool:
        """Let the second file take the first one's place; False if it could not be written."""
        if self._new_fd < 0:
            return False
        self._new_file.replace(self._file)
        os.close(self._fd)
        self._fd, self._new_fd = self._new_fd, -1
        self.size_bytes = os.fstat(self._fd).st_size
        return True

    @property
    def _new_file(self) -> Path:
        return self._file.with_name(self._file.name + _NEW)

    def _append_new(self, data: bytes) -> None:
        """The first file is whole whatever happens to this one."""
        try:
            _write(self._new_fd, data)
        except OSError as error:
            logger.warning("state not rewritten file=%s error=%s", self._new_file, error.strerror)
            os.close(self._new_fd)
            self._new_fd = -1
            self._new_file.unlink(missing_ok=True)

    def _cut(self, place: int, length: int) -> None:
        """End the file at ``place``; what follows is kept beside it, for whoever can read it."""
        aside = self._file.with_name(self._file.name + _DAMAGED)
        logger.warning(
            "state is damaged or cut short file=%s at_byte=%d of_bytes=%d: what is before is served, rest=%s",
            *(self._file, place, length, aside),
        )
        with self._file.open("rb") as source, os.fdopen(os.open(aside, _OVERWRITE, 0o600), "wb") as rest:
            source.seek(place)
            while chunk := source.read(_READ_BYTES):
                rest.write(chunk)
        os.ftruncate(self._fd, place)


_OVERWRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def _payload(head: bytes, body: bytes) -> bytes | None:
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    return body if len(body) == length and zlib.crc32(body) == checksum else None


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
