"""Request and response frames: bytes <-> kio entities, without the 4-byte length that the server reads.

Knows neither the table of APIs nor any handler. Produce and Fetch bodies are the native core's; their headers
are read here like everyone's. The dispatch of `tidemill_broker.apis` calls it.
"""

import struct
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from typing import Final

from kio.index import KioIndexError, load_request_schema
from kio.static.protocol import Entity

from tidemill_broker.protocol.errors import MalformedFrame
from tidemill_broker.protocol.reader import (
    ELEMENTS_MAX,
    Elements,
    Reader,
    entity_reader,
    skip_tagged_fields,
    string_reader,
)
from tidemill_broker.protocol.writer import entity_writer, entity_writer_in_turns

API_VERSIONS: Final = 18
LAST_API_VERSIONS: Final = 4  # the last version of ApiVersions that anybody here can read

# The first version of each request that has tagged fields in header and body (KIP-482; "flexibleVersions" in
# Kafka's message definitions, which kio's classes carry too: a test compares them).
FIRST_FLEXIBLE_VERSION: Final = {
    api_key: version
    for version, api_keys in {
        12: (1,),
        9: (0, 3),
        8: (8,),
        6: (2, 9, 11),
        5: (15, 19),
        4: (12, 13, 14, 20, 23, 32),
        3: (10, 16, 18, 24, 25, 26, 28),
        2: (21, 22, *range(29, 32), *range(33, 44)),
        1: (27, 44, 48, 49, 53, 54),
        0: (45, 46, 50, 51, 52, 55, 56, *range(57, 93)),  # younger than KIP-482
    }.items()
    for api_key in api_keys
}
NEVER: Final = 1 << 15

# What a reader raises on bad bytes beside MalformedFrame: too short, not UTF-8, a number that is no time.
_DECODE_ERRORS: Final = (struct.error, IndexError, ValueError, OverflowError)

_FIXED_PART: Final = struct.Struct(">hhih")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeader:
    """The header of one request; `body_offset` is where the body begins in its frame."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body_offset: int


def read_request_header(frame: memoryview | bytes) -> RequestHeader:
    """Read header v1 or v2, as the request's key and version ask (Kafka: RequestHeader.parse).

    Raises MalformedFrame. A key or version that nobody knows is not an error here.
    """
    try:
        api_key, api_version, correlation_id, client_id_bytes = _FIXED_PART.unpack_from(frame)
    except struct.error:
        raise MalformedFrame(f"a request of {len(frame)} bytes is shorter than its header") from None
    offset = _FIXED_PART.size
    client_id = None
    if client_id_bytes >= 0:
        offset += client_id_bytes
        client_id = _client_id(frame, offset, client_id_bytes)
    elif client_id_bytes != -1:
        raise MalformedFrame(f"the client id has a length of {client_id_bytes}")
    if api_version >= FIRST_FLEXIBLE_VERSION.get(api_key, NEVER) and not _from_the_future(
        api_key, api_version
    ):
        offset = _skip_tags(frame, offset)
    return RequestHeader(
        api_key=api_key,
        api_version=api_version,
        correlation_id=correlation_id,
        client_id=client_id,
        body_offset=offset,
    )


def decode_request(
    header: RequestHeader, frame: memoryview | bytes, *, elements_max: int = ELEMENTS_MAX
) -> Entity:
    """Decode the body into kio's entity of that API and version. Raises MalformedFrame for whatever is wrong.

    More elements than `elements_max` are wrong before they become objects. Bytes after the body are ignored,
    as Kafka ignores them.
    """
    read = _request_reader(header.api_key, header.api_version)
    try:
        entity: Entity
        entity, _ = read(frame, header.body_offset, Elements(elements_max))
    except (MalformedFrame, *_DECODE_ERRORS) as error:
        raise MalformedFrame(f"the body is not one of {_described(header)}: {error}") from error
    return entity


def encode_response(header: RequestHeader, response: Entity) -> bytes:
    """Encode response header and body, without the 4-byte length.

    The header is v0 or v1 as the version asks; ApiVersions always has v0, because a client reads that reply
    before it can know what the broker speaks (KIP-511).
    """
    out = _response_header(header, response)
    entity_writer(type(response))(out, response)
    return bytes(out)


def encode_response_in_turns(header: RequestHeader, response: Entity) -> Generator[None, None, bytes]:
    """Encode the same bytes as `encode_response`; yields where others may have their turn."""
    out = _response_header(header, response)
    yield from entity_writer_in_turns(type(response))(out, response)
    return bytes(out)


def framed(response: bytes) -> bytes:
    """Put the 4-byte length before it, as it goes over the wire."""
    return len(response).to_bytes(4, "big") + response


def first_string(header: RequestHeader, frame: memoryview | bytes) -> str:
    """Read the string that a body begins with, such as a group id. Raises MalformedFrame."""
    flexible = header.api_version >= FIRST_FLEXIBLE_VERSION.get(header.api_key, NEVER)
    read = string_reader(flexible=flexible)
    try:
        text, _ = read(frame, header.body_offset, Elements(0))
    except (MalformedFrame, *_DECODE_ERRORS) as error:
        raise MalformedFrame(f"the body is not one of {_described(header)}: {error}") from error
    return str(text)


def _response_header(header: RequestHeader, response: Entity) -> bytearray:
    out = bytearray(header.correlation_id.to_bytes(4, "big", signed=True))
    if type(response).__flexible__ and header.api_key != API_VERSIONS:
        out.append(0)
    return out


def _from_the_future(api_key: int, api_version: int) -> bool:
    # Such an ApiVersions request is answered whatever follows its client id (KIP-511).
    return api_key == API_VERSIONS and api_version > LAST_API_VERSIONS


@cache
def _request_reader(api_key: int, api_version: int) -> Reader:
    try:
        schema = load_request_schema(api_key, api_version)
    except KioIndexError:
        raise MalformedFrame(f"there is no request {api_key} in version {api_version}") from None
    return entity_reader(schema)


def _client_id(frame: memoryview | bytes, end: int, length: int) -> str:
    if end > len(frame):
        raise MalformedFrame(f"the client id of {length} bytes goes beyond the frame")
    try:
        return str(frame[end - length : end], "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedFrame("the client id is not UTF-8") from error


def _skip_tags(frame: memoryview | bytes, offset: int) -> int:
    try:
        return skip_tagged_fields(frame, offset, Elements())
    except IndexError:
        raise MalformedFrame("the tagged fields of the header are cut off") from None


def _described(header: RequestHeader) -> str:
    return f"request {header.api_key} in version {header.api_version}"
