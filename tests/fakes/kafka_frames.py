"""Request frames made by kio: from an entity, or from a seeded random one, for tests that speak raw Kafka."""

from __future__ import annotations

import io
import random
import struct
import types
import typing
import uuid
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kio.index import load_payload_module, load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType

INTEGERS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
NAMES = ("flights", "orders", "a.b", "", "no such topic", "__consumer_offsets", "naïve ✈")


def request_frame(entity: Any, *, correlation_id: int = 7, client_id: str | None = "test") -> bytes:
    """One whole request without its length."""
    buffer = io.BytesIO()
    buffer.write(struct.pack(">hhi", entity.__api_key__, entity.__version__, correlation_id))
    encoded = None if client_id is None else client_id.encode()
    buffer.write(struct.pack(">h", -1) if encoded is None else struct.pack(">h", len(encoded)) + encoded)
    if entity.__header_schema__.__version__ == 2:
        buffer.write(b"\0")
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


def request(api_key: int, version: int, **members: Any) -> Any:
    """A request entity; nested ones are dicts, and what is left out gets its default or an empty value."""
    return entity(load_request_schema(api_key, version), members)


def entity(schema: type[Any], members: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(schema)
    values = {}
    for each in fields(schema):
        if each.name in members:
            values[each.name] = _converted(hints[each.name], members[each.name])
        elif each.default is MISSING:
            values[each.name] = _empty(hints[each.name])
    return schema(**values)


def _converted(hint: Any, value: Any) -> Any:
    plain = _without_none(hint)
    if isinstance(value, dict):
        return entity(plain, value)
    if isinstance(value, list):
        return tuple(_converted(typing.get_args(plain)[0], each) for each in value)
    return value


def _empty(hint: Any) -> Any:
    if _without_none(hint) is not hint:
        return None
    if typing.get_origin(hint) is tuple:
        return ()
    if issubclass(hint, timedelta):
        return timedelta(0)
    empty: Any = getattr(hint, "__bound__", hint)
    return empty()


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(each for each in typing.get_args(hint) if each is not type(None))
    return hint


def read_response(api_key: int, version: int, frame: bytes, *, correlation_id: int = 7) -> Any:
    """The entity in a response frame with its length; checks that, the correlation id, and where it ends."""
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert int.from_bytes(frame[4:8], "big", signed=True) == correlation_id
    schema = load_response_schema(api_key, version)
    offset = 8
    if schema.__header_schema__.__version__ == 1:
        assert frame[8] == 0
        offset = 9
    response, size = entity_reader(schema)(frame, offset)
    assert offset + size == len(frame)
    return response


def versions_known_to_kio(api_key: int) -> list[int]:
    """Every version of a request that kio has a class for."""
    found = []
    for version in range(30):
        try:
            load_payload_module(api_key, version, EntityType.request)
        except Exception:  # noqa: BLE001 - kio has no gentler way to ask
            continue
        found.append(version)
    return found


def random_request(generator: random.Random, api_key: int, version: int) -> Any:
    """A request with every field filled at random, within its type."""
    return random_entity(generator, load_request_schema(api_key, version))


def random_entity(generator: random.Random, schema: type[Any]) -> Any:
    hints = typing.get_type_hints(schema)
    return schema(**{each.name: _random_value(generator, hints[each.name], each) for each in fields(schema)})


def _random_value(generator: random.Random, hint: Any, each: Any) -> Any:
    plain = _without_none(hint)
    if plain is not hint and "tag" not in each.metadata and generator.random() < 0.2:
        return None
    if typing.get_origin(plain) is tuple:
        item = typing.get_args(plain)[0]
        return tuple(_random_value(generator, item, each) for _ in range(generator.randrange(4)))
    if is_dataclass(plain):
        return random_entity(generator, typing.cast("type[Any]", plain))
    return _random_primitive(generator, each.metadata["kafka_type"])


def _random_primitive(generator: random.Random, kafka_type: str) -> Any:
    if kafka_type in INTEGERS:
        limit = 1 << (INTEGERS[kafka_type] - 1)
        return generator.choice((0, 1, -1, 2, 3, limit - 1, -limit, generator.randrange(-limit, limit)))
    if kafka_type == "string":
        return generator.choice(NAMES)
    if kafka_type in ("bytes", "records"):
        return generator.randbytes(generator.randrange(20))
    return {
        "bool": lambda: generator.random() < 0.5,
        "uint16": lambda: generator.randrange(1 << 16),
        "uuid": lambda: uuid.UUID(int=generator.getrandbits(128)),
        "error_code": lambda: generator.choice(list(ErrorCode)),
        "timedelta_i32": lambda: timedelta(milliseconds=generator.randrange(1 << 31)),
        "timedelta_i64": lambda: timedelta(milliseconds=generator.randrange(1 << 40)),
        "datetime_i64": lambda: datetime.fromtimestamp(generator.randrange(1 << 31), UTC),
        "float64": generator.random,
    }[kafka_type]()
