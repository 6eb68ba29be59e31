"""The largest request of an API that the broker takes, made from kio's schema alone: every array filled up to
the bound with small distinct values, in every shape that its arrays allow."""

from __future__ import annotations

import typing
import uuid
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from kio.index import load_request_schema

from tests.fakes.kafka_frames import _without_none, request_frame

Path = tuple[str, ...]


def largest_requests(api_key: int, version: int, elements: int, names: str) -> Iterator[tuple[str, bytes]]:
    """Frames without their lengths, each with what it fills; `names` is what its names begin with.

    An API without arrays has one, with nothing to fill.
    """
    schema = load_request_schema(api_key, version)
    paths = list(_arrays(schema, ())) or [()]
    for path in paths:
        # Where topics have both, a zero id says that the name counts.
        by_id = not _has_both(schema)
        filler = _Filler(path, elements - len(path) + 1, names, by_id=by_id)
        yield ".".join(path) or "nothing", request_frame(filler.entity(schema, ()))


def _arrays(schema: type[Any], above: Path) -> Iterator[Path]:
    hints = typing.get_type_hints(schema)
    for each in fields(schema):
        plain = _without_none(hints[each.name])
        if typing.get_origin(plain) is tuple:
            yield (*above, each.name)
            item = typing.get_args(plain)[0]
            if is_dataclass(item):
                yield from _arrays(typing.cast("type[Any]", item), (*above, each.name))


def _has_both(schema: type[Any]) -> bool:
    """Whether anything in it has a name and an id."""
    hints = typing.get_type_hints(schema)
    items = [typing.get_args(_without_none(hint)) for hint in hints.values()]
    nested = [item[0] for item in items if item and is_dataclass(item[0])]
    return {"name", "topic_id"} <= hints.keys() or any(
        _has_both(typing.cast("type[Any]", each)) for each in nested
    )


class _Filler:
    """Fills the last array of a path; those on the way to it have one item, all others none."""

    def __init__(self, path: Path, items: int, names: str, *, by_id: bool) -> None:
        self._path = path
        self._items = items
        self._names = names
        self._by_id = by_id
        self._numbers = count()

    def entity(self, schema: type[Any], above: Path) -> Any:
        hints = typing.get_type_hints(schema)
        values = {}
        for each in fields(schema):
            if each.default is MISSING or "tag" not in each.metadata:
                values[each.name] = self._value(hints[each.name], each, (*above, each.name))
        return schema(**values)

    def _value(self, hint: Any, each: Any, here: Path) -> Any:
        plain = _without_none(hint)
        if typing.get_origin(plain) is tuple:
            length = self._items if here == self._path else int(here == self._path[: len(here)])
            return tuple(self._item(typing.get_args(plain)[0], each, here) for _ in range(length))
        if is_dataclass(plain):
            return None if plain is not hint else self.entity(typing.cast("type[Any]", plain), here)
        return self._primitive(each.metadata["kafka_type"], each.name)

    def _item(self, item: Any, each: Any, here: Path) -> Any:
        if is_dataclass(item):
            return self.entity(typing.cast("type[Any]", item), here)
        return self._primitive(each.metadata["kafka_type"], each.name)

    def _primitive(self, kafka_type: str, name: str) -> Any:
        number = next(self._numbers)
        if name == "max_wait":
            return timedelta(0)
        if kafka_type in _BY_TYPE:
            return _BY_TYPE[kafka_type]
        if kafka_type == "string":
            return f"{self._names}{number}"
        if kafka_type == "uuid":
            return uuid.UUID(int=number + 1) if self._by_id else None
        if kafka_type == "bool":
            return "validate" not in name
        # Codes of types and operations are small; partitions, of which there may be many, are told apart.
        return number if kafka_type == "int32" and "partition" in name else _CODES.get(name, 2)


_BY_TYPE = {"bytes": b"b", "records": b"b", "float64": 1.0}
_BY_TYPE |= dict.fromkeys(("timedelta_i32", "timedelta_i64"), timedelta(milliseconds=10_000))
_CODES = {
    "num_partitions": 1,
    "replication_factor": 1,
    "count": 2,
    "acks": 1,
    "replica_id": -1,
    "generation_id": -1,
    "generation_id_or_member_epoch": -1,
    "current_leader_epoch": -1,
    "timestamp": -1,
    "key_type": 0,
    "match_type": 1,
}
