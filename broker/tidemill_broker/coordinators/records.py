"""The records of __consumer_offsets as values, and their bytes in Kafka's own formats.

Kafka's tools (`kafka-console-consumer` with its formatters, `kafka-dump-log`) can read what is written
here: GroupMetadataKey v2, GroupMetadataValue v3, OffsetCommitKey v1, OffsetCommitValue v3
(group-coordinator/src/main/resources/common/message in Apache Kafka). A null value is a tombstone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import assert_never

from tidemill_broker.errors import BrokerError

OFFSET_KEY_VERSION = 1
GROUP_KEY_VERSION = 2
VALUE_VERSION = 3
NO_LEADER_EPOCH = -1


class UnreadableRecord(BrokerError, ValueError):
    """A record of the offsets topic that is not in a format this broker writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetCommitted:
    """A group's position in one partition; `metadata` is the client's own text."""

    group_id: str
    topic: str
    partition: int
    offset: int
    leader_epoch: int = NO_LEADER_EPOCH
    metadata: str = ""
    committed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetForgotten:
    """The group has no position in this partition any more."""

    group_id: str
    topic: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMember:
    """What is kept of a member: enough to go on after a restart without a rebalance."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStored:
    """A group at the end of a rebalance: Stable when it has members, else Empty since `since_ms`."""

    group_id: str
    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    since_ms: int
    members: tuple[StoredMember, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupForgotten:
    """The group is gone; its offsets have tombstones of their own."""

    group_id: str


Record = OffsetCommitted | OffsetForgotten | GroupStored | GroupForgotten


def encode(record: Record) -> tuple[bytes, bytes | None]:
    """The key and value of a record; a value of None is a tombstone."""
    match record:
        case OffsetCommitted():
            return _offset_key(record), _offset_value(record)
        case OffsetForgotten():
            return _offset_key(record), None
        case GroupStored():
            return _group_key(record), _group_value(record)
        case GroupForgotten():
            return _group_key(record), None
        case _:
            assert_never(record)


def decode(key: bytes, value: bytes | None) -> Record | None:
    """The record of a key and value, or None for a kind that this broker has no use for.

    Raises UnreadableRecord for bytes that end too soon or a value of another version.
    """
    fields = _Fields(key)
    version = fields.int16()
    if version in {0, OFFSET_KEY_VERSION}:
        return _decode_offset(fields, value)
    if version == GROUP_KEY_VERSION:
        return _decode_group(fields.string(), value)
    return None


def _offset_key(record: OffsetCommitted | OffsetForgotten) -> bytes:
    place = struct.pack(">i", record.partition)
    return struct.pack(">h", OFFSET_KEY_VERSION) + _string(record.group_id) + _string(record.topic) + place


def _offset_value(record: OffsetCommitted) -> bytes:
    position = struct.pack(">hqi", VALUE_VERSION, record.offset, record.leader_epoch)
    return position + _string(record.metadata) + struct.pack(">q", record.committed_at_ms)


def _group_key(record: GroupStored | GroupForgotten) -> bytes:
    return struct.pack(">h", GROUP_KEY_VERSION) + _string(record.group_id)


def _group_value(record: GroupStored) -> bytes:
    parts = [
        struct.pack(">h", VALUE_VERSION),
        _string(record.protocol_type),
        struct.pack(">i", record.generation),
        _string(record.protocol),
        _string(record.leader),
        struct.pack(">qi", record.since_ms, len(record.members)),
    ]
    for member in record.members:
        parts += [
            _string(member.member_id),
            _string(member.instance_id),
            _string(member.client_id),
            _string(member.client_host),
            struct.pack(">ii", member.rebalance_timeout_ms, member.session_timeout_ms),
            _bytes(member.subscription),
            _bytes(member.assignment),
        ]
    return b"".join(parts)


def _decode_offset(fields: _Fields, value: bytes | None) -> Record:
    group_id, topic, partition = fields.string(), fields.string(), fields.int32()
    if value is None:
        return OffsetForgotten(group_id=group_id, topic=topic, partition=partition)
    fields = _value(value)
    return OffsetCommitted(
        group_id=group_id,
        topic=topic,
        partition=partition,
        offset=fields.int64(),
        leader_epoch=fields.int32(),
        metadata=fields.string(),
        committed_at_ms=fields.int64(),
    )


def _decode_group(group_id: str, value: bytes | None) -> Record:
    if value is None:
        return GroupForgotten(group_id=group_id)
    fields = _value(value)
    return GroupStored(
        group_id=group_id,
        protocol_type=fields.string(),
        generation=fields.int32(),
        protocol=fields.string_or_none(),
        leader=fields.string_or_none(),
        since_ms=fields.int64(),
        members=tuple(_decode_member(fields) for _ in range(fields.int32())),
    )


def _decode_member(fields: _Fields) -> StoredMember:
    return StoredMember(
        member_id=fields.string(),
        instance_id=fields.string_or_none(),
        client_id=fields.string(),
        client_host=fields.string(),
        rebalance_timeout_ms=fields.int32(),
        session_timeout_ms=fields.int32(),
        subscription=fields.blob(),
        assignment=fields.blob(),
    )


def _value(value: bytes) -> _Fields:
    fields = _Fields(value)
    version = fields.int16()
    if version != VALUE_VERSION:
        raise UnreadableRecord(f"a value of version {version} in the offsets topic; {VALUE_VERSION} is read")
    return fields


def _string(text: str | None) -> bytes:
    if text is None:
        return b"\xff\xff"
    encoded = text.encode()
    return struct.pack(">h", len(encoded)) + encoded


def _bytes(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


class _Fields:
    """Reads Kafka's fixed-width (not flexible) fields one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def int16(self) -> int:
        return int.from_bytes(self._take(2), signed=True)

    def int32(self) -> int:
        return int.from_bytes(self._take(4), signed=True)

    def int64(self) -> int:
        return int.from_bytes(self._take(8), signed=True)

    def string_or_none(self) -> str | None:
        length = self.int16()
        if length == -1:
            return None
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise UnreadableRecord("text in the offsets topic is not UTF-8") from error

    def string(self) -> str:
        text = self.string_or_none()
        if text is None:
            raise UnreadableRecord("a required text in the offsets topic is null")
        return text

    def blob(self) -> bytes:
        return self._take(self.int32())

    def _take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length] if length >= 0 else b""
        if len(taken) != length:
            raise UnreadableRecord(f"a record of the offsets topic ends at byte {len(self._data)}, too soon")
        self._at += length
        return taken
