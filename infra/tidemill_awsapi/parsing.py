"""Parses a rest-json request into an operation's input: labels, query, headers and body by shape.

Every parser is built once from the model. What does not fit the shape's type is a SerializationException
in AWS's words; whether a value is allowed is for validation.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

import orjson

from tidemill_awsapi.errors import ApiError

Parse = Callable[[Any], Any]
_Found = Callable[["RequestParts"], Any]
_STEP_CHARS: Final = 1024 * 1024


class MultiMapping(Protocol):
    """Query items as aiohttp keeps them: a name may come several times."""

    def get(self, key: str) -> str | None:
        """The first value of a name."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """All values of a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParts:
    """One request, taken apart."""

    labels: Mapping[str, str]
    query: MultiMapping
    headers: Mapping[str, str]
    body: bytes


class InputParser:
    """Parses the requests of one operation into its input members, by the model's names."""

    def __init__(self, input_shape: Any) -> None:
        self._located: list[tuple[str, _Found]] = []
        self._payload: tuple[str, Callable[[bytes], Any]] | None = None
        self.reads_json = False
        self._document: Parse | None = None
        if input_shape is not None:
            self._read_shape(input_shape)

    def parse(self, parts: RequestParts) -> dict[str, Any]:
        """The input's members; absent ones are left out, an empty blob payload is ``b""``."""
        params: dict[str, Any] = self._document(_json(parts.body)) if self._document and parts.body else {}
        for member, find in self._located:
            value = find(parts)
            if value is not None:
                params[member] = value
        if self._payload:
            member, parse_payload = self._payload
            value = parse_payload(parts.body)
            if value is not None:
                params[member] = value
        return params

    def _read_shape(self, shape: Any) -> None:
        payload = shape.serialization.get("payload")
        for member, member_shape in shape.members.items():
            if location := member_shape.serialization.get("location"):
                name = member_shape.serialization.get("name", member)
                self._located.append((member, _located(location, name, member_shape)))
            elif member == payload:
                self._payload = (member, _payload_parser(member_shape))
                self.reads_json = member_shape.type_name not in ("blob", "string")
        if payload is None:
            self.reads_json = True
            self._document = _structure(shape, {}, located=False)


def _located(location: str, name: str, shape: Any) -> _Found:
    parse = _text_parser(shape, location)
    if location == "uri":
        return lambda parts: _unless_none(parse, parts.labels.get(name))
    if location == "header":
        return lambda parts: _unless_none(parse, parts.headers.get(name))
    if location != "querystring":
        raise ValueError(f"no parser for a member in {location}")
    if shape.type_name == "list":
        parse_item = _text_parser(shape.member, location)
        return lambda parts: [parse_item(text) for text in parts.query.getall(name, [])] or None
    return lambda parts: _unless_none(parse, parts.query.get(name))


def _unless_none(parse: Parse, value: Any) -> Any:
    return None if value is None else parse(value)


def _text_parser(shape: Any, location: str) -> Parse:
    """Parses what travels as text: labels, query items, headers."""
    match shape.type_name:
        case "integer" | "long":
            return _integer_from_text
        case "double" | "float":
            return _double_from_text
        case "boolean":
            return lambda text: text.lower() == "true"
        case "timestamp":
            named = shape.serialization.get(
                "timestampFormat", "rfc822" if location == "header" else "iso8601"
            )
            return _timestamp_from_http_date if named == "rfc822" else _timestamp
        case _:
            return str


def _payload_parser(shape: Any) -> Callable[[bytes], Any]:
    if shape.type_name == "blob":
        return lambda body: body
    if shape.type_name == "string":
        return lambda body: body.decode(errors="replace")
    parse = _parser(shape, {})
    return lambda body: parse(_json(body)) if body else None


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError("SerializationException", f"Could not parse request body into json: {error}") from None


def _parser(shape: Any, known: dict[str, Parse]) -> Parse:
    """The parser of one JSON value. ``known`` closes the circle of shapes that hold themselves."""
    if shape.name in known:
        return known[shape.name]
    match shape.type_name:
        case "structure":
            return _structure(shape, known, located=True)
        case "list":
            return _list(shape, known)
        case "map":
            return _map(shape, known)
        case "timestamp":
            return _timestamp
        case other:
            return _SCALARS[other]


def _structure(shape: Any, known: dict[str, Parse], *, located: bool) -> Parse:
    fields: list[tuple[str, str, Parse]] = []

    def parse(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _unexpected_start(value)
        return {
            member: parse_member(value[wire])
            for wire, member, parse_member in fields
            if value.get(wire) is not None
        }

    known[shape.name] = parse
    for member, member_shape in shape.members.items():
        if located or "location" not in member_shape.serialization:
            fields.append(
                (member_shape.serialization.get("name", member), member, _parser(member_shape, known))
            )
    return parse


def _list(shape: Any, known: dict[str, Parse]) -> Parse:
    parse_item: list[Parse] = []

    def parse(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ApiError("SerializationException", "Expected list or null")
        return [None if item is None else parse_item[0](item) for item in value]

    known[shape.name] = parse
    parse_item.append(_parser(shape.member, known))
    return parse


def _map(shape: Any, known: dict[str, Parse]) -> Parse:
    parse_value: list[Parse] = []

    def parse(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _unexpected_start(value)
        return {key: None if item is None else parse_value[0](item) for key, item in value.items()}

    known[shape.name] = parse
    parse_value.append(_parser(shape.value, known))
    return parse


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _not_converted(value, "a String")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _not_converted(value, "a Boolean")


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise _not_converted(value, "an Integer")


def _double(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _not_converted(value, "a Double")


def _blob(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return _decoded(value)
        except (binascii.Error, ValueError):
            raise ApiError("SerializationException", "A blob must be valid base64") from None
    raise _not_converted(value, "a Blob")


def _decoded(text: str) -> bytes:
    """Decode base64 in steps, for each of which the interpreter's lock is held."""
    pieces = [
        base64.b64decode(text[start : start + _STEP_CHARS], validate=True)
        for start in range(0, len(text), _STEP_CHARS)
    ]
    # Padding ends the text; binascii sees only that it ends a step.
    if any(len(piece) < _STEP_CHARS // 4 * 3 for piece in pieces[:-1]):
        raise binascii.Error
    return b"".join(pieces)


def _timestamp(value: Any) -> datetime:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            try:
                return datetime.fromtimestamp(float(value), UTC)
            except ValueError:
                moment = datetime.fromisoformat(value)
                return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise ApiError("SerializationException", f"{_token(value)} can not be converted to a Timestamp")


def _timestamp_from_http_date(text: str) -> datetime:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        raise ApiError("SerializationException", "A header holds no valid HTTP date") from None


def _integer_from_text(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ApiError("SerializationException", "STRING_VALUE can not be converted to an Integer") from None


def _double_from_text(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ApiError("SerializationException", "STRING_VALUE can not be converted to a Double") from None


_SCALARS: Mapping[str, Parse] = {
    "string": _string,
    "character": _string,
    "boolean": _boolean,
    "integer": _integer,
    "long": _integer,
    "float": _double,
    "double": _double,
    "blob": _blob,
}


def _unexpected_start(value: Any) -> ApiError:
    if isinstance(value, list):
        return ApiError("SerializationException", "Start of list found where not expected.")
    return ApiError("SerializationException", f"{_token(value)} can not be converted to a structure or map")


def _not_converted(value: Any, target: str) -> ApiError:
    if isinstance(value, dict):
        return ApiError("SerializationException", "Start of structure or map found where not expected.")
    if isinstance(value, list):
        return ApiError("SerializationException", "Start of list found where not expected.")
    return ApiError("SerializationException", f"{_token(value)} can not be converted to {target}")


def _token(value: Any) -> str:
    """The name of a JSON token in AWS's messages."""
    match value:
        case bool():
            return "TRUE_VALUE" if value else "FALSE_VALUE"
        case int() | float():
            return "NUMBER_VALUE"
        case str():
            return "STRING_VALUE"
        case None:
            return "NULL_VALUE"
        case _:
            return "Start of structure"
