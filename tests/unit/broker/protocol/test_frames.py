"""Headers, bodies and replies: what is read, what is refused, and in which words."""

from __future__ import annotations

import struct

import pytest
from kio.index import load_request_schema, load_response_schema
from kio.schema.index import api_key_map

from tests.fakes.kafka_frames import versions_known_to_kio
from tidemill_broker.apis import APIS
from tidemill_broker.protocol.errors import ErrorCode, MalformedFrame
from tidemill_broker.protocol.frames import (
    FIRST_FLEXIBLE_VERSION,
    NEVER,
    RequestHeader,
    decode_request,
    encode_response,
    read_request_header,
)
from tidemill_broker.protocol.reader import ELEMENTS_MAX
from tidemill_broker.protocol.schema import response_schema

METADATA, API_VERSIONS = 3, 18


def test_a_header_without_tagged_fields_is_read() -> None:
    header = read_request_header(struct.pack(">hhih", METADATA, 1, -5, 3) + b"abc" + b"\0\0\0\0")
    assert header == RequestHeader(
        api_key=METADATA, api_version=1, correlation_id=-5, client_id="abc", body_offset=13
    )


def test_a_null_client_id_is_none_and_an_empty_one_is_empty() -> None:
    assert read_request_header(struct.pack(">hhih", METADATA, 1, 0, -1)).client_id is None
    assert read_request_header(struct.pack(">hhih", METADATA, 1, 0, 0)).client_id == ""


def test_tagged_fields_of_a_flexible_header_are_skipped() -> None:
    tags = b"\2" + b"\0\3abc" + b"\x81\1\0"  # tag 0 of 3 bytes, tag 129 of none
    header = read_request_header(struct.pack(">hhih", METADATA, 9, 0, -1) + tags + b"body")
    assert header.body_offset == 10 + len(tags)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", "shorter than its header"),
        (struct.pack(">hhi", METADATA, 1, 0), "shorter than its header"),
        (struct.pack(">hhih", METADATA, 1, 0, 9) + b"abc", "beyond the frame"),
        (struct.pack(">hhih", METADATA, 1, 0, -2), "length of -2"),
        (struct.pack(">hhih", METADATA, 1, 0, 2) + b"\xff\xfe", "not UTF-8"),
        (struct.pack(">hhih", METADATA, 9, 0, -1), "cut off"),
        (struct.pack(">hhih", METADATA, 9, 0, -1) + b"\1\0\x7f", "beyond the frame"),
        (struct.pack(">hhih", METADATA, 9, 0, -1) + b"\xff" * 9, "does not end"),
    ],
)
def test_a_broken_header_is_rejected_with_its_fault(frame: bytes, words: str) -> None:
    with pytest.raises(MalformedFrame, match=words):
        read_request_header(memoryview(frame))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x7f\xff\xff\xff",  # an array of two thousand million topics
        b"\xff\xff\xff\xfe",  # a negative number of them that is not null
        b"\0\0\0\1\0\5abc",  # a string that ends behind the frame
        b"\0\0\0\1\0\2\xff\xfe",  # a string that is no UTF-8
        b"\0\0\0\1\xff\xff",  # a null where none may be
    ],
)
def test_a_broken_body_is_rejected_and_names_the_request(body: bytes) -> None:
    frame = struct.pack(">hhih", METADATA, 4, 0, -1) + body
    with pytest.raises(MalformedFrame, match="not one of request 3 in version 4"):
        decode_request(read_request_header(frame), frame)


def test_bytes_behind_the_body_are_ignored_as_kafka_ignores_them() -> None:
    frame = struct.pack(">hhih", METADATA, 4, 0, -1) + b"\xff\xff\xff\xff\1" + b"more"
    header = read_request_header(frame)
    assert decode_request(header, frame).topics is None  # type: ignore[attr-defined]  # kio types are per version


@pytest.mark.parametrize(("key", "version"), [(999, 0), (METADATA, 99), (METADATA, -1), (-1, -1)])
def test_a_request_that_nobody_knows_is_malformed_here(key: int, version: int) -> None:
    header = RequestHeader(api_key=key, api_version=version, correlation_id=0, client_id=None, body_offset=0)
    with pytest.raises(MalformedFrame, match="there is no request"):
        decode_request(header, b"")


def test_api_versions_from_the_future_is_read_whatever_follows_its_client_id() -> None:
    frame = struct.pack(">hhih", API_VERSIONS, 100, 42, 2) + b"me" + b"\xff\xff\xff"
    assert read_request_header(frame).correlation_id == 42


@pytest.mark.parametrize("api_key", sorted(api_key_map))
def test_the_flexible_versions_are_those_of_kios_classes(api_key: int) -> None:
    for version in versions_known_to_kio(api_key):
        flexible = version >= FIRST_FLEXIBLE_VERSION.get(api_key, NEVER)
        assert load_request_schema(api_key, version).__header_schema__.__version__ == (2 if flexible else 1)


@pytest.mark.parametrize("api_key", sorted(set(APIS) - {0, 1}))
def test_a_reply_has_the_header_that_its_version_asks_for(api_key: int) -> None:
    """ApiVersions keeps header v0 in every version (KIP-511)."""
    for version in range(APIS[api_key].min_version, APIS[api_key].max_version + 1):
        schema = load_response_schema(api_key, version)
        has_tags = schema.__flexible__ and api_key != API_VERSIONS
        assert schema.__header_schema__.__version__ == (1 if has_tags else 0)


def test_a_reply_begins_with_the_correlation_id_of_its_request() -> None:
    header = RequestHeader(
        api_key=API_VERSIONS, api_version=3, correlation_id=-77, client_id=None, body_offset=0
    )
    response = response_schema(header).ApiVersionsResponse(error_code=ErrorCode.none, api_keys=())
    encoded = encode_response(header, response)
    assert encoded[:4] == struct.pack(">i", -77)
    assert encoded[4:6] == b"\0\0", "the body follows at once: no tagged fields in this header"


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07", b"\x81\x80\x80\x01"])
def test_a_length_that_the_frame_does_not_hold_costs_no_memory(length: bytes) -> None:
    """kio's own reader made room for 4,294,967,294 group ids and the process ended."""
    frame = struct.pack(">hhih", 15, 6, 7, -1) + b"\0" + length
    with pytest.raises(MalformedFrame, match="goes beyond the frame"):
        decode_request(read_request_header(frame), frame)


def test_tagged_fields_that_nobody_defined_are_skipped() -> None:
    """KIP-482: a newer client may send what we do not know."""
    frame = struct.pack(">hhih", 15, 6, 7, -1) + b"\0" + b"\1" + b"\1" + b"\1\x41\3new"
    assert decode_request(read_request_header(frame), frame).groups == ()  # type: ignore[attr-defined]  # as above


@pytest.mark.parametrize("count", [ELEMENTS_MAX + 1, 1 << 22])
def test_more_elements_than_one_request_may_have_are_malformed_before_they_are_read(count: int) -> None:
    frame = struct.pack(">hhih", METADATA, 4, 0, -1) + struct.pack(">i", count) + b"\0\1t" * count
    with pytest.raises(MalformedFrame, match=f"more than {ELEMENTS_MAX} elements"):
        decode_request(read_request_header(frame), frame)


def test_the_elements_of_all_arrays_of_a_request_count_together() -> None:
    topic = b"\0\1t" + struct.pack(">i", 999) + bytes(4 * 999)
    many, less = (
        struct.pack(">hhih", 9, 1, 0, -1) + b"\0\1g" + struct.pack(">i", n) + topic * n for n in (21, 20)
    )
    with pytest.raises(MalformedFrame, match=f"more than {ELEMENTS_MAX} elements"):
        decode_request(read_request_header(many), many)
    assert len(decode_request(read_request_header(less), less).topics) == 20  # type: ignore[attr-defined]  # as above


def test_tagged_fields_count_as_elements_in_the_header_and_in_the_body() -> None:
    tags = b"\x80\x80\x80\1" + b"\1\0" * (1 << 21)  # 2,097,152 of them, each empty
    header = struct.pack(">hhih", 15, 6, 7, -1) + tags
    with pytest.raises(MalformedFrame, match="more than"):
        read_request_header(header)
    body = struct.pack(">hhih", 15, 6, 7, -1) + b"\0" + b"\1\0" + tags
    with pytest.raises(MalformedFrame, match="more than"):
        decode_request(read_request_header(body), body)


def test_a_string_has_32767_bytes_at_most_in_every_version_as_in_kafka() -> None:
    text = b"\x81\x80\2" + bytes(0x8000)  # 32,768
    frame = struct.pack(">hhih", 15, 6, 7, -1) + b"\0" + b"\2" + text + b"\0\0"
    with pytest.raises(MalformedFrame, match="a string of 32768 bytes"):
        decode_request(read_request_header(frame), frame)
