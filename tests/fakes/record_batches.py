"""Record batches as clients write them, built field by field so that a test can put one fault in."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import cramjam
from crc32c import crc32c

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
HEADER_BYTES = 61
NOW_MS = 1_700_000_000_000
TRANSACTIONAL, CONTROL = 1 << 4, 1 << 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record; its time is the batch's base time plus `delta_ms`."""

    value: bytes | None = b"value"
    key: bytes | None = b"key"
    delta_ms: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()


def batch(
    records: Sequence[Record] = (Record(),),
    *,
    codec: str = "none",
    base_timestamp_ms: int = NOW_MS,
    producer: tuple[int, int, int] = (-1, -1, -1),
    attributes: int = 0,
    count: int | None = None,
    last_offset_delta: int | None = None,
    magic: int = 2,
    payload: bytes | None = None,
    max_timestamp_ms: int | None = None,
) -> bytes:
    """One whole batch with the right length and CRC; `producer` is (id, epoch, base sequence)."""
    body = compress(codec, encoded(records)) if payload is None else payload
    newest = base_timestamp_ms + max((record.delta_ms for record in records), default=0)
    checked = struct.pack(
        ">hiqqqhii",
        attributes | CODECS.index(codec),
        len(records) - 1 if last_offset_delta is None else last_offset_delta,
        base_timestamp_ms,
        newest if max_timestamp_ms is None else max_timestamp_ms,
        *producer,
        len(records) if count is None else count,
    )
    return sealed(checked + body, magic)


def encoded(records: Sequence[Record]) -> bytes:
    """The records as a batch holds them, before compression."""
    return b"".join(_record(index, record) for index, record in enumerate(records))


def sealed(checked: bytes, magic: int = 2) -> bytes:
    """What the CRC covers, with everything before it."""
    head = struct.pack(">ibI", -1, magic, crc32c(checked))
    return struct.pack(">qi", 0, len(head) + len(checked)) + head + checked


def compress(codec: str, payload: bytes) -> bytes:
    """As Java's and Python's clients do it; snappy in snappy-java's framing."""
    if codec == "snappy":
        halves = (payload[: len(payload) // 2], payload[len(payload) // 2 :])
        blocks = [bytes(cramjam.snappy.compress_raw(half)) for half in halves]
        framed = b"".join(struct.pack(">i", len(block)) + block for block in blocks)
        return b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + framed
    if codec == "none":
        return payload
    if codec == "lz4":
        compressor = cramjam.lz4.Compressor(block_linked=False)
        compressor.compress(payload)
        return bytes(compressor.finish())
    return bytes(getattr(cramjam, codec).compress(payload))


def stored(data: bytes) -> list[tuple[int, int, int]]:
    """(base offset, leader epoch, record count) of every batch in what a log or a fetch gave."""
    found = []
    while data:
        base_offset, length, epoch = struct.unpack_from(">qii", data)
        (count,) = struct.unpack_from(">i", data, 57)
        found.append((base_offset, epoch, count))
        data = data[12 + length :]
    return found


def _record(index: int, record: Record) -> bytes:
    body = b"\0" + zigzag(record.delta_ms) + zigzag(index) + _field(record.key) + _field(record.value)
    body += zigzag(len(record.headers))
    for name, value in record.headers:
        body += _field(name.encode()) + _field(value)
    return zigzag(len(body)) + body


def _field(value: bytes | None) -> bytes:
    return zigzag(-1) if value is None else zigzag(len(value)) + value


def zigzag(number: int) -> bytes:
    """A signed varint."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)
