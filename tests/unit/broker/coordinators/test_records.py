"""The bytes of __consumer_offsets: Kafka's own formats, read back as they were written."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_broker.coordinators.records import (
    GroupForgotten,
    GroupStored,
    OffsetCommitted,
    OffsetForgotten,
    Record,
    StoredMember,
    UnreadableRecord,
    decode,
    encode,
)
from tidemill_broker.groups.offsets_topic import partition_of
from tidemill_broker.groups.record_batch import build_batch, read_batches

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLACE = {"group_id": TEXT, "topic": TEXT, "partition": INT32}
MEMBERS = st.builds(
    StoredMember,
    member_id=TEXT,
    instance_id=st.none() | TEXT,
    client_id=TEXT,
    client_host=TEXT,
    rebalance_timeout_ms=INT32,
    session_timeout_ms=INT32,
    subscription=st.binary(),
    assignment=st.binary(),
)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(
        OffsetCommitted, **PLACE, offset=INT64, leader_epoch=INT32, metadata=TEXT, committed_at_ms=INT64
    ),
    st.builds(OffsetForgotten, **PLACE),
    st.builds(GroupForgotten, group_id=TEXT),
    st.builds(
        GroupStored,
        group_id=TEXT,
        protocol_type=TEXT,
        generation=INT32,
        protocol=st.none() | TEXT,
        leader=st.none() | TEXT,
        since_ms=INT64,
        members=st.lists(MEMBERS, max_size=3).map(tuple),
    ),
)


@given(RECORDS)
def test_every_record_reads_back_as_it_was_written(record: Record) -> None:
    assert decode(*encode(record)) == record


@given(st.lists(RECORDS, min_size=1, max_size=10), st.integers(0, 2**41))
def test_every_batch_reads_back_as_it_was_written(records: list[Record], timestamp_ms: int) -> None:
    pairs = [encode(record) for record in records]
    data = build_batch(pairs, timestamp_ms) * 2
    read = [(key, value) for _, key, value in read_batches(data)]
    assert read == pairs * 2


@given(st.binary(max_size=60), st.none() | st.binary(max_size=60))
def test_no_bytes_raise_anything_but_unreadable_record(key: bytes, value: bytes | None) -> None:
    with contextlib.suppress(UnreadableRecord):
        decode(key, value)


def test_an_offset_has_the_bytes_that_kafka_gives_it() -> None:
    """OffsetCommitKey v1 and OffsetCommitValue v3, by hand."""
    record = OffsetCommitted(
        group_id="g", topic="t", partition=5, offset=6, leader_epoch=7, metadata="m", committed_at_ms=8
    )
    key, value = encode(record)
    assert key == b"\0\1" + b"\0\1g" + b"\0\1t" + struct.pack(">i", 5)
    assert value == b"\0\3" + struct.pack(">qi", 6, 7) + b"\0\1m" + struct.pack(">q", 8)


def test_a_record_of_a_kind_that_kafka_has_since_is_passed_over() -> None:
    """KIP-848's keys begin at 3."""
    assert decode(b"\0\3\0\1g", b"") is None


@pytest.mark.parametrize("value", [b"", b"\0\1", b"\0\3\0", b"\0\3" + bytes(11)])
def test_a_value_that_is_cut_off_or_of_another_version_is_rejected(value: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        decode(encode(OffsetForgotten(group_id="g", topic="t", partition=0))[0], value)


@pytest.mark.parametrize(
    ("key", "words"),
    [(b"\0\1\xff\xff", "a required text .* is null"), (b"\0\1\0\1\xff", "is not UTF-8")],
    ids=["null", "not UTF-8"],
)
def test_a_key_whose_group_is_no_text_is_rejected(key: bytes, words: str) -> None:
    with pytest.raises(UnreadableRecord, match=words):
        decode(key, None)


@pytest.mark.parametrize(
    ("group_id", "partition"), [("", 0), ("a", 47), ("orders", 31), ("polygenelubricants", 0)]
)
def test_a_groups_partition_is_the_one_that_kafka_takes(group_id: str, partition: int) -> None:
    """String.hashCode of the last is Integer.MIN_VALUE."""
    assert partition_of(group_id, 50) == partition
    assert partition_of(group_id, 1) == 0
