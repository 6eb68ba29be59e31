"""ListOffsets, OffsetForLeaderEpoch, DeleteRecords: sentinels by version, epochs, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.inner_broker import InnerBroker, inner_broker
from tidemill_broker.groups.record_batch import build_batch
from tidemill_broker.protocol.errors import ErrorCode

LIST_OFFSETS, DELETE_RECORDS, LEADER_EPOCH = 2, 21, 23
LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5
TIMES = (1_000, 5_000, 3_000)  # one batch of two records for each
VERSIONS = range(1, 11)


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path, f"log.message.timestamp.before.max.ms={2**62}") as opened:
        flights = opened.broker.topics.create("flights", partitions=2)
        for time_ms in TIMES:
            flights.partitions[0].append(build_batch([(b"k", b"v"), (b"k", None)], time_ms))
        yield opened


def list_offset(inner: InnerBroker, version: int, timestamp: int, **partition: Any) -> Any:
    asked = {"partition_index": 0, "timestamp": timestamp, **partition}
    reply = inner.ask(
        LIST_OFFSETS, version, replica_id=-1, topics=[{"name": "flights", "partitions": [asked]}]
    )
    return reply.topics[0].partitions[0]


def epoch(inner: InnerBroker) -> int:
    flights = inner.broker.topics.get("flights")
    assert flights is not None
    return flights.partitions[0].leader_epoch


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ends_are_told_in_every_version(inner: InnerBroker, version: int) -> None:
    latest, earliest = (list_offset(inner, version, timestamp) for timestamp in (LATEST, EARLIEST))
    assert (latest.error_code, latest.offset, latest.timestamp) == (ErrorCode.none, 6, -1)
    assert (earliest.error_code, earliest.offset, earliest.timestamp) == (ErrorCode.none, 0, -1)
    if version >= 4:
        assert latest.leader_epoch == earliest.leader_epoch == epoch(inner)


@pytest.mark.parametrize(
    ("timestamp", "offset", "found_ms"),
    [(0, 0, 1_000), (1_000, 0, 1_000), (1_001, 2, 5_000), (5_000, 2, 5_000), (5_001, -1, -1)],
)
def test_a_time_finds_the_first_record_that_is_not_older(
    inner: InnerBroker, timestamp: int, offset: int, found_ms: int
) -> None:
    found = list_offset(inner, 5, timestamp)
    assert (found.error_code, found.offset, found.timestamp) == (ErrorCode.none, offset, found_ms)
    assert found.leader_epoch == (-1 if offset == -1 else epoch(inner))


def test_the_largest_timestamp_is_found_and_an_empty_log_has_none(inner: InnerBroker) -> None:
    found = list_offset(inner, 7, MAX_TIMESTAMP)
    assert (found.offset, found.timestamp) == (2, 5_000)
    empty = list_offset(inner, 7, MAX_TIMESTAMP, partition_index=1)
    assert (empty.error_code, empty.offset, empty.timestamp) == (ErrorCode.none, -1, -1)


def test_without_tiers_the_local_log_begins_at_its_start_and_nothing_is_tiered(inner: InnerBroker) -> None:
    flights = inner.broker.topics.get("flights")
    assert flights is not None
    flights.partitions[0].delete_before(2)
    assert list_offset(inner, 8, EARLIEST_LOCAL).offset == list_offset(inner, 8, EARLIEST).offset == 2
    tiered = list_offset(inner, 9, LATEST_TIERED)
    assert (tiered.error_code, tiered.offset, tiered.leader_epoch) == (ErrorCode.none, -1, -1)


@pytest.mark.parametrize(
    ("timestamp", "last_without"), [(MAX_TIMESTAMP, 6), (EARLIEST_LOCAL, 7), (LATEST_TIERED, 8), (-6, 10)]
)
def test_a_sentinel_that_the_version_lacks_is_unsupported(
    inner: InnerBroker, timestamp: int, last_without: int
) -> None:
    for version in range(1, last_without + 1):
        assert list_offset(inner, version, timestamp).error_code is ErrorCode.unsupported_version
    if last_without < 10:
        assert list_offset(inner, last_without + 1, timestamp).error_code is ErrorCode.none


@pytest.mark.parametrize("index", [2, -1, 2**31 - 1])
def test_a_partition_that_is_not_there_is_unknown(inner: InnerBroker, index: int) -> None:
    assert (
        list_offset(inner, 5, LATEST, partition_index=index).error_code
        is ErrorCode.unknown_topic_or_partition
    )


def test_a_partition_that_is_asked_twice_is_rejected_both_times(inner: InnerBroker) -> None:
    partitions = [{"partition_index": index, "timestamp": LATEST} for index in (0, 1, 0)]
    reply = inner.ask(LIST_OFFSETS, 5, replica_id=-1, topics=[{"name": "flights", "partitions": partitions}])
    assert [each.error_code for each in reply.topics[0].partitions] == [
        ErrorCode.invalid_request,
        ErrorCode.none,
        ErrorCode.invalid_request,
    ]


@pytest.mark.parametrize(
    ("off_by", "code"),
    [(0, ErrorCode.none), (-1, ErrorCode.fenced_leader_epoch), (1, ErrorCode.unknown_leader_epoch)],
)
def test_a_leader_epoch_that_is_not_the_present_one_is_rejected(
    tmp_path: Path, off_by: int, code: ErrorCode
) -> None:
    for _ in range(2):  # a second start, so that there is an older epoch
        with inner_broker(tmp_path) as inner:
            if inner.broker.topics.get("flights") is None:
                inner.broker.topics.create("flights", partitions=1)
            believed = epoch(inner) + off_by
            listed = list_offset(inner, 5, LATEST, current_leader_epoch=believed)
            (told,) = leader_epochs(inner, 4, {"current_leader_epoch": believed, "leader_epoch": 0})
    assert listed.error_code is told.error_code is code


def leader_epochs(inner: InnerBroker, version: int, *asked: dict[str, int], topic: str = "flights") -> Any:
    partitions = [{"partition": 0, **each} for each in asked]
    return (
        inner.ask(LEADER_EPOCH, version, topics=[{"topic": topic, "partitions": partitions}])
        .topics[0]
        .partitions
    )


@pytest.mark.parametrize("version", [2, 3, 4])
def test_each_epoch_ends_where_the_next_began(tmp_path: Path, version: int) -> None:
    epochs = []
    for _ in range(3):
        with inner_broker(tmp_path) as inner:
            flights = inner.broker.topics.get("flights") or inner.broker.topics.create(
                "flights", partitions=1
            )
            flights.partitions[0].append(build_batch([(b"k", b"v")], 1_700_000_000_000))
            epochs.append(epoch(inner))
            told = leader_epochs(inner, version, *({"leader_epoch": each} for each in epochs))
    assert epochs == sorted(set(epochs)), "a start raises the epoch"
    assert [(each.leader_epoch, each.end_offset) for each in told] == list(
        zip(epochs, (1, 2, 3), strict=True)
    )


def test_an_epoch_that_never_was_has_no_end(inner: InnerBroker) -> None:
    (told,) = leader_epochs(inner, 4, {"leader_epoch": epoch(inner) + 1})
    assert (told.error_code, told.leader_epoch, told.end_offset) == (ErrorCode.none, -1, -1)
    (told,) = leader_epochs(inner, 4, {"leader_epoch": 0}, topic="ghost")
    assert told.error_code is ErrorCode.unknown_topic_or_partition


def delete_records(inner: InnerBroker, version: int, offset: int, topic: str = "flights") -> Any:
    partitions = [{"partition_index": 0, "offset": offset}]
    reply = inner.ask(DELETE_RECORDS, version, topics=[{"name": topic, "partitions": partitions}])
    return reply.topics[0].partitions[0]


@pytest.mark.parametrize("version", range(3))
def test_deleted_records_move_the_log_start(inner: InnerBroker, version: int) -> None:
    assert delete_records(inner, version, 3).low_watermark == 3
    assert list_offset(inner, 5, EARLIEST).offset == 3
    assert delete_records(inner, version, -1).low_watermark == 6, "-1 is the high watermark"


def test_records_that_are_not_there_cannot_be_deleted(inner: InnerBroker) -> None:
    assert delete_records(inner, 2, 7).error_code is ErrorCode.offset_out_of_range
    assert delete_records(inner, 2, 1, topic="ghost").error_code is ErrorCode.unknown_topic_or_partition
    inner.broker.topics.create("__consumer_offsets", partitions=1, internal=True)
    assert delete_records(inner, 2, -1, topic="__consumer_offsets").error_code is ErrorCode.policy_violation
    assert list_offset(inner, 5, EARLIEST).offset == 0
