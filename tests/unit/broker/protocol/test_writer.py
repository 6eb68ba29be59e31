"""Our writer of responses says what kio's says, byte by byte."""

from __future__ import annotations

import io
import random
import struct
from dataclasses import field, make_dataclass
from typing import Any

import pytest
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_writer as kio_writer

from tests.fakes.kafka_frames import random_entity
from tidemill_broker.apis import APIS, Api
from tidemill_broker.protocol.frames import RequestHeader, encode_response
from tidemill_broker.protocol.reader import entity_reader
from tidemill_broker.protocol.schema import response_schema
from tidemill_broker.protocol.writer import entity_writer, entity_writer_in_turns, write_unsigned_varint

SEED = 20131231
ROUNDS = 20
DECODED = [api for api in APIS.values() if not api.raw]


@pytest.mark.parametrize("api", DECODED, ids=lambda api: api.name)
def test_it_writes_what_kio_writes_in_every_version(api: Api) -> None:
    generator = random.Random(SEED)
    for version in range(api.min_version, api.max_version + 1):
        schema = load_response_schema(api.key, version)
        for _ in range(ROUNDS):
            entity = random_entity(generator, schema)
            ours, in_turns, theirs = bytearray(), bytearray(), io.BytesIO()
            entity_writer(schema)(ours, entity)
            for _ in entity_writer_in_turns(schema)(in_turns, entity):
                pass
            kio_writer(schema)(theirs, entity)
            assert bytes(ours) == bytes(in_turns) == theirs.getvalue()


@pytest.mark.parametrize(
    ("number", "encoded"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\1"), (2**31 - 1, b"\xff\xff\xff\xff\7")]
)
def test_numbers_take_seven_bits_a_byte(number: int, encoded: bytes) -> None:
    out = bytearray()
    write_unsigned_varint(out, number)
    assert bytes(out) == encoded


def test_a_number_that_does_not_fit_is_our_bug() -> None:
    header = RequestHeader(api_key=22, api_version=0, correlation_id=0, client_id=None, body_offset=0)
    wrong = response_schema(header).InitProducerIdResponse(
        error_code=0, producer_id=0, producer_epoch=1 << 15
    )
    with pytest.raises(struct.error):
        encode_response(header, wrong)


# A class of kio's that holds more than the reader or the writer knows is refused when its API is registered,
# not read or written wrongly.


def test_a_response_with_records_is_not_written_here() -> None:
    with pytest.raises(TypeError, match="fields of records are not written here"):
        entity_writer(load_response_schema(1, 11))


def test_a_tagged_field_without_a_default_is_not_written_here() -> None:
    member: Any = field(metadata={"kafka_type": "int32", "tag": 0})
    reply = make_dataclass("Reply", [("late", int, member)], namespace={"__flexible__": True})
    with pytest.raises(TypeError, match="the tagged field late has no default"):
        entity_writer(reply)


def test_a_request_with_tagged_fields_is_not_read_here() -> None:
    with pytest.raises(TypeError, match="cluster_id: tagged fields of requests"):
        entity_reader(load_request_schema(1, 12))
