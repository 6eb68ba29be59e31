"""Writes kio's response entities to bytes, by kio's schema.

kio's own writer checks every number against its type, in Python: 20 µs for a partition of Metadata. This one
packs neighbouring numbers by one struct call and trusts the handlers; a number that does not fit raises
struct.error, which is our bug. A test compares both writers, byte by byte, for every version in the table.
"""

import struct
from collections.abc import Callable, Generator
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import timedelta
from functools import cache
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Final, get_args, get_origin
from uuid import UUID

Writer = Callable[[bytearray, Any], None]
TurnsWriter = Callable[[bytearray, Any], Generator[None, None, None]]

_CODES: Final = {
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint16": "H",
    "float64": "d",
    "bool": "?",
    "error_code": "h",
}
_MILLISECOND: Final = timedelta(milliseconds=1)
_VARINT_SHORT: Final = 0x80
_ZERO: Final = bytes(16)


@cache
def entity_writer(entity_type: type[Any]) -> Writer:
    """Make the writer of one class, once. Raises TypeError for a schema that no response of ours has."""
    flexible = entity_type.__flexible__
    steps = _steps([field for field in fields(entity_type) if "tag" not in field.metadata], flexible=flexible)
    tagged = [_tagged(field) for field in fields(entity_type) if "tag" in field.metadata]
    tagged.sort(key=lambda each: each[0])

    def write(out: bytearray, entity: Any) -> None:
        for get, write_part in steps:
            write_part(out, get(entity))
        if flexible:
            _write_tagged(out, entity, tagged)

    return write


@cache
def entity_writer_in_turns(entity_type: type[Any]) -> TurnsWriter:
    """Make a writer of the same bytes as `entity_writer`'s, which yields between the items of its arrays."""
    flexible = entity_type.__flexible__
    members = [field for field in fields(entity_type) if "tag" not in field.metadata]
    tagged = [_tagged(field) for field in fields(entity_type) if "tag" in field.metadata]
    tagged.sort(key=lambda each: each[0])
    parts = [(attrgetter(member.name), _part_in_turns(member, flexible=flexible)) for member in members]

    def write(out: bytearray, entity: Any) -> Generator[None, None, None]:
        for get, write_part in parts:
            yield from write_part(out, get(entity))
        if flexible:
            _write_tagged(out, entity, tagged)

    return write


def _part_in_turns(member: Field[Any], *, flexible: bool) -> TurnsWriter:
    plain = _without_none(member.type)
    item_type = get_args(plain)[0] if get_origin(plain) is tuple else None
    if is_dataclass(item_type):
        return _array_in_turns(entity_writer_in_turns(item_type), flexible=flexible)  # type: ignore[arg-type]  # a class, as every hint of kio's is
    return _at_once(_field_writer(member.type, member.metadata.get("kafka_type"), flexible=flexible))


def _array_in_turns(write_item: TurnsWriter, *, flexible: bool) -> TurnsWriter:
    write_length = _length_writer("array", flexible=flexible)

    def write(out: bytearray, items: tuple[Any, ...] | None) -> Generator[None, None, None]:
        write_length(out, -1 if items is None else len(items))
        for item in items or ():
            yield from write_item(out, item)
            yield

    return write


def _at_once(write_whole: Writer) -> TurnsWriter:
    def write(out: bytearray, value: Any) -> Generator[None, None, None]:
        write_whole(out, value)
        yield from ()

    return write


def _steps(members: list[Field[Any]], *, flexible: bool) -> list[tuple[Callable[[Any], Any], Writer]]:
    """Turn members into (getter, writer); neighbours that are plain numbers become one step."""
    steps: list[tuple[Callable[[Any], Any], Writer]] = []
    numbers: list[Field[Any]] = []
    for member in members:
        if _is_number(member):
            numbers.append(member)
            continue
        steps += _packed(numbers)
        numbers = []
        writer = _field_writer(member.type, member.metadata.get("kafka_type"), flexible=flexible)
        steps.append((attrgetter(member.name), writer))
    return steps + _packed(numbers)


def _is_number(member: Field[Any]) -> bool:
    return get_origin(member.type) is None and member.metadata.get("kafka_type") in _CODES


def _packed(numbers: list[Field[Any]]) -> list[tuple[Callable[[Any], Any], Writer]]:
    if not numbers:
        return []
    codes = "".join(_CODES[number.metadata["kafka_type"]] for number in numbers)
    get = attrgetter(*(number.name for number in numbers))
    return [(get, _many(codes) if len(numbers) > 1 else _one(codes))]


def _one(code: str) -> Writer:
    pack = struct.Struct(f">{code}").pack

    def write(out: bytearray, value: Any) -> None:
        out += pack(value)

    return write


def _many(codes: str) -> Writer:
    pack = struct.Struct(f">{codes}").pack

    def write(out: bytearray, values: tuple[Any, ...]) -> None:
        out += pack(*values)

    return write


def _without_none(hint: Any) -> Any:
    nullable = get_origin(hint) is UnionType and NoneType in get_args(hint)
    return next(each for each in get_args(hint) if each is not NoneType) if nullable else hint


def _field_writer(hint: Any, kafka_type: str | None, *, flexible: bool) -> Writer:
    plain = _without_none(hint)
    nullable = plain is not hint
    if get_origin(plain) is tuple:
        return _array(_field_writer(get_args(plain)[0], kafka_type, flexible=flexible), flexible=flexible)
    if is_dataclass(plain):
        writer = entity_writer(plain)  # type: ignore[arg-type]  # a class, as every hint of kio's is
        return _nullable_struct(writer) if nullable else writer
    if kafka_type in ("string", "bytes"):
        return _sized(_length_writer(kafka_type, flexible=flexible))
    if kafka_type == "uuid":
        return _write_uuid
    if kafka_type in ("timedelta_i32", "timedelta_i64"):
        return _milliseconds("i" if kafka_type == "timedelta_i32" else "q")
    if kafka_type not in _CODES:
        raise TypeError(f"fields of {kafka_type} are not written here")
    return _one(_CODES[kafka_type])


def _write_uuid(out: bytearray, value: UUID | None) -> None:
    out += _ZERO if value is None else value.bytes


def _milliseconds(code: str) -> Writer:
    pack = struct.Struct(f">{code}").pack

    def write(out: bytearray, value: timedelta) -> None:
        out += pack(value // _MILLISECOND)

    return write


def _length_writer(kafka_type: str, *, flexible: bool) -> Writer:
    """Write the length of a string, bytes or an array; -1 is null."""
    if flexible:
        return _write_compact_length
    return _one("h" if kafka_type == "string" else "i")


def _write_compact_length(out: bytearray, length: int) -> None:
    write_unsigned_varint(out, length + 1)  # compact lengths are one more, 0 is null


def write_unsigned_varint(out: bytearray, value: int) -> None:
    """Write an UNSIGNED_VARINT: seven bits a byte, least first."""
    while value >= _VARINT_SHORT:
        out.append(value & 0x7F | _VARINT_SHORT)
        value >>= 7
    out.append(value)


def _sized(write_length: Writer) -> Writer:
    def write(out: bytearray, value: str | bytes | None) -> None:
        if value is None:
            write_length(out, -1)
            return
        encoded = value.encode() if isinstance(value, str) else value
        write_length(out, len(encoded))
        out += encoded

    return write


def _array(write_item: Writer, *, flexible: bool) -> Writer:
    write_length = _length_writer("array", flexible=flexible)

    def write(out: bytearray, items: tuple[Any, ...] | None) -> None:
        if items is None:
            write_length(out, -1)
            return
        write_length(out, len(items))
        for item in items:
            write_item(out, item)

    return write


def _nullable_struct(write_entity: Writer) -> Writer:
    def write(out: bytearray, entity: Any) -> None:
        if entity is None:
            out += b"\xff"  # KIP-893
            return
        out += b"\1"
        write_entity(out, entity)

    return write


def _tagged(member: Field[Any]) -> tuple[int, str, Any, Writer]:
    if member.default is MISSING:
        raise TypeError(f"the tagged field {member.name} has no default and is not written here")
    writer = _field_writer(member.type, member.metadata.get("kafka_type"), flexible=True)
    return member.metadata["tag"], member.name, member.default, writer


def _write_tagged(out: bytearray, entity: Any, tagged: list[tuple[int, str, Any, Writer]]) -> None:
    """Write those tagged fields that differ from their default (KIP-482)."""
    members = [(tag, getattr(entity, name), default, write) for tag, name, default, write in tagged]
    told = [(tag, value, write) for tag, value, default, write in members if value != default]
    write_unsigned_varint(out, len(told))
    for tag, value, write in told:
        part = bytearray()
        write(part, value)
        write_unsigned_varint(out, tag)
        write_unsigned_varint(out, len(part))
        out += part
