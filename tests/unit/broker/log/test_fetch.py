"""Whole Fetch frames against the native core: limits, progress, epochs, errors, and what must wait."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.kafka_frames import read_response, versions_known_to_kio
from tests.fakes.log_disk import Disk
from tests.fakes.log_frames import EVERYTHING, FETCH, fetch_frame, fetch_partition
from tests.fakes.record_batches import Record, batch, stored
from tidemill_broker.log.authorized import poll
from tidemill_broker.log.partition import Partition
from tidemill_broker.log.topics import Topics
from tidemill_broker.protocol.errors import ErrorCode, MalformedFrame

HALF_MB = 500_000


def fetch(topics: Topics, partitions: Sequence[dict[str, Any]], *, version: int = 12, **rest: Any) -> Any:
    answer = topics.fetch(memoryview(fetch_frame(partitions, version=version, **rest)), *EVERYTHING)
    assert isinstance(answer, memoryview)
    return read_response(FETCH, version, bytes(answer))


def fetch_one(topics: Topics, *, version: int = 12, **rest: Any) -> Any:
    of_frame = {name: rest.pop(name) for name in ("topic", "max_bytes", "isolation_level") if name in rest}
    response = fetch(topics, [fetch_partition(version=version, **rest)], version=version, **of_frame)
    assert response.responses[0].partitions[0].partition_index == rest.get("index", 0)
    return response.responses[0].partitions[0]


def partition_of(topics: Topics, index: int = 0) -> Partition:
    topic = topics.get("t")
    assert topic is not None
    return topic.partitions[index]


@pytest.fixture
def topic(topics: Topics) -> Topics:
    """Batches of 3 records at 0, 3, 6 and 9."""
    topics.create("t", partitions=3)
    for _ in range(4):
        partition_of(topics).append(batch([Record()] * 3))
    return topics


@pytest.mark.parametrize("version", versions_known_to_kio(FETCH))
def test_every_version_reads_from_the_batch_that_holds_the_offset(topic: Topics, version: int) -> None:
    found = topic.get("t")
    assert found is not None
    named = found.topic_id if version >= 13 else "t"
    got = fetch_one(topic, version=version, topic=named, offset=4)
    assert (got.error_code, got.high_watermark, got.last_stable_offset) == (ErrorCode.none, 12, 12)
    assert stored(got.records) == [(3, 0, 3), (6, 0, 3), (9, 0, 3)]
    assert got.aborted_transactions is None
    empty = fetch_one(topic, version=version, topic=named, offset=12)
    assert (empty.error_code, empty.records) == (ErrorCode.none, b"")


@pytest.mark.parametrize("version", [4, 12])
def test_read_committed_gets_an_empty_list_of_aborted_transactions(topic: Topics, version: int) -> None:
    assert fetch_one(topic, version=version, isolation_level=1).aborted_transactions == ()


@pytest.mark.parametrize("version", [11, 12])
def test_only_whole_batches_come_and_at_least_the_first(topic: Topics, version: int) -> None:
    size = partition_of(topic).size_bytes // 4
    for limit, count in [(0, 1), (1, 1), (size, 1), (2 * size - 1, 1), (2 * size, 2), (10 * size, 4)]:
        got = fetch_one(topic, version=version, partition_max_bytes=limit)
        assert len(stored(got.records)) == count
        got = fetch_one(topic, version=version, max_bytes=limit)
        assert len(stored(got.records)) == count


def test_a_batch_of_5_mb_comes_through_limits_of_1_kib(topics: Topics) -> None:
    topics.create("t", partitions=1, configs={"max.message.bytes": "6000000"})
    partition_of(topics).append(batch([Record(value=bytes(5_000_000))]))
    got = fetch_one(topics, partition_max_bytes=1024, max_bytes=1024)
    assert len(got.records) > 5_000_000


def test_many_partitions_exceed_max_bytes_by_no_more_than_one_batch(topics: Topics) -> None:
    topics.create("t", partitions=20)
    for index in range(20):
        for _ in range(2):
            partition_of(topics, index).append(batch([Record(value=bytes(HALF_MB))]))
    asked = [fetch_partition(index=index) for index in range(20)]
    for limit in (1, HALF_MB, 3 * HALF_MB, 7 * HALF_MB + 5):
        response = fetch(topics, asked, max_bytes=limit)
        got = [len(each.records) for each in response.responses[0].partitions]
        assert len(got) == 20
        assert got[0] > 0
        assert sum(got) <= max(limit, HALF_MB + 200)


def test_a_batch_above_the_limit_comes_only_for_the_first_partition_that_has_any(
    topics: Topics,
) -> None:
    topics.create("t", partitions=3)
    for index in (1, 2):
        partition_of(topics, index).append(batch([Record(value=bytes(1000))]))
    asked = [fetch_partition(index=index, partition_max_bytes=100) for index in range(3)]
    response = fetch(topics, asked)
    assert [len(each.records) > 0 for each in response.responses[0].partitions] == [False, True, False]


@pytest.mark.parametrize("offset", [-1, 13, 2**62])
def test_an_offset_outside_the_log_is_told_with_the_log_start(topic: Topics, offset: int) -> None:
    got = fetch_one(topic, offset=offset)
    assert (got.error_code, got.log_start_offset) == (ErrorCode.offset_out_of_range, 0)


def test_below_a_moved_log_start_there_is_nothing_and_at_it_the_whole_batch(topic: Topics) -> None:
    partition_of(topic).delete_before(4)
    got = fetch_one(topic, offset=3)
    assert (got.error_code, got.log_start_offset) == (ErrorCode.offset_out_of_range, 4)
    assert stored(fetch_one(topic, offset=4).records)[0] == (3, 0, 3)


def test_leader_epochs_are_checked(disk: Disk) -> None:
    topics = disk.open()
    topics.create("t", partitions=1)
    partition_of(topics).append(batch())
    topics.close()
    topics = disk.open()
    partition_of(topics).append(batch())
    assert fetch_one(topics, current_leader_epoch=0).error_code is ErrorCode.fenced_leader_epoch
    assert fetch_one(topics, current_leader_epoch=2).error_code is ErrorCode.unknown_leader_epoch
    got = fetch_one(topics, current_leader_epoch=1)
    assert stored(got.records) == [(0, 0, 1), (1, 1, 1)]


def test_a_consumer_that_read_past_the_end_of_its_epoch_is_told_where_it_ended(disk: Disk) -> None:
    topics = disk.open()
    topics.create("t", partitions=1)
    partition_of(topics).append(batch([Record()] * 2))
    topics.close()
    topics = disk.open()
    partition_of(topics).append(batch([Record()] * 5))
    got = fetch_one(topics, offset=4, last_fetched_epoch=0)
    assert (got.diverging_epoch.epoch, got.diverging_epoch.end_offset) == (0, 2)
    assert got.records == b""
    got = fetch_one(topics, offset=2, last_fetched_epoch=0)
    assert got.diverging_epoch.epoch == -1
    assert len(stored(got.records)) == 1


def test_unknown_topics_are_told_apart_by_how_they_were_named(topic: Topics) -> None:
    unknown = ErrorCode.unknown_topic_or_partition
    assert fetch_one(topic, topic="no").error_code is unknown
    assert fetch_one(topic, index=3).error_code is unknown
    assert fetch_one(topic, version=13, topic=UUID(int=1)).error_code is ErrorCode.unknown_topic_id


def test_a_recreated_topic_has_another_id_and_none_of_the_old_data(topic: Topics) -> None:
    old = topic.get("t")
    assert old is not None
    topic.delete("t")
    new = topic.create("t", partitions=1)
    assert new.topic_id != old.topic_id
    got = fetch_one(topic, version=13, topic=old.topic_id)
    assert got.error_code is ErrorCode.unknown_topic_id
    assert fetch_one(topic, version=13, topic=new.topic_id).high_watermark == 0


@pytest.mark.parametrize(
    ("session", "error"), [((5, 1), 70), ((0, 3), 70), ((0, 0), 0), ((0, -1), 0), ((5, 0), 0)]
)
def test_there_is_never_a_fetch_session(topic: Topics, session: tuple[int, int], error: int) -> None:
    response = fetch(topic, [fetch_partition()], session_id=session[0], session_epoch=session[1])
    assert (response.error_code.value, response.session_id) == (error, 0)
    assert len(response.responses) == (0 if error else 1)


def test_min_bytes_that_are_not_there_make_it_wait_until_they_are(topic: Topics) -> None:
    size = partition_of(topic).size_bytes
    waiting = topic.fetch(
        memoryview(fetch_frame([fetch_partition()], min_bytes=size + 10, max_wait_ms=500)), *EVERYTHING
    )
    assert not isinstance(waiting, memoryview)
    assert waiting.max_wait_ms == 500
    assert waiting.handles == [partition_of(topic).handle]
    assert poll(waiting, *EVERYTHING, last=False) is None
    partition_of(topic).append(batch())
    answer = poll(waiting, *EVERYTHING, last=False)
    assert answer is not None
    assert len(read_response(FETCH, 12, bytes(answer)).responses[0].partitions[0].records) > size


def test_the_last_try_answers_with_what_there_is(topic: Topics) -> None:
    waiting = topic.fetch(
        memoryview(fetch_frame([fetch_partition(offset=12)], min_bytes=1, max_wait_ms=500)), *EVERYTHING
    )
    assert not isinstance(waiting, memoryview)
    answer = poll(waiting, *EVERYTHING, last=True)
    assert answer is not None
    assert read_response(FETCH, 12, bytes(answer)).responses[0].partitions[0].records == b""


def test_an_error_answers_at_once(topic: Topics) -> None:
    asked = [fetch_partition(offset=12), fetch_partition(index=99)]
    assert isinstance(
        topic.fetch(memoryview(fetch_frame(asked, min_bytes=1, max_wait_ms=500)), *EVERYTHING), memoryview
    )


def test_a_deleted_topic_answers_a_waiting_fetch(topic: Topics) -> None:
    waiting = topic.fetch(
        memoryview(fetch_frame([fetch_partition(offset=12)], min_bytes=1, max_wait_ms=500)), *EVERYTHING
    )
    assert not isinstance(waiting, memoryview)
    topic.delete("t")
    answer = poll(waiting, *EVERYTHING, last=False)
    assert answer is not None
    (got,) = read_response(FETCH, 12, bytes(answer)).responses[0].partitions
    assert got.error_code is ErrorCode.unknown_topic_or_partition


def test_the_rest_of_a_closed_segment_is_not_waited_for(topics: Topics) -> None:
    topics.create("t", partitions=1, configs={"segment.bytes": "100"})
    for _ in range(3):
        partition_of(topics).append(batch())
    answer = topics.fetch(
        memoryview(fetch_frame([fetch_partition()], min_bytes=1 << 20, max_wait_ms=500)), *EVERYTHING
    )
    assert isinstance(answer, memoryview)


@pytest.mark.parametrize("version", [4, 11, 12, 17])
def test_a_frame_cut_at_any_byte_is_malformed(topic: Topics, version: int) -> None:
    found = topic.get("t")
    assert found is not None
    whole = fetch_frame(
        [fetch_partition(version=version)], version=version, topic=found.topic_id if version >= 13 else "t"
    )
    for end in range(len(whole)):
        with pytest.raises(MalformedFrame):
            topic.fetch(memoryview(whole)[:end], *EVERYTHING)


def test_a_count_that_promises_millions_costs_nothing(topic: Topics) -> None:
    whole = fetch_frame([fetch_partition(version=4)], version=4)
    at = whole.index(b"\0\1t") - 4
    with pytest.raises(MalformedFrame, match="array of 2147483647"):
        topic.fetch(memoryview(whole[:at] + struct.pack(">i", 2**31 - 1) + whole[at + 4 :]), *EVERYTHING)


def test_a_response_stays_as_it_was_while_others_are_made(topic: Topics) -> None:
    first = topic.fetch(memoryview(fetch_frame([fetch_partition()])), *EVERYTHING)
    assert isinstance(first, memoryview)
    before = bytes(first)
    for offset in range(12):
        fetch_one(topic, offset=offset)
    assert bytes(first) == before


def test_a_fetch_that_names_a_partition_twice_is_malformed(topic: Topics) -> None:
    twice = fetch_frame([fetch_partition(), fetch_partition(offset=1)])
    with pytest.raises(MalformedFrame, match="twice"):
        topic.fetch(memoryview(twice), *EVERYTHING)
