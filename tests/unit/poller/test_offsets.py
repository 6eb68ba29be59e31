"""Commit points and the attempts that travel with them."""

from __future__ import annotations

import pytest

from tidemill_poller.offsets import (
    METADATA_BYTES_MAX,
    CommitPoint,
    PartitionOffsets,
    Pending,
    decode,
    encode,
    topic_of,
    with_topic,
)
from tidemill_poller.retry import Attempts


def part(*runs: tuple[int, int], failed: int = 0) -> Pending:
    return Pending(runs=list(runs), attempts=Attempts(failed=failed))


def offsets(at: int = 100, polled_to: int = 200) -> PartitionOffsets:
    tracked = PartitionOffsets(CommitPoint(at))
    if polled_to > at:
        tracked.polled(polled_to - 1)
    return tracked


def test_nothing_is_due_before_anything_is_settled() -> None:
    assert offsets().due() is None


def test_everything_polled_is_due_when_nothing_is_pending() -> None:
    tracked = offsets()
    tracked.settle([], waiting=None)
    assert tracked.due() == CommitPoint(200)


def test_the_first_waiting_record_holds_the_commit_point() -> None:
    tracked = offsets()
    tracked.settle([], waiting=150)
    assert tracked.due() == CommitPoint(150)


def test_the_first_pending_record_holds_the_commit_point() -> None:
    tracked = offsets()
    tracked.settle([part((120, 130)), part((131, 140))], waiting=141)
    due = tracked.due()
    assert due is not None
    assert due.offset == 120


def test_a_confirmed_commit_is_not_due_again() -> None:
    tracked = offsets()
    tracked.settle([], waiting=None)
    tracked.confirm(CommitPoint(200))
    assert tracked.due() is None
    assert tracked.committed == 200


def test_a_new_try_at_the_same_offset_is_due() -> None:
    tracked = offsets()
    tracked.settle([part((100, 199), failed=1)], waiting=None)
    first = tracked.due()
    assert first is not None
    tracked.confirm(first)
    tracked.settle([part((100, 199), failed=2)], waiting=None)
    assert tracked.due() == CommitPoint(100, encode(100, [part((100, 199), failed=2)]))


def test_a_revoked_partition_has_nothing_due() -> None:
    tracked = offsets()
    tracked.settle([], waiting=None)
    tracked.revoke()
    tracked.settle([], waiting=None)
    assert tracked.due() is None


def test_settling_backwards_is_our_bug() -> None:
    tracked = offsets()
    tracked.settle([], waiting=150)
    with pytest.raises(AssertionError):
        tracked.settle([], waiting=149)


def test_polling_backwards_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        offsets().polled(150)


def test_an_untried_whole_batch_needs_no_metadata() -> None:
    assert encode(100, [part((100, 199))]) == ""
    assert encode(100, []) == ""


@pytest.mark.parametrize(
    "pending",
    [
        [part((100, 199), failed=3)],
        [part((100, 149)), part((150, 199))],
        [part((101, 101), (105, 110), failed=1), part((150, 199))],
    ],
    ids=["tried", "bisected", "partly settled"],
)
def test_tries_and_cuts_are_read_as_they_were_written(pending: list[Pending]) -> None:
    assert decode(100, encode(100, pending)) == pending


def test_too_many_gaps_are_forgotten_but_no_try_is() -> None:
    scattered = part(*((o, o) for o in range(0, 100_000, 2)), failed=2)
    text = encode(0, [scattered, part((200_000, 200_001), failed=1)])
    assert len(text) <= METADATA_BYTES_MAX
    assert decode(0, text) == [part((0, 99_998), failed=2), part((200_000, 200_001), failed=1)]


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "some other consumer's note",
        "{",
        "[]",
        "null",
        '{"tidemill":2,"pending":[[1,0,9]]}',
        '{"tidemill":1}',
        '{"tidemill":1,"pending":[[1,0]]}',
        '{"tidemill":1,"pending":[[1,9,0]]}',
        '{"tidemill":1,"pending":[[1,0,9],[0,5,20]]}',
        '{"tidemill":1,"pending":[[-1,0,9]]}',
        '{"tidemill":1,"pending":[[1.5,0,9]]}',
        '{"tidemill":1,"pending":[[true,0,9]]}',
        '{"tidemill":1,"pending":{"0":1}}',
    ],
)
def test_foreign_newer_and_damaged_metadata_is_nothing(metadata: str) -> None:
    assert decode(100, metadata) == []


def test_what_is_left_of_a_part_after_an_offset() -> None:
    assert part((10, 12), (20, 30), failed=1).after(21) == part((22, 30), failed=1)
    assert part((10, 12)).after(12) is None


def test_metadata_that_the_version_before_committed_still_decodes() -> None:
    """Written out: a change of the format that both directions share must not pass."""
    assert decode(10, '{"tidemill":1,"pending":[[3,0,4],[0,6,9,12,12]]}') == [
        Pending(runs=[(10, 14)], attempts=Attempts(failed=3)),
        Pending(runs=[(16, 19), (22, 22)], attempts=Attempts()),
    ]


@pytest.mark.parametrize("pending", [[], [part((10, 12), failed=3)]], ids=["nothing", "something"])
def test_the_topics_id_travels_beside_what_is_pending(pending: list[Pending]) -> None:
    metadata = with_topic(encode(10, pending), "an-id")
    assert topic_of(metadata) == "an-id"
    assert decode(10, metadata) == pending


@pytest.mark.parametrize(
    "metadata", ["", "x", "[]", '{"tidemill":1,"topic":7}', '{"tidemill":2,"topic":"t"}']
)
def test_metadata_without_a_topics_id_names_none(metadata: str) -> None:
    assert topic_of(metadata) is None


def test_a_topics_id_is_left_out_where_it_would_not_fit() -> None:
    full = encode(0, [part((n, n)) for n in range(0, 692, 2)])
    assert len(full) > METADATA_BYTES_MAX - 50
    assert with_topic(full, "an-id" * 10) == full
