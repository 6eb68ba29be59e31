"""Record batches (v2) of the broker's own making, for its internal topics: build one, read many.

Clients' batches never come here; the native core handles those as they lie. Uncompressed, no headers, no
producer. The format is Kafka's (org.apache.kafka.common.record.DefaultRecordBatch, DefaultRecord).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from crc32c import crc32c

from tidemill_broker.errors import BrokerError

Pair = tuple[bytes, bytes | None]

# base offset, length; leader epoch, magic, crc; attributes, last offset delta, base and max timestamp,
# producer id, its epoch, base sequence, record count
_PREFIX = struct.Struct(">qi")
_HEAD = struct.Struct(">ibI")
_BODY = struct.Struct(">hiqqqhii")
_RECORDS_AT = _PREFIX.size + _HEAD.size + _BODY.size
_MAGIC = 2
_NO_PRODUCER = (-1, -1, -1)
_VARINT_MORE = 0x80


def build_batch(pairs: Sequence[Pair], timestamp_ms: int) -> bytes:
    """One batch of keys and values, all of one time; a value of None is a tombstone."""
    count = len(pairs)
    body = _BODY.pack(0, count - 1, timestamp_ms, timestamp_ms, *_NO_PRODUCER, count)
    body += b"".join(_record(index, key, value) for index, (key, value) in enumerate(pairs))
    head = _HEAD.pack(-1, _MAGIC, crc32c(body))
    return _PREFIX.pack(0, len(head) + len(body)) + head + body


class UnreadableBatch(BrokerError):
    """Bytes that are not a whole batch with the right CRC: the disk lost or changed something."""


def read_batches(data: bytes) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Yield (offset, key, value) of every record in whole batches, as `Partition.read` gives them.

    Raises UnreadableBatch at the first that is damaged.
    """
    at = 0
    while at < len(data):
        base_offset, length = _checked_prefix(data, at)
        count: int = _BODY.unpack_from(data, at + _PREFIX.size + _HEAD.size)[-1]
        record_at = at + _RECORDS_AT
        for _ in range(count):
            size, fields_at = _read_varint(data, record_at)
            record_at = fields_at + size
            offset_delta, key, value = _read_record(data, fields_at)
            yield base_offset + offset_delta, key, value
        at += _PREFIX.size + length


def _checked_prefix(data: bytes, at: int) -> tuple[int, int]:
    if len(data) - at < _RECORDS_AT:
        raise UnreadableBatch(f"{len(data) - at} bytes are no batch")
    base_offset, length = _PREFIX.unpack_from(data, at)
    end = at + _PREFIX.size + length
    _, magic, crc = _HEAD.unpack_from(data, at + _PREFIX.size)
    body = memoryview(data)[at + _PREFIX.size + _HEAD.size : end]
    if not at + _RECORDS_AT <= end <= len(data) or magic != _MAGIC or crc32c(body) != crc:
        raise UnreadableBatch("the bytes are no batch with the right CRC")
    return base_offset, length


def _record(index: int, key: bytes, value: bytes | None) -> bytes:
    payload = b"" if value is None else value
    length = -1 if value is None else len(payload)
    # attributes 0, timestamp delta 0, then the varints; the last byte says: no headers.
    fields = b"\0\0" + _varint(index) + _varint(len(key)) + key + _varint(length) + payload + b"\0"
    return _varint(len(fields)) + fields


def _read_record(data: bytes, at: int) -> tuple[int, bytes, bytes | None]:
    _, at = _read_varint(data, at + 1)
    offset_delta, at = _read_varint(data, at)
    key_bytes, at = _read_varint(data, at)
    key = data[at : at + key_bytes]
    value_bytes, at = _read_varint(data, at + key_bytes)
    return offset_delta, key, None if value_bytes < 0 else data[at : at + value_bytes]


def _varint(number: int) -> bytes:
    """A zigzag varint, as in Protocol Buffers."""
    rest = (number << 1) ^ (number >> 31)
    encoded = bytearray()
    while rest >= _VARINT_MORE:
        encoded.append(rest & 0x7F | _VARINT_MORE)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    rest = data[at]
    if rest < _VARINT_MORE:
        return (rest >> 1) ^ -(rest & 1), at + 1
    rest = shift = 0
    while True:
        byte = data[at]
        at += 1
        rest |= (byte & 0x7F) << shift
        if byte < _VARINT_MORE:
            return (rest >> 1) ^ -(rest & 1), at
        shift += 7
