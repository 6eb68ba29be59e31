"""Records of the batches that one fetch brought for one partition, read as far as somebody wants them.

Owns what a fault in these bytes means: whatever decoding raises belongs to one record or one batch, which is
an UndeliverableRecord, and reading goes on behind it. Batches wait compressed. One that inflates to
little is decoded by aiokafka's C code; a larger one, and one in which that code fails, record by record here,
with Java's tolerance (header names with replacement characters). A record that is larger than any event is
skipped as it inflates. Pure. See docs/decisions/0605.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from crc32c import crc32c

from tidemill_poller.batch import PAYLOAD_BYTES_MAX
from tidemill_poller.event import Record, UndeliverableRecord
from tidemill_poller.source.inflating import STEP_BYTES, inflated, window_bytes

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_LENGTH: Final = struct.Struct(">qi")
_LENGTH_END: Final = 12  # base offset and length: what the length does not count
_MAGIC_AT: Final = 16
_CRC_FROM: Final = 21
_ATTRIBUTES: Final = slice(21, 23)
_MAGIC: Final = 2
_CODEC, _LOG_APPEND, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20
_SMALL_BYTES: Final = STEP_BYTES  # inflated; such a batch is decoded in one piece
_LEGACY_BYTES_MAX: Final = 64 << 20
_SKIP_BYTES: Final = 16 * STEP_BYTES  # inflated in one call at most
_LARGE_HELD_BYTES: Final = 8 << 20  # an inflater at rest, with records that are put together
_WIDE_BYTES: Final = 16 << 20  # a larger window is not kept from one poll to the next
_RECORD_BYTES: Final = 700  # objects and the JSON around a record, about
_VALUE_COST: Final = 3  # the value, its JSON in base64, and the event that it is joined into
_KEPT_RAW_BYTES: Final = 1 << 20  # of a batch that cannot be delivered, for its failure record
_VARINT_BYTES_MAX: Final = 10
_PREFIX_BYTES: Final = 40  # holds a record's attributes, time, offset, key and value lengths
_HEADER_JSON_BYTES: Final = 8  # the least that a header takes in an event


@dataclass(slots=True)
class FetchedRecord:
    """One record; see event.Record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class FetchReader:
    """Reads what one fetch brought for a partition; `next_fetch_offset` is where the next fetch begins."""

    def __init__(
        self,
        topic: str,
        partition: int,
        data: bytes,
        *,
        offset: int,
        end: int,
        aborted: Sequence[tuple[int, int]],
        read_committed: bool,
    ) -> None:
        self.next_fetch_offset = offset
        self.large = False  # the next records are in a batch that inflates to much: not for the event loop
        self.wide = False  # and its inflater holds so much that one at a time may be open
        self._topic, self._partition = topic, partition
        self._data, self._at = data, 0
        self._batch_at = 0
        self._aborted = sorted(aborted or (), key=lambda entry: entry[1])
        self._aborted_producers: set[int] = set()
        self._read_committed = read_committed
        self._raw = b""
        self._end_offset = end  # the log's: no header is believed beyond it
        self._last_offset = offset
        self._paused = False  # after a bounded part of a record that is skipped
        self._records: Iterator[Record | None] | None = None
        self._held = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self._records is None and self._at >= len(self._data)

    @property
    def held_bytes(self) -> int:
        """What is held: the fetched bytes, and a batch that is inflated in part."""
        return len(self._data) + self._held

    def rest(self) -> None:
        """Hold no wide inflater until the next call of `read`, which inflates its batch again up to here."""
        if self.wide:
            self._close()
            self._at = self._batch_at

    def read(self, *, records_max: int, bytes_max: int, large: bool = False) -> list[Record]:
        """Return the next records, at least one if there are any, and only bounded work was needed.

        Without `large` it stops at a batch that inflates to much, and sets `large`.
        """
        found: list[Record] = []
        cost, self._paused = 0, False
        while len(found) < records_max and cost < bytes_max and not self.done and not self._paused:
            if self.large and not large:
                break
            try:
                record = self._next()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - a boundary: panics of the codecs are BaseExceptions
                record = self._unreadable(error)
            if record is not None:
                found.append(record)
                cost += _RECORD_BYTES + _VALUE_COST * (len(record.value or b"") + len(record.key or b""))
        return found

    def _next(self) -> Record | None:
        """Return the next record; None when none came of this step."""
        if self._records is None:
            self._open()
            return None
        record = next(self._records, None)
        if record is None:
            self._paused = self.large
            if not self.large:
                self._end()
            return None
        if record.offset < self.next_fetch_offset:
            return None  # the fetch began inside the batch
        if record.offset > self._last_offset:
            raise ValueError(f"a record with offset {record.offset} in a batch up to {self._last_offset}")
        self.next_fetch_offset = (
            record.last_offset if isinstance(record, UndeliverableRecord) else record.offset
        ) + 1
        return record

    def _end(self) -> None:
        """Close the batch; compaction may have taken its last records."""
        self.next_fetch_offset = max(self.next_fetch_offset, self._last_offset + 1)
        self._close()

    def _close(self) -> None:
        self._records, self._held, self._raw = None, 0, b""
        self.large = self.wide = False

    def _unreadable(self, error: BaseException) -> Record | None:
        """Return what stands for the rest of the batch, as one."""
        first, last = self.next_fetch_offset, self._last_offset
        raw, size = self._raw, len(self._raw)
        self._close()
        if last < first and self._at < len(self._data):
            return None
        last = max(first, last)
        self.next_fetch_offset = last + 1
        return self._undeliverable(
            "BatchUnreadable", first, last, timestamp=-1, size=size, raw=raw, error=_words(error)
        )

    def _undeliverable(
        self, condition: Any, first: int, last: int, *, timestamp: int, size: int, raw: bytes, error: str
    ) -> UndeliverableRecord:
        return UndeliverableRecord(
            topic=self._topic,
            partition=self._partition,
            offset=first,
            last_offset=last,
            timestamp=timestamp,
            condition=condition,
            error=error,
            size_bytes=size,
            raw=raw if len(raw) <= _KEPT_RAW_BYTES else b"",
        )

    # Batches

    def _open(self) -> None:
        """Open the next batch, or skip it."""
        left = len(self._data) - self._at
        if left < _LENGTH_END:
            self._at = len(self._data)
            return
        base, length = _LENGTH.unpack_from(self._data, self._at)
        end = self._at + _LENGTH_END + length
        self._last_offset = self.next_fetch_offset
        if length <= _MAGIC_AT - _LENGTH_END or (end > len(self._data) and self._at == 0):
            self._raw, self._at = self._data[self._at :], len(self._data)
            raise ValueError(f"a batch of {length} bytes at offset {base}")
        if end > len(self._data):  # the fetch ends inside it
            self._at = len(self._data)
            return
        self._raw = raw = self._data[self._at : end]
        self._batch_at, self._at = self._at, end
        if raw[_MAGIC_AT] < _MAGIC:
            self._open_legacy(raw)
        else:
            self._open_batch(raw)

    def _open_legacy(self, raw: bytes) -> None:
        (base,) = struct.unpack_from(">q", raw)  # of a compressed set: that of its last message
        self._last_offset = max(base, self.next_fetch_offset)
        batch = LegacyRecordBatch(raw, raw[_MAGIC_AT])
        if not batch.validate_crc():
            raise ValueError("the CRC does not match")
        if len(raw) > _SMALL_BYTES or raw[_MAGIC_AT + 1] & _CODEC:
            self._bound_legacy(raw)
        self._records = (self._fetched(record) for record in batch)

    def _bound_legacy(self, raw: bytes) -> None:
        """Raise if a message set before v2 inflates to too much: aiokafka inflates it in one piece."""
        at = _MAGIC_AT + 2 + (8 if raw[_MAGIC_AT] else 0)
        for _ in range(2):  # key, then value
            (size,) = struct.unpack_from(">i", raw, at)
            start, at = at + 4, at + 4 + max(size, 0)
        total = 0
        for step in inflated(raw[_MAGIC_AT + 1] & _CODEC, raw[start:at]):
            total += len(step)
            if total > _LEGACY_BYTES_MAX:
                raise ValueError(f"a message set inflates to more than {_LEGACY_BYTES_MAX} bytes")

    def _open_batch(self, raw: bytes) -> None:
        header = _HEADER.unpack_from(raw)
        base, crc, attributes, delta, producer = header[0], header[4], header[5], header[6], header[9]
        self._last_offset = self._plausible_end(base, delta)
        if crc32c(memoryview(raw)[_CRC_FROM:]) != crc:
            raise ValueError("the CRC does not match")
        if self._not_for_us(raw, base, attributes, producer):
            self._end()
            return
        steps = inflated(attributes & _CODEC, raw[_HEADER.size :])
        start = list(_up_to(steps, _SMALL_BYTES + 1))
        small = sum(map(len, start)) <= _SMALL_BYTES
        if small:
            self._records = self._small(raw, b"".join(start), header)
            self._held = sum(map(len, start))
        else:
            window = window_bytes(attributes & _CODEC, raw[_HEADER.size :])
            self.large, self.wide, self._held = True, window > _WIDE_BYTES, _LARGE_HELD_BYTES + window
            self._paused = True  # who reads it may have to wait for others
            self._records = self._one_by_one(chain(start, steps), header)

    def _plausible_end(self, base: int, delta: int) -> int:
        """Return the batch's last offset, but before the next batch: headers may be damaged too."""
        last = min(base + max(delta, 0), self._end_offset - 1)
        if len(self._data) - self._at >= _LENGTH_END:
            last = min(last, int(_LENGTH.unpack_from(self._data, self._at)[0]) - 1)
        return last

    def _not_for_us(self, raw: bytes, base: int, attributes: int, producer: int) -> bool:
        """Whether it is a control batch, or of an aborted transaction (as aiokafka decides)."""
        if self._read_committed and producer >= 0:
            while self._aborted and self._aborted[0][1] <= base:
                self._aborted_producers.add(self._aborted.pop(0)[0])
            if attributes & _CONTROL:
                if _aborts(raw):
                    self._aborted_producers.discard(producer)
            elif attributes & _TRANSACTIONAL and producer in self._aborted_producers:
                return True
        return bool(attributes & _CONTROL)

    # Records

    def _fetched(self, record: Any) -> FetchedRecord:
        return FetchedRecord(
            self._topic,
            self._partition,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            record.headers,
        )

    def _small(self, raw: bytes, payload: bytes, header: Sequence[int]) -> Iterator[Record | None]:
        """Yield the records of a small batch."""
        attributes = struct.pack(">h", header[5] & ~_CODEC)
        plain = b"".join(
            (raw[: _ATTRIBUTES.start], attributes, raw[_ATTRIBUTES.stop : _HEADER.size], payload)
        )
        try:
            yield from map(self._fetched, DefaultRecordBatch(plain))
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException:  # noqa: BLE001 - a boundary: which record it is, the careful reader finds
            for record in self._one_by_one(iter((payload,)), header):
                if record is not None and record.offset >= self.next_fetch_offset:
                    yield record

    def _one_by_one(self, steps: Iterator[bytes], header: Sequence[int]) -> Iterator[Record | None]:
        """Yield the records of any batch; None after a bounded part of one that is skipped."""
        stream = _Stream(steps)
        if header[12] < 0:
            raise ValueError(f"a batch of {header[12]} records")
        for _ in range(header[12]):
            length = stream.varint()
            if length < 0:
                raise ValueError(f"a record of {length} bytes")
            if length > PAYLOAD_BYTES_MAX:
                prefix = stream.take(min(length, _PREFIX_BYTES))
                yield self._too_large(prefix, header, length)
                left = length - len(prefix)
                while left:
                    part = min(left, _SKIP_BYTES)
                    stream.skip(part)
                    left -= part
                    yield None
            else:
                yield self._record(stream.take(length), header)
        self.large = False

    def _record(self, body: bytes, header: Sequence[int]) -> Record:
        timestamp, offset, at = _times(body, header)
        if not self.next_fetch_offset <= offset <= self._last_offset:
            if header[0] <= offset < self.next_fetch_offset:
                return FetchedRecord(self._topic, self._partition, offset, 0, 0, None, None, ())
            raise ValueError(f"a record with offset {offset} in a batch up to {self._last_offset}")
        try:
            key, at = _bytes(body, at)
            value, at = _bytes(body, at)
            count, at = _varint(body, at)
            if not 0 <= count <= len(body):
                raise ValueError(f"{count} headers")  # noqa: TRY301 - as what the readers raise
            if _event_bytes(body, key, value, count) > PAYLOAD_BYTES_MAX:
                return self._too_large(body[:_PREFIX_BYTES], header, len(body))
            headers = []
            for _ in range(count):
                name, at = _bytes(body, at)
                content, at = _bytes(body, at)
                if name is None:
                    raise ValueError("a header without a name")  # noqa: TRY301 - as above
                headers.append((name.decode(errors="replace"), content))
            if at != len(body):
                raise ValueError(f"a record of {len(body)} bytes ends after {at}")  # noqa: TRY301 - as above
        except ValueError as error:
            return self._undeliverable(
                "RecordUnreadable",
                offset,
                offset,
                timestamp=timestamp,
                size=len(body),
                raw=body,
                error=_words(error),
            )
        kind = int(bool(header[5] & _LOG_APPEND))
        return FetchedRecord(self._topic, self._partition, offset, timestamp, kind, key, value, headers)

    def _too_large(self, prefix: bytes, header: Sequence[int], size: int) -> UndeliverableRecord:
        timestamp, offset, _ = _times(prefix, header)
        return self._undeliverable(
            "MaximumPayloadSizeExceeded",
            offset,
            offset,
            timestamp=timestamp,
            size=size,
            raw=b"",
            error=f"a record of {size} bytes",
        )


class _Stream:
    """Inflated bytes, read forward only."""

    def __init__(self, steps: Iterator[bytes]) -> None:
        self._steps = steps
        self._buffer, self._at = b"", 0

    def take(self, count: int) -> bytes:
        """Return so many bytes."""
        parts, missing = [], count
        while missing:
            self._refill()
            part = self._buffer[self._at : self._at + missing]
            self._at += len(part)
            missing -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def skip(self, count: int) -> None:
        """Pass over so many bytes."""
        while count:
            self._refill()
            passed = min(count, len(self._buffer) - self._at)
            self._at += passed
            count -= passed

    def varint(self) -> int:
        """Return the next zigzag varint."""
        result = shift = 0
        for _ in range(_VARINT_BYTES_MAX):
            byte = self.take(1)[0]
            result |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the last byte
                return (result >> 1) ^ -(result & 1)
            shift += 7
        raise ValueError("a varint is too long")

    def _refill(self) -> None:
        while self._at >= len(self._buffer):
            step = next(self._steps, None)
            if step is None:
                raise ValueError("the batch ends inside a record")
            self._buffer, self._at = step, 0


def _up_to(steps: Iterator[bytes], count: int) -> Iterator[bytes]:
    total = 0
    while total < count and (step := next(steps, None)) is not None:
        total += len(step)
        yield step


def _times(body: bytes, header: Sequence[int]) -> tuple[int, int, int]:
    """Return a record's timestamp and offset, and where its key begins."""
    delta_ms, at = _varint(body, 1)
    delta, at = _varint(body, at)
    timestamp = header[8] if header[5] & _LOG_APPEND else header[7] + delta_ms
    return max(min(timestamp, 2**63 - 1), -1), header[0] + delta, at


def _varint(body: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    for index in range(at, at + _VARINT_BYTES_MAX):
        if index >= len(body):
            raise ValueError("the record ends inside a number")
        byte = body[index]
        result |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte
            return (result >> 1) ^ -(result & 1), index + 1
        shift += 7
    raise ValueError("a varint is too long")


def _bytes(body: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = _varint(body, at)
    if size < 0:
        return None, at
    if at + size > len(body):
        raise ValueError(f"a field of {size} bytes in a record of {len(body)}")
    return body[at : at + size], at + size


def _event_bytes(body: bytes, key: bytes | None, value: bytes | None, headers: int) -> int:
    """Return the least that the record takes in an event: base64, and two characters a byte of a header."""
    fields = len(key or b"") + len(value or b"")
    in_headers = max(len(body) - fields - 2 * headers - _PREFIX_BYTES, 0) if headers else 0
    return fields * 4 // 3 + max(headers * _HEADER_JSON_BYTES, in_headers)


def _aborts(raw: bytes) -> bool:
    """Whether a control batch ends a transaction by aborting it: its key is (version, type 0)."""
    record = next(iter(DefaultRecordBatch(raw)))
    return bool(struct.unpack_from(">hh", record.key)[1] == 0)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
