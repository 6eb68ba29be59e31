"""Batches: when they close and how they are cut."""

from __future__ import annotations

import pytest

from tests.fakes.poller import SOURCE, records
from tidemill_poller.batch import Batch, BatchLimits, Buffer, ByteBudget
from tidemill_poller.event import records_json


def buffer(**limits: float) -> Buffer:
    wanted = {"records": 3, "window_s": 10.0, "payload_bytes": 6_291_456, **limits}
    return Buffer(
        SOURCE,
        BatchLimits(
            records=int(wanted["records"]),
            window_s=wanted["window_s"],
            payload_bytes=int(wanted["payload_bytes"]),
        ),
    )


def fill(into: Buffer, *offsets: int, now_s: float = 0.0, value: bytes = b"v", filtered: int = 0) -> None:
    fed = records(*offsets)
    for record in fed:
        record.value = value
    parts = records_json(fed)
    into.add(fed, parts, parts_bytes=sum(map(len, parts)), now_s=now_s, filtered=filtered)


def offsets(batch: Batch | None) -> list[int]:
    return [] if batch is None else [record.offset for record in batch.records]


def test_an_empty_buffer_never_closes() -> None:
    assert buffer().closes(now_s=1e9, opened_s=0, full=True) is None


def test_a_batch_closes_by_its_size_at_once() -> None:
    waiting = buffer()
    fill(waiting, 0, 1, 2)
    assert waiting.closes(now_s=0, opened_s=0, full=False) == "size"


def test_a_batch_closes_by_time_when_the_window_of_its_oldest_record_ends() -> None:
    waiting = buffer()
    fill(waiting, 0, now_s=5)
    fill(waiting, 1, now_s=9)
    assert waiting.closes(now_s=14.9, opened_s=0, full=False) is None
    assert waiting.closes(now_s=15, opened_s=0, full=False) == "time"


def test_the_window_begins_no_sooner_than_it_was_opened() -> None:
    waiting = buffer()
    fill(waiting, 0, now_s=5)
    assert waiting.deadline_s(opened_s=8) == 18


def test_the_window_of_what_is_left_begins_with_its_own_arrival() -> None:
    waiting = buffer()
    fill(waiting, 0, 1, 2, now_s=5)
    fill(waiting, 3, now_s=9)
    waiting.take("size")
    assert waiting.deadline_s(opened_s=0) == 19


def test_without_a_window_whatever_waits_may_go() -> None:
    waiting = buffer(window_s=0)
    fill(waiting, 0, now_s=5)
    assert waiting.closes(now_s=5, opened_s=5, full=False) == "time"


def test_a_batch_closes_by_bytes_when_the_next_poll_must_wait_for_it() -> None:
    waiting = buffer()
    fill(waiting, 0)
    assert waiting.closes(now_s=0, opened_s=0, full=True) == "bytes"


def test_a_batch_closes_by_bytes_when_the_event_reaches_its_limit() -> None:
    waiting = buffer(records=10, payload_bytes=400)
    fill(waiting, 0, 1)
    assert waiting.closes(now_s=0, opened_s=0, full=False) is None
    fill(waiting, 2)
    assert waiting.closes(now_s=0, opened_s=0, full=False) == "bytes"


def test_what_is_taken_never_exceeds_the_limit_and_the_rest_waits() -> None:
    waiting = buffer(records=10, payload_bytes=400)
    fill(waiting, *range(6))
    taken = []
    while (batch := waiting.take("size")) is not None:
        assert batch.payload_bytes == len(batch.payload()) <= 400
        taken.append(offsets(batch))
    assert taken == [[0, 1], [2, 3], [4, 5]]


def test_a_record_that_no_event_can_carry_comes_alone() -> None:
    waiting = buffer(records=10, payload_bytes=400)
    fill(waiting, 0)
    fill(waiting, 1, value=b"x" * 1000)
    fill(waiting, 2)
    assert [offsets(waiting.take("size")) for _ in range(4)] == [[0], [1], [2], []]


def test_filtered_records_are_reported_with_the_batch_that_passes_them() -> None:
    waiting = buffer()
    fill(waiting, filtered=4)
    fill(waiting, 4, filtered=1)
    batch = waiting.take("time")
    assert batch is not None
    assert batch.filtered == 5


def test_taking_up_to_an_offset_takes_none_beyond_it_and_no_more_than_the_size() -> None:
    waiting = buffer(records=3)
    fill(waiting, 0, 1, 5, 6)
    assert offsets(waiting.take("size", up_to_offset=1)) == [0, 1]
    waiting = buffer(records=2)
    fill(waiting, 0, 1, 5, 6)
    assert offsets(waiting.take("size", up_to_offset=5)) == [0, 1]
    assert offsets(waiting.take("size", up_to_offset=5)) == [5]
    assert waiting.take("size", up_to_offset=5) is None
    assert waiting.first_offset == 6


def test_a_long_run_of_takes_gives_every_record_once() -> None:
    waiting = buffer(records=7)
    fill(waiting, *range(20_000))
    seen: list[int] = []
    while (batch := waiting.take("size")) is not None:
        seen += offsets(batch)
    assert seen == list(range(20_000))
    assert len(waiting) == 0
    assert waiting.first_offset is None


def whole(*at: int) -> Batch:
    waiting = buffer(records=100)
    fill(waiting, *at)
    batch = waiting.take("size")
    assert batch is not None
    return batch


@pytest.mark.parametrize(("count", "first"), [(2, 1), (3, 2), (100, 50)])
def test_bisecting_gives_two_halves_in_order(count: int, first: int) -> None:
    left, right = whole(*range(count)).bisect()
    assert offsets(left) == list(range(first))
    assert offsets(right) == list(range(first, count))


def test_runs_ignore_gaps_in_the_log_and_show_what_was_settled() -> None:
    batch = whole(10, 11, 15, 20, 21)
    assert batch.runs() == [(10, 21)]
    assert batch.keep([0, 1, 4]).runs() == [(10, 11), (21, 21)]
    assert batch.keep([0, 1, 4]).bisect()[0].runs() == [(10, 11)]


def test_a_budget_is_spent_at_its_limit_and_free_again_below() -> None:
    budget = ByteBudget(100)
    budget.take(100)
    assert budget.spent
    budget.give_back(1)
    assert not budget.spent
