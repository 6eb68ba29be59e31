"""Kafka records as the JSON that Lambda hands to a function, byte for byte.

Owns the shape of the invocation event (AWS: "Using Lambda with Amazon MSK", "… self-managed Apache Kafka").
Pure. The JSON is written by hand: a batch is one join of ready parts, its exact size a sum.
"""

from __future__ import annotations

from array import array
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import orjson

# Kafka's TimestampType; -1 is what a message of format v0 has.
_TIMESTAMP_TYPES: Final = {0: b"CREATE_TIME", 1: b"LOG_APPEND_TIME", -1: b"NO_TIMESTAMP_TYPE"}
_WHOLE_RECORD: Final = (
    b'%b%d,"timestamp":%d,"timestampType":"CREATE_TIME","key":"%b","value":"%b","headers":[]}'
)
_MSK: Final = "aws:kafka"
_SELF_MANAGED: Final = (
    "SelfManagedKafka"  # without "aws:", whatever old samples say (powertools requires this)
)


class Record(Protocol):
    """What is read of a Kafka record; `source.record_batches` makes them."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds since 1970
    timestamp_type: int  # 0 create, 1 log append
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


UndeliverableCondition = Literal["BatchUnreadable", "RecordUnreadable", "MaximumPayloadSizeExceeded"]


@dataclass(slots=True, kw_only=True)
class UndeliverableRecord:
    """A Record that stands for what no function can be given: what cannot be decoded, or is too large.

    It covers `offset` to `last_offset`, and goes to the failure destination by itself.
    """

    topic: str
    partition: int
    offset: int
    last_offset: int
    timestamp: int  # -1: not known
    condition: UndeliverableCondition
    error: str
    size_bytes: int
    raw: bytes  # the record or the batch as Kafka holds it; empty when it is too large to keep
    timestamp_type: int = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSource:
    """The constant frame of every event of one partition: what stands before and after its records."""

    key: str  # "<topic>-<partition>", as in the records map
    opening: bytes
    closing: bytes = b"]}}"

    @property
    def frame_bytes(self) -> int:
        """Size of an event without records."""
        return len(self.opening) + len(self.closing)


def event_source(
    topic: str, partition: int, *, bootstrap_servers: Sequence[str], event_source_arn: str | None
) -> EventSource:
    """Return the frame for one partition; an ARN makes it an MSK event, none a self-managed one."""
    key = f"{topic}-{partition}"
    top = {"eventSource": _MSK if event_source_arn else _SELF_MANAGED}
    if event_source_arn:
        top["eventSourceArn"] = event_source_arn
    top["bootstrapServers"] = ",".join(bootstrap_servers)
    opening = orjson.dumps(top)[:-1] + b',"records":{' + orjson.dumps(key) + b":["
    return EventSource(key=key, opening=opening)


def event_bytes(source: EventSource, records: int, records_bytes: int) -> int:
    """Size of the event of so many records whose JSON has so many bytes in all: frame, records, commas."""
    return source.frame_bytes + records_bytes + max(records - 1, 0)


def event_json(source: EventSource, records_json: Sequence[bytes]) -> bytes:
    """Return the whole event."""
    return source.opening + b",".join(records_json) + source.closing


def records_json(records: Sequence[Record]) -> list[bytes]:
    """Return each record's JSON; all records are of one partition. The poller's hottest loop."""
    if not records:
        return []
    head = b'{"topic":%b,"partition":%d,"offset":' % (orjson.dumps(records[0].topic), records[0].partition)
    parts: list[bytes] = []
    for record in records:
        key, value = record.key, record.value
        if key is None or value is None or record.headers or record.timestamp_type:
            parts.append(_odd_record_json(head, record))
        else:
            parts.append(
                _WHOLE_RECORD
                % (
                    head,
                    record.offset,
                    record.timestamp,
                    b2a_base64(key, newline=False),
                    b2a_base64(value, newline=False),
                )
            )
    return parts


def _undeliverable_json(record: UndeliverableRecord) -> bytes:
    """What stands in the failure record's payload for a record without an event."""
    return orjson.dumps(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "lastOffset": record.last_offset,
            "error": record.error,
            "raw": b2a_base64(record.raw, newline=False).decode(),
        }
    )


def _odd_record_json(head: bytes, record: Record) -> bytes:
    """Any record: a null key or value is an absent field, not a JSON null; an empty one is ""."""
    if isinstance(record, UndeliverableRecord):
        return _undeliverable_json(record)
    return b'%b%d,"timestamp":%d,"timestampType":"%b"%b%b,"headers":[%b]}' % (
        head,
        record.offset,
        record.timestamp,
        _TIMESTAMP_TYPES[record.timestamp_type],
        b"" if record.key is None else b',"key":"%b"' % b2a_base64(record.key, newline=False),
        b"" if record.value is None else b',"value":"%b"' % b2a_base64(record.value, newline=False),
        b",".join([_header_json(name, value) for name, value in record.headers]),
    )


def _header_json(name: str, value: bytes | None) -> bytes:
    """Header values are arrays of signed bytes, as Java writes a byte[].

    What AWS sends for a null value is not known; an empty array keeps every SDK's parser whole.
    """
    return b"{%b:%b}" % (orjson.dumps(name), orjson.dumps(array("b", value or b"").tolist()))
