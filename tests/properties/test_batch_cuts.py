"""However records come and are cut, each one is delivered in exactly one event within the limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.poller import SOURCE, FakeRecord
from tidemill_poller.batch import Batch, BatchLimits, Buffer
from tidemill_poller.event import records_json

POLLS = st.lists(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 400)), max_size=20), min_size=1, max_size=8
)


@given(POLLS, st.integers(1, 30), st.integers(200, 3000), st.lists(st.booleans(), max_size=8))
def test_takes_partition_what_was_added(
    polls: list[list[tuple[int, int]]], size: int, payload_bytes: int, take_between: list[bool]
) -> None:
    buffer = Buffer(SOURCE, BatchLimits(records=size, window_s=1.0, payload_bytes=payload_bytes))
    added: list[int] = []
    batches: list[Batch] = []
    offset = 0
    for number, poll in enumerate(polls):
        records = []
        for step, value_bytes in poll:
            offset += step  # logs have gaps
            records.append(FakeRecord(offset=offset, value=b"x" * value_bytes))
        parts = records_json(records)
        buffer.add(records, parts, parts_bytes=sum(map(len, parts)), now_s=float(number), filtered=0)
        added += [record.offset for record in records]
        if number < len(take_between) and take_between[number] and (batch := buffer.take("time")):
            batches.append(batch)
    while (batch := buffer.take("size")) is not None:
        batches.append(batch)
    assert [record.offset for batch in batches for record in batch.records] == added
    for batch in batches:
        assert len(batch) <= size
        assert batch.payload_bytes == len(batch.payload())
        assert batch.payload_bytes <= payload_bytes or len(batch) == 1


@given(st.integers(1, 60), st.sets(st.integers(0, 59)), st.lists(st.booleans(), max_size=8))
def test_runs_cover_what_is_left_and_nothing_that_was_settled(
    count: int, settled: set[int], lefts: list[bool]
) -> None:
    buffer = Buffer(SOURCE, BatchLimits(records=count, window_s=0.0))
    records = [FakeRecord(offset=3 * i) for i in range(count)]
    parts = records_json(records)
    buffer.add(records, parts, parts_bytes=sum(map(len, parts)), now_s=0.0, filtered=0)
    batch = buffer.take("size")
    assert batch is not None
    keep = [i for i in range(count) if i not in settled] or [0]
    part = batch.keep(keep)
    for left in lefts:
        if len(part) > 1:
            part = part.bisect()[0 if left else 1]
    inside = {
        record.offset for record in records for first, last in part.runs() if first <= record.offset <= last
    }
    assert inside == {record.offset for record in part.records}
