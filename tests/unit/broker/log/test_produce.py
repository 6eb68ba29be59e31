"""Whole Produce frames against the native core: what is refused, how, and what the log holds then."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import cramjam
import pytest

from tests.fakes.kafka_frames import read_response, request, request_frame, versions_known_to_kio
from tests.fakes.log_frames import EVERYTHING, PRODUCE, produce_frame
from tests.fakes.record_batches import (
    CODECS,
    CONTROL,
    NOW_MS,
    TRANSACTIONAL,
    Record,
    batch,
    compress,
    stored,
)
from tidemill_broker.apis.turns import Turns
from tidemill_broker.log.topics import Topics
from tidemill_broker.protocol.errors import ErrorCode, MalformedFrame

GOOD = batch()


def produce(topics: Topics, records: bytes | None, **rest: Any) -> Any:
    """The one partition's answer."""
    version = rest.get("version", 12)
    reply, _, flushed = topics.produce(memoryview(produce_frame(records, **rest)), NOW_MS, *EVERYTHING)
    assert reply is not None
    assert flushed is None
    response = read_response(PRODUCE, version, reply)
    (topic,) = response.responses
    (partition,) = topic.partition_responses
    return partition


@pytest.fixture
def topic(topics: Topics) -> Topics:
    topics.create("t", partitions=2)
    return topics


@pytest.mark.parametrize("version", versions_known_to_kio(PRODUCE))
def test_every_version_appends_and_answers_with_the_base_offset(topic: Topics, version: int) -> None:
    found = topic.get("t")
    assert found is not None
    key = found.topic_id if version >= 13 else "t"
    for offset in (0, 1):
        answer = produce(topic, GOOD, version=version, topic=key)
        assert (answer.error_code, answer.base_offset) == (ErrorCode.none, offset)
    assert stored(found.partitions[0].read(0, 1000)) == [(0, 0, 1), (1, 0, 1)]


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_kept_as_it_came(topic: Topics, codec: str) -> None:
    sent = batch([Record(value=b"x" * 500), Record(key=None)], codec=codec)
    assert produce(topic, sent).error_code is ErrorCode.none
    found = topic.get("t")
    assert found is not None
    assert found.partitions[0].read(0, 10_000)[16:] == sent[16:]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def relength(data: bytes, length: int) -> bytes:
    return data[:8] + struct.pack(">i", length) + data[12:]


INVALID, CORRUPT = ErrorCode.invalid_record, ErrorCode.corrupt_message
FAULTS: dict[str, tuple[bytes | None, ErrorCode]] = {
    "null records": (None, INVALID),
    "no batch": (b"", INVALID),
    "two batches": (GOOD + GOOD, INVALID),
    "bytes behind the batch": (GOOD + b"x", INVALID),
    "half a header": (GOOD[:30], CORRUPT),
    "a cut batch": (GOOD[:-1], CORRUPT),
    "a length below a header": (relength(GOOD, 10), CORRUPT),
    "a negative length": (relength(GOOD, -5), CORRUPT),
    "a wrong CRC": (flipped(GOOD, 18), CORRUPT),
    "a flipped byte": (flipped(GOOD, len(GOOD) - 1), CORRUPT),
    "magic 1": (batch(magic=1), INVALID),
    "a control batch": (batch(attributes=CONTROL), INVALID),
    "a transactional batch": (
        batch(producer=(1, 0, 0), attributes=TRANSACTIONAL),
        ErrorCode.invalid_txn_state,
    ),
    "a count of 0": (batch(count=0, last_offset_delta=-1), INVALID),
    "a count above the records": (batch(count=2, last_offset_delta=1), INVALID),
    "a count below the records": (batch([Record()] * 3, count=2, last_offset_delta=1), INVALID),
    "a delta that contradicts the count": (batch(last_offset_delta=5), INVALID),
    "a producer id without a sequence": (batch(producer=(7, 0, -1)), INVALID),
    "a producer id without an epoch": (batch(producer=(7, -1, 0)), INVALID),
    "codec 5": (batch(attributes=5), ErrorCode.unsupported_compression_type),
    "bytes that are no gzip": (batch(codec="gzip", payload=b"no gzip"), INVALID),
    "bytes that are no snappy": (batch(codec="snappy", payload=b"\xff" * 20), INVALID),
    "bytes that are no lz4": (batch(codec="lz4", payload=b"no lz4"), INVALID),
    "lz4 blocks that depend on each other": (
        batch(codec="lz4", payload=bytes(cramjam.lz4.compress(b"x"))),
        INVALID,
    ),
    "bytes that are no zstd": (batch(codec="zstd", payload=b"no zstd"), INVALID),
    "garbage in a whole zstd": (batch(codec="zstd", payload=compress("zstd", b"\xff" * 99)), INVALID),
    "too many bytes": (batch([Record(value=bytes(1_048_588))]), ErrorCode.message_too_large),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_batch_with_one_fault_is_rejected_and_leaves_nothing(topic: Topics, fault: str) -> None:
    records, error = FAULTS[fault]
    answer = produce(topic, records, transactional_id="payments")
    assert (answer.error_code, answer.base_offset) == (error, -1)
    assert answer.error_message
    found = topic.get("t")
    assert found is not None
    partition = found.partitions[0]
    assert (partition.end_offset, partition.size_bytes) == (0, 0)
    assert produce(topic, GOOD).base_offset == 0


def test_a_bomb_is_rejected_before_it_fills_the_memory(topic: Topics) -> None:
    # A few KB that inflate to 100 MB.
    payload = compress("zstd", bytes(100 << 20))
    answer = produce(topic, batch(codec="zstd", payload=payload))
    assert answer.error_code is INVALID
    assert "67108864" in answer.error_message


@pytest.mark.parametrize("version", [3, 6])
def test_zstd_needs_version_7(topic: Topics, version: int) -> None:
    answer = produce(topic, batch(codec="zstd"), version=version)
    assert answer.error_code is ErrorCode.unsupported_compression_type


@pytest.mark.parametrize("acks", [-2, 2, 100])
def test_other_acks_are_rejected(topic: Topics, acks: int) -> None:
    assert produce(topic, GOOD, acks=acks).error_code is ErrorCode.invalid_required_acks


def test_unknown_topics_and_partitions_are_told_apart_by_how_they_were_named(topic: Topics) -> None:
    unknown = ErrorCode.unknown_topic_or_partition
    assert produce(topic, GOOD, topic="no").error_code is unknown
    assert produce(topic, GOOD, index=2).error_code is unknown
    assert produce(topic, GOOD, index=-1).error_code is unknown
    assert produce(topic, GOOD, version=13, topic=UUID(int=5)).error_code is ErrorCode.unknown_topic_id


@pytest.mark.parametrize("version", [12, 13])
def test_nobody_forges_what_the_group_coordinator_knows(topics: Topics, version: int) -> None:
    groups = topics.create("__consumer_offsets", partitions=1, internal=True)
    key = groups.topic_id if version >= 13 else groups.name
    answer = produce(topics, GOOD, version=version, topic=key)
    assert (answer.error_code, answer.error_message) == (
        ErrorCode.invalid_topic_exception,
        "Cannot append to internal topic __consumer_offsets",
    )
    assert groups.partitions[0].end_offset == 0


def test_acks_0_gets_no_answer_and_a_fault_is_told(topic: Topics) -> None:
    assert topic.produce(memoryview(produce_frame(GOOD, acks=0)), NOW_MS, *EVERYTHING) == (None, False, None)
    assert topic.produce(memoryview(produce_frame(b"", acks=0)), NOW_MS, *EVERYTHING) == (None, True, None)


def test_a_cut_frame_appends_nothing_of_its_whole_batches(topic: Topics) -> None:
    whole = request_frame(
        request(
            PRODUCE,
            9,
            acks=-1,
            topic_data=[
                {
                    "name": "t",
                    "partition_data": [{"index": 0, "records": GOOD}, {"index": 1, "records": GOOD}],
                }
            ],
        )
    )
    for end in range(len(whole)):
        with pytest.raises(MalformedFrame):
            topic.produce(memoryview(whole)[:end], NOW_MS, *EVERYTHING)
    found = topic.get("t")
    assert found is not None
    assert [partition.end_offset for partition in found.partitions] == [0, 0]


def test_records_outside_the_allowed_times_are_listed(topics: Topics) -> None:
    topics.create("t", partitions=1, configs={"message.timestamp.before.max.ms": "1000"})
    records = [Record(), Record(delta_ms=-1001), Record(delta_ms=3_600_001), Record(delta_ms=-1000)]
    answer = produce(topics, batch(records, codec="lz4", base_timestamp_ms=NOW_MS))
    assert answer.error_code is ErrorCode.invalid_timestamp
    assert [each.batch_index for each in answer.record_errors] == [1, 2]


def test_a_compacted_topic_rejects_records_without_a_key(topics: Topics) -> None:
    topics.create("t", partitions=1, configs={"cleanup.policy": "compact"})
    answer = produce(topics, batch([Record(), Record(key=None)], codec="snappy"))
    assert answer.error_code is INVALID
    assert [each.batch_index for each in answer.record_errors] == [1]
    assert produce(topics, GOOD).error_code is ErrorCode.none


@pytest.mark.parametrize("codec", CODECS)
def test_append_time_is_told_and_stamped(topics: Topics, codec: str) -> None:
    topics.create("t", partitions=1, configs={"message.timestamp.type": "LogAppendTime"})
    answer = produce(topics, batch([Record(delta_ms=5), Record()], codec=codec, base_timestamp_ms=77))
    assert answer.log_append_time == datetime.fromtimestamp(NOW_MS / 1000, UTC)
    found = topics.get("t")
    assert found is not None
    assert found.partitions[0].offset_for_timestamp(100) == (0, NOW_MS, 0)
    assert found.partitions[0].max_timestamp() == (0, NOW_MS, 0)


def test_a_wrong_largest_timestamp_is_put_right(topic: Topics) -> None:
    records = [Record(delta_ms=9)]
    assert (
        produce(topic, batch(records, base_timestamp_ms=100, max_timestamp_ms=5)).error_code is ErrorCode.none
    )
    found = topic.get("t")
    assert found is not None
    assert found.partitions[0].max_timestamp() == (0, 109, 0)


def idempotent(sequence: int, count: int = 1, epoch: int = 0) -> bytes:
    return batch([Record()] * count, producer=(4000, epoch, sequence))


def test_the_last_five_batches_of_a_producer_are_duplicates_and_the_sixth_is_out_of_order(
    topic: Topics,
) -> None:
    for index in range(6):
        assert produce(topic, idempotent(index * 2, 2)).base_offset == index * 2
    for index in range(1, 6):
        answer = produce(topic, idempotent(index * 2, 2))
        assert (answer.error_code, answer.base_offset) == (ErrorCode.none, index * 2)
    assert produce(topic, idempotent(0, 2)).error_code is ErrorCode.out_of_order_sequence_number
    assert produce(topic, idempotent(14)).error_code is ErrorCode.out_of_order_sequence_number
    assert produce(topic, idempotent(12)).base_offset == 12


def test_a_new_epoch_begins_at_0_and_the_old_one_is_fenced(topic: Topics) -> None:
    assert produce(topic, idempotent(7)).base_offset == 0
    assert produce(topic, idempotent(8, epoch=1)).error_code is ErrorCode.out_of_order_sequence_number
    assert produce(topic, idempotent(0, epoch=1)).base_offset == 1
    assert produce(topic, idempotent(8)).error_code is ErrorCode.invalid_producer_epoch


def several(partitions: Sequence[int], version: int = 12) -> memoryview:
    data = [{"index": index, "records": GOOD} for index in partitions]
    topic_data = [{"name": "t", "partition_data": data}]
    return memoryview(
        request_frame(request(PRODUCE, version, transactional_id=None, acks=-1, topic_data=topic_data))
    )


def test_a_request_that_names_a_partition_twice_appends_nothing(topic: Topics) -> None:
    with pytest.raises(MalformedFrame, match="twice"):
        topic.produce(several([0, 1, 0]), NOW_MS, *EVERYTHING)
    found = topic.get("t")
    assert found is not None
    assert [partition.end_offset for partition in found.partitions] == [0, 0]


def test_a_request_names_at_most_twenty_thousand_partitions(topic: Topics) -> None:
    """13 million cost 3.3 GB once."""
    head, _, tail = bytes(several([0])).partition(b"\x02\0\0\0\0")
    assert tail
    many = 200_000
    partitions = b"".join(index.to_bytes(4, "big") + b"\0\0" for index in range(many))
    count = bytes([many + 1 & 0x7F | 0x80, many + 1 >> 7 & 0x7F | 0x80, many + 1 >> 14])
    with pytest.raises(MalformedFrame, match="20000"):
        topic.produce(memoryview(head + count + partitions + b"\0\0"), NOW_MS, *EVERYTHING)


def bombs(count: int, inflated_bytes: int = 40_000_000, topic: str = "t") -> bytes:
    """A request with a batch for each of so many partitions, each of a few KB."""
    bomb = batch([Record(value=bytes(inflated_bytes))], codec="zstd")
    partitions = [{"index": index, "records": bomb} for index in range(count)]
    topic_data = [
        {"name": topic, "partition_data": partitions},
        {"name": "none", "partition_data": partitions[:1]},
    ]
    return request_frame(request(PRODUCE, 12, transactional_id=None, acks=-1, topic_data=topic_data))


def test_a_request_of_much_work_is_appended_in_turns_and_answered_once(topics: Topics) -> None:
    """Nothing of it while its first call is waited for, and 32 MiB of work in each that follows."""
    found = topics.create("t", partitions=5, configs={"max.message.bytes": "100000000"})
    frame = bytearray(bombs(6))
    begun = topics.begin_produce(memoryview(frame), NOW_MS, *EVERYTHING)
    assert not isinstance(begun, tuple)
    assert [partition.end_offset for partition in found.partitions] == [0] * 5
    frame[:] = bytes(len(frame))  # the buffer is the next request's
    turns, call = 0, None
    try:
        while True:
            call = begun.send(call and call())
            turns += 1
    except StopIteration as done:
        reply, failed, _ = done.value
    assert turns >= 3
    assert failed
    there, none = read_response(PRODUCE, 12, reply).responses
    unknown = ErrorCode.unknown_topic_or_partition
    assert [each.error_code for each in there.partition_responses] == [ErrorCode.none] * 5 + [unknown]
    assert [each.error_code for each in none.partition_responses] == [unknown]
    assert [partition.end_offset for partition in found.partitions] == [1] * 5


async def test_a_topic_deleted_while_a_produce_goes_on_ends_it_without_an_exception(topics: Topics) -> None:
    topics.create("t", partitions=5, configs={"max.message.bytes": "100000000", "flush.messages": "1"})
    begun = topics.begin_produce(memoryview(bombs(6)), NOW_MS, *EVERYTHING)
    assert not isinstance(begun, tuple)
    call = next(begun)
    try:
        while True:
            answer = call and call()
            if answer is not None:
                topics.delete("t")
            call = begun.send(answer)
    except StopIteration as done:
        _, _, flushed = done.value
    assert flushed is not None
    assert read_response(PRODUCE, 12, await flushed).responses


async def test_others_are_served_while_a_batch_is_inflated_and_may_write_to_its_partition(
    topics: Topics,
) -> None:
    found = topics.create("t", partitions=4, configs={"max.message.bytes": "100000000"})
    begun = topics.begin_produce(memoryview(bombs(4)), NOW_MS, *EVERYTHING)
    assert not isinstance(begun, tuple)
    inflating = asyncio.ensure_future(Turns().take(begun))
    served = 0
    while not inflating.done():
        served += produce(topics, GOOD, index=3).error_code is ErrorCode.none
        await asyncio.sleep(0)
    reply, _, _ = await inflating
    assert reply is not None
    assert served > 20, "once for each batch, where they wait for it"
    assert found.partitions[3].end_offset == served + 1
    codes = [each.error_code for each in read_response(PRODUCE, 12, reply).responses[0].partition_responses]
    assert codes == [ErrorCode.none] * 4


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_in_the_size_of_clients_is_appended_at_once(topic: Topics, codec: str) -> None:
    records = batch([Record(value=bytes(1000))] * 1000, codec=codec)
    assert isinstance(topic.begin_produce(memoryview(produce_frame(records)), NOW_MS, *EVERYTHING), tuple)


def test_what_one_request_may_inflate_is_one_allowance_over_all_its_turns(topics: Topics) -> None:
    topics.create("t", partitions=30, configs={"max.message.bytes": "100000000"})
    bomb = batch([Record(value=bytes(60_000_000))], codec="zstd")
    partitions = [{"index": index, "records": bomb} for index in range(20)]
    asked = request(
        PRODUCE,
        12,
        transactional_id=None,
        acks=-1,
        topic_data=[{"name": "t", "partition_data": partitions}],
    )
    reply, failed, _ = topics.produce(memoryview(request_frame(asked)), NOW_MS, *EVERYTHING)
    assert reply is not None
    assert failed
    (answered,) = read_response(PRODUCE, 12, reply).responses
    codes = [each.error_code for each in answered.partition_responses]
    assert codes[:8] == [ErrorCode.none] * 8, "60 MB inflated, and as much again as record"
    assert codes[-1] is ErrorCode.invalid_record
