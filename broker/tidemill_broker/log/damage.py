"""Looks, when a partition is opened, for closed segments whose files the disk lost or cut.

Recovery scans what a kill may have torn, and takes closed segments on trust: their last batch must end where
the next segment begins. Reads file sizes, the end of each index and the batch headers behind it; knows no
record and changes nothing.
"""

import itertools
import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

logger = logging.getLogger(__name__)

# Kafka's OffsetIndex: the last offset of a batch, relative to the segment's base, and the batch's position.
_INDEX_ENTRY: Final = struct.Struct(">II")
# The batch header up to the last offset delta (DefaultRecordBatch): base offset, length, …, delta.
_HEADER: Final = struct.Struct(">qi11xi")
_HEADER_BYTES: Final = 61
_LOG_OVERHEAD_BYTES: Final = 12


class Damage(NamedTuple):
    """A closed segment that does not reach the next: the offsets from `start` to before `end` are lost."""

    file: Path
    start: int
    end: int


def report_damage(folder: Path) -> None:
    """Log each closed segment of a partition that does not reach the next one."""
    for damage in find_damage(folder):
        logger.error(
            "lost records partition=%s offsets=%d-%d: %s ends before the next segment begins; "
            "restore the folder from a backup, or have the records produced again",
            folder.name,
            damage.start,
            damage.end - 1,
            damage.file.name,
        )


def find_damage(folder: Path) -> Iterator[Damage]:
    """Yield the damage between the segments of a partition's folder, in the order of offsets."""
    logs = sorted(folder.glob("*.log"))
    for log, following in itertools.pairwise(logs):
        end = _end_offset(log)
        if end is not None and end < int(following.stem):
            yield Damage(log, end, int(following.stem))


def _end_offset(log: Path) -> int | None:
    """Return the offset behind the last whole batch of a closed segment; None if there is no index to ask."""
    try:
        index = log.with_suffix(".index").read_bytes()
        descriptor = os.open(log, os.O_RDONLY)
    except OSError:
        return None  # recovery scans a segment without an index, and tells what it cuts
    try:
        size = os.fstat(descriptor).st_size
        end, position = int(log.stem), 0
        for at in range(len(index) - _INDEX_ENTRY.size, -1, -_INDEX_ENTRY.size):
            _, indexed = _INDEX_ENTRY.unpack_from(index, at)
            if _header(descriptor, indexed, size):  # else the cut lies before it
                position = indexed
                break
        while header := _header(descriptor, position, size):
            base_offset, batch_bytes, delta = header
            end, position = base_offset + delta + 1, position + batch_bytes
        return end
    finally:
        os.close(descriptor)


def _header(descriptor: int, position: int, size: int) -> tuple[int, int, int] | None:
    """Read (base offset, size, last offset delta) of the whole batch at a position, if there is one."""
    head = os.pread(descriptor, _HEADER.size, position)
    if len(head) < _HEADER.size:
        return None
    base_offset, length, delta = _HEADER.unpack(head)
    batch_bytes = length + _LOG_OVERHEAD_BYTES
    whole = _HEADER_BYTES <= batch_bytes <= size - position and delta >= 0
    return (base_offset, batch_bytes, delta) if whole else None
