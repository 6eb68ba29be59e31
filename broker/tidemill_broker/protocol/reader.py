"""Reads a request's body into kio's entity, by kio's schema, from bytes that nobody vouches for.

kio's own readers make room for as many items as an array's length claims before they look at the bytes:
twenty bytes from anybody end the process (docs/decisions/0200). Here no length is believed beyond what the
frame holds and what is left of the request's elements (docs/decisions/0204); tagged fields that nobody
defined are skipped, as KIP-482 asks.
"""

import struct
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, get_args, get_origin
from uuid import UUID

from tidemill_broker.protocol.errors import MalformedFrame

Frame = memoryview | bytes

# What one request may hold of array items and tagged fields, all arrays together: each becomes objects while
# all other requests wait. (Kafka has no limit.) A request for every partition of a topic has room in it.
ELEMENTS_MAX: Final = 20_000
# Of a string, in bytes, as in Kafka's generated readers ("string field had invalid length").
STRING_BYTES_MAX: Final = 0x7FFF


class Elements:
    """How many more array items and tagged fields a request may have; taken before any of them is made."""

    __slots__ = ("_left", "_most")

    def __init__(self, most: int = ELEMENTS_MAX) -> None:
        self._left = self._most = most

    def take(self, count: int) -> None:
        """Count what an array's length claims. Raises MalformedFrame if the request has no room for it."""
        self._left -= count
        if self._left < 0:
            raise MalformedFrame(f"it has more than {self._most} elements: send several requests")


# (frame, offset, elements) -> (value, offset behind it); raises as frames.decode_request lists it
Reader = Callable[[Frame, int, Elements], tuple[Any, int]]

NULL: Final = -1
_MAX_VARINT_BYTES: Final = 5
_ZERO: Final = bytes(16)


@cache
def entity_reader(entity_type: type[Any]) -> Reader:
    """Make the reader of one class, once. Raises TypeError for a schema that no request of ours has."""
    flexible = entity_type.__flexible__
    members = []
    for field in fields(entity_type):
        if "tag" in field.metadata:
            raise TypeError(
                f"{entity_type.__name__}.{field.name}: tagged fields of requests are not read here"
            )
        members.append(
            (field.name, _field_reader(field.type, field.metadata.get("kafka_type"), flexible=flexible))
        )

    def read(frame: Frame, offset: int, elements: Elements) -> tuple[Any, int]:
        values = {}
        for name, read_member in members:
            values[name], offset = read_member(frame, offset, elements)
        if flexible:
            offset = skip_tagged_fields(frame, offset, elements)
        return entity_type(**values), offset

    return read


@cache
def string_reader(*, flexible: bool) -> Reader:
    """Make the reader of a string that is never null."""
    return _sized("string", nullable=False, flexible=flexible)


def skip_tagged_fields(frame: Frame, offset: int, elements: Elements) -> int:
    """Find where the tagged fields end that begin here."""
    count, offset = unsigned_varint(frame, offset)
    elements.take(count)
    for _ in range(count):
        _, offset = unsigned_varint(frame, offset)
        size, offset = unsigned_varint(frame, offset)
        offset = _checked_end(frame, offset, size)
    return offset


def unsigned_varint(frame: Frame, offset: int) -> tuple[int, int]:
    """Read an UNSIGNED_VARINT: seven bits a byte, least first, at most five bytes."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = frame[offset + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the top bit says that more follow
            return value, offset + index + 1
    raise MalformedFrame("a number does not end")


def _checked_end(frame: Frame, offset: int, size: int) -> int:
    end = offset + size
    if size < 0 or end > len(frame):
        raise MalformedFrame(f"a length of {size} goes beyond the frame")
    return end


def _field_reader(hint: Any, kafka_type: str | None, *, flexible: bool) -> Reader:
    nullable = get_origin(hint) is UnionType and NoneType in get_args(hint)
    plain = next(each for each in get_args(hint) if each is not NoneType) if nullable else hint
    if get_origin(plain) is tuple:
        item = _field_reader(get_args(plain)[0], kafka_type, flexible=flexible)
        return _array(item, nullable=nullable, flexible=flexible)
    if is_dataclass(plain):
        reader = entity_reader(plain)  # type: ignore[arg-type]  # a class, as every hint of kio's is
        return _nullable_struct(reader) if nullable else reader
    if kafka_type in ("string", "bytes"):
        return _sized(kafka_type, nullable=nullable, flexible=flexible)
    return _FIXED[kafka_type]


def _fixed(code: str, convert: Callable[[Any], Any] | None = None) -> Reader:
    form = struct.Struct(f">{code}")
    unpack, size = form.unpack_from, form.size

    def read(frame: Frame, offset: int, _elements: Elements) -> tuple[Any, int]:
        return unpack(frame, offset)[0], offset + size

    def read_and_convert(frame: Frame, offset: int, _elements: Elements) -> tuple[Any, int]:
        return convert(unpack(frame, offset)[0]), offset + size  # type: ignore[misc]  # used with one only

    return read if convert is None else read_and_convert


def _milliseconds(number: int) -> timedelta:
    return timedelta(milliseconds=number)


def _uuid(number: bytes) -> UUID | None:
    return None if number == _ZERO else UUID(bytes=number)  # kio's entities have None for the zero id


_FIXED: Final[dict[str | None, Reader]] = {
    "int8": _fixed("b"),
    "int16": _fixed("h"),
    "int32": _fixed("i"),
    "int64": _fixed("q"),
    "uint16": _fixed("H"),
    "float64": _fixed("d"),
    "bool": _fixed("?"),
    "uuid": _fixed("16s", _uuid),
    "timedelta_i32": _fixed("i", _milliseconds),
    "timedelta_i64": _fixed("q", _milliseconds),
}


def _length_reader(kafka_type: str, *, flexible: bool) -> Reader:
    if not flexible:
        return _FIXED["int16" if kafka_type == "string" else "int32"]

    def read_compact(frame: Frame, offset: int, _elements: Elements) -> tuple[int, int]:
        value, offset = unsigned_varint(frame, offset)
        return value - 1, offset  # compact lengths are one more, 0 is null

    return read_compact


def _sized(kafka_type: str, *, nullable: bool, flexible: bool) -> Reader:
    read_length = _length_reader(kafka_type, flexible=flexible)
    is_text = kafka_type == "string"

    def read(frame: Frame, offset: int, elements: Elements) -> tuple[str | bytes | None, int]:
        length, offset = read_length(frame, offset, elements)
        if length == NULL and nullable:
            return None, offset
        if is_text and length > STRING_BYTES_MAX:
            raise MalformedFrame(f"a string of {length} bytes: {STRING_BYTES_MAX} are the most")
        end = _checked_end(frame, offset, length)
        part = frame[offset:end]
        return (str(part, "utf-8") if is_text else bytes(part)), end

    return read


def _array(read_item: Reader, *, nullable: bool, flexible: bool) -> Reader:
    read_length = _length_reader("array", flexible=flexible)

    def read(frame: Frame, offset: int, elements: Elements) -> tuple[tuple[Any, ...] | None, int]:
        count, offset = read_length(frame, offset, elements)
        if count == NULL and nullable:
            return None, offset
        _checked_end(frame, offset, count)  # no item takes less than a byte
        elements.take(count)
        items = []
        for _ in range(count):
            item, offset = read_item(frame, offset, elements)
            items.append(item)
        return tuple(items), offset

    return read


def _nullable_struct(read_entity: Reader) -> Reader:
    def read(frame: Frame, offset: int, elements: Elements) -> tuple[Any, int]:
        (mark,) = struct.unpack_from(">b", frame, offset)  # KIP-893
        return (None, offset + 1) if mark < 0 else read_entity(frame, offset + 1, elements)

    return read
