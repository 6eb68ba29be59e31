"""The same batches, good and with one fault each, to Tidemill and to Apache Kafka: codes and offsets."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.conformance.conftest import KafkaLike
from tests.conformance.test_raw_requests import ask_raw, until_led
from tests.fakes.kafka_frames import read_response
from tests.fakes.log_frames import FETCH, PRODUCE, fetch_frame, fetch_partition, produce_frame
from tests.fakes.record_batches import CONTROL, Record, batch, stored
from tidemill_broker.protocol.errors import ErrorCode

OK = ErrorCode.none
NOW_MS = time.time_ns() // 1_000_000
TWO = (Record(), Record())


def produce(broker: KafkaLike, topic: str, records: bytes, **asked: Any) -> tuple[ErrorCode, int]:
    version = asked.get("version", 9)
    frame = produce_frame(records, topic=asked.pop("name", topic), **{"version": version, **asked})
    reply = read_response(PRODUCE, version, ask_raw(broker, frame))
    (partition,) = reply.responses[0].partition_responses
    return partition.error_code, partition.base_offset


def good(**changes: Any) -> bytes:
    return batch(**{"base_timestamp_ms": NOW_MS, **changes})


@pytest.mark.parametrize(
    ("records", "asked", "code"),
    [
        (good()[:-1] + b"\xff", {}, ErrorCode.corrupt_message),
        (good() + good(), {}, ErrorCode.invalid_record),
        (good(magic=1), {}, ErrorCode.invalid_record),
        (good(attributes=CONTROL), {}, ErrorCode.invalid_record),
        (good(records=TWO, count=3), {}, ErrorCode.invalid_record),
        (good(records=TWO, count=1), {}, ErrorCode.invalid_record),
        (good(count=0, last_offset_delta=-1, payload=b""), {}, ErrorCode.invalid_record),
        (good(records=TWO, last_offset_delta=5), {}, ErrorCode.invalid_record),
        (good(records=[Record(value=bytes(1_100_000))]), {}, ErrorCode.message_too_large),
        (good(base_timestamp_ms=NOW_MS + 5 * 3_600_000), {}, ErrorCode.invalid_timestamp),
        (good(codec="zstd"), {"version": 6}, ErrorCode.unsupported_compression_type),
        (good(), {"acks": 2}, ErrorCode.invalid_required_acks),
        (good(), {"index": 99}, ErrorCode.unknown_topic_or_partition),
        (good(), {"name": "ghost"}, ErrorCode.unknown_topic_or_partition),
    ],
    ids=lambda value: "batch" if isinstance(value, bytes) else None,  # their bytes hold the time
)
def test_a_batch_with_one_fault_leaves_nothing(
    kafka_like: KafkaLike, topic: str, records: bytes, asked: dict[str, Any], code: ErrorCode
) -> None:
    until_led(kafka_like, topic)
    assert produce(kafka_like, topic, records, **asked) == (code, -1)
    assert produce(kafka_like, topic, good()) == (OK, 0)


def test_the_batches_of_an_idempotent_producer(kafka_like: KafkaLike, topic: str) -> None:
    """Each of the last five may be sent again, whatever comes out of order or from an old epoch may not."""
    until_led(kafka_like, topic)

    def send(epoch: int, sequence: int) -> tuple[ErrorCode, int]:
        return produce(kafka_like, topic, good(records=TWO, producer=(4711, epoch, sequence)))

    assert [send(3, each * 2) for each in range(6)] == [(OK, each * 2) for each in range(6)]
    assert [send(3, each * 2) for each in range(1, 6)] == [(OK, each * 2) for each in range(1, 6)]
    assert send(3, 0) == (ErrorCode.out_of_order_sequence_number, -1)
    assert send(3, 13) == (ErrorCode.out_of_order_sequence_number, -1)
    assert send(2, 12) == (ErrorCode.invalid_producer_epoch, -1)
    assert send(4, 1) == (ErrorCode.out_of_order_sequence_number, -1)
    assert send(4, 0) == (OK, 12)


@pytest.mark.parametrize(
    ("offset", "code", "bases"),
    [
        (0, OK, [0, 2, 4]),
        (3, OK, [2, 4]),
        (6, OK, []),
        (7, ErrorCode.offset_out_of_range, []),
        (-1, ErrorCode.offset_out_of_range, []),
    ],
)
def test_a_fetch_from_an_offset(
    kafka_like: KafkaLike, topic: str, offset: int, code: ErrorCode, bases: list[int]
) -> None:
    until_led(kafka_like, topic)
    for _ in range(3):
        produce(kafka_like, topic, good(records=TWO))
    reply = read_response(
        FETCH,
        11,
        ask_raw(
            kafka_like, fetch_frame([fetch_partition(offset=offset, version=11)], version=11, topic=topic)
        ),
    )
    (partition,) = reply.responses[0].partitions
    assert partition.error_code is code
    assert [base for base, _, _ in stored(bytes(partition.records or b""))] == bases
