"""Serialises a handler's output into a rest-json reply: status, headers, payload or JSON document.

Every serialiser is built once from the output shape. A member that the shape lacks is our bug and raises
TypeError.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import orjson

Serialise = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One successful reply on the wire; ``content_type`` is None when there is no body."""

    status: int
    headers: dict[str, str]
    body: bytes
    content_type: str | None


class OutputSerialiser:
    """Serialises the outputs of one operation."""

    def __init__(self, operation: Any) -> None:
        self._name: str = operation.name
        self._default_status: int = operation.http.get("responseCode", 200)
        self._status_member: str | None = None
        self._headers: list[tuple[str, str, Serialise]] = []
        self._payload: tuple[str, str, Serialise] | None = None
        self._document: Serialise | None = None
        self._located: set[str] = set()
        self._known: frozenset[str] = frozenset()
        if operation.output_shape is not None:
            self._read_shape(operation.output_shape)

    def serialise(self, output: Mapping[str, Any]) -> Reply:
        """The reply for these members; None stands for absent."""
        if not output.keys() <= self._known:
            raise TypeError(f"{self._name}'s output has no member {sorted(output.keys() - self._known)}")
        status = self._default_status
        if self._status_member and (found := output.get(self._status_member)) is not None:
            status = found
        headers = {
            name: text(output[member])
            for member, name, text in self._headers
            if output.get(member) is not None
        }
        if self._payload:
            member, content_type, to_bytes = self._payload
            value = output.get(member)
            body = b"" if value is None else to_bytes(value)
            return Reply(
                status=status, headers=headers, body=body, content_type=content_type if body else None
            )
        if self._document is None:
            return Reply(status=status, headers=headers, body=b"", content_type=None)
        document = {member: value for member, value in output.items() if member not in self._located}
        body = orjson.dumps(self._document(document))
        return Reply(status=status, headers=headers, body=body, content_type="application/json")

    def _read_shape(self, shape: Any) -> None:
        self._known = frozenset(shape.members)
        payload = shape.serialization.get("payload")
        for member, member_shape in shape.members.items():
            location = member_shape.serialization.get("location")
            if location == "statusCode":
                self._status_member = member
            elif location == "header":
                name = member_shape.serialization.get("name", member)
                self._headers.append((member, name, _header_text(member_shape)))
            elif member == payload:
                self._payload = (member, *_payload_serialiser(member_shape))
                continue
            else:
                continue
            self._located.add(member)
        if payload is None and self._located != self._known:
            self._document = _structure(shape, {})


def _payload_serialiser(shape: Any) -> tuple[str, Serialise]:
    if shape.type_name == "blob":
        return "application/json", lambda value: value
    if shape.type_name == "string":
        return "text/plain", lambda value: value.encode()
    serialise = _serialiser(shape, {})
    return "application/json", lambda value: orjson.dumps(serialise(value))


def _header_text(shape: Any) -> Serialise:
    match shape.type_name:
        case "boolean":
            return lambda value: "true" if value else "false"
        case "timestamp":
            return lambda value: format_datetime(value, usegmt=True)
        case _:
            return str


def _serialiser(shape: Any, known: dict[str, Serialise]) -> Serialise:
    """The serialiser of one JSON value. ``known`` closes the circle of shapes that hold themselves."""
    match shape.type_name:
        case "structure":
            return known.get(shape.name) or _structure(shape, known)
        case "list":
            return known.get(shape.name) or _list(shape, known)
        case "map":
            return known.get(shape.name) or _map(shape, known)
        case "blob":
            return lambda value: base64.b64encode(value).decode()
        case "timestamp":
            named = shape.serialization.get("timestampFormat", "unixTimestamp")
            return _epoch_seconds if named == "unixTimestamp" else _iso8601
        case _:
            return lambda value: value


def _structure(shape: Any, known: dict[str, Serialise]) -> Serialise:
    fields: dict[str, tuple[str, Serialise]] = {}

    def serialise(value: Mapping[str, Any]) -> dict[str, Any]:
        document = {}
        for member, found in value.items():
            if member not in fields:
                raise TypeError(f"{shape.name} has no member {member}")
            if found is not None:
                wire, serialise_member = fields[member]
                document[wire] = serialise_member(found)
        return document

    known[shape.name] = serialise
    for member, member_shape in shape.members.items():
        fields[member] = (member_shape.serialization.get("name", member), _serialiser(member_shape, known))
    return serialise


def _list(shape: Any, known: dict[str, Serialise]) -> Serialise:
    item: list[Serialise] = []

    def serialise(value: Any) -> list[Any]:
        return [item[0](found) for found in value]

    known[shape.name] = serialise
    item.append(_serialiser(shape.member, known))
    return serialise


def _map(shape: Any, known: dict[str, Serialise]) -> Serialise:
    item: list[Serialise] = []

    def serialise(value: Mapping[str, Any]) -> dict[str, Any]:
        return {key: item[0](found) for key, found in value.items()}

    known[shape.name] = serialise
    item.append(_serialiser(shape.value, known))
    return serialise


def _epoch_seconds(moment: datetime) -> float:
    """Lambda's format: seconds, with milliseconds as a fraction."""
    return round(moment.timestamp(), 3)


def _iso8601(moment: datetime) -> str:
    """MSK's format: 2026-11-21T15:00:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
