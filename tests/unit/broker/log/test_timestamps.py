"""ListOffsets by time equals a linear search, whatever the codec and the order of the times."""

from __future__ import annotations

import random

import pytest

from tests.fakes.record_batches import CODECS, Record, batch
from tidemill_broker.log.partition import Partition
from tidemill_broker.log.topics import Topics

BATCHES = 30


def fill(partition: Partition, generator: random.Random, codec: str) -> list[tuple[int, int]]:
    """Append batches with times all over the place; (offset, time) of every record."""
    records = []
    for _ in range(BATCHES):
        base_ms = generator.randrange(1000)
        deltas = [generator.randrange(-50, 50) for _ in range(generator.randrange(1, 6))]
        base = partition.append(
            batch([Record(delta_ms=delta) for delta in deltas], codec=codec, base_timestamp_ms=base_ms)
        )
        records += [(base + index, base_ms + delta) for index, delta in enumerate(deltas)]
    return records


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("closed", [False, True])
def test_a_time_is_found_as_a_linear_search_finds_it(topics: Topics, codec: str, closed: bool) -> None:  # noqa: FBT001 - pytest's
    topics.create("t", partitions=1, configs={"segment.bytes": "1000", "index.interval.bytes": "150"})
    topic = topics.get("t")
    assert topic is not None
    partition = topic.partitions[0]
    records = fill(partition, random.Random(codec), codec)
    if closed:
        topics.housekeep(0)
    for log_start in (0, 17, 18, 40, 55):  # behind whole batches, and inside some
        partition.delete_before(log_start)
        left = [record for record in records if record[0] >= log_start]
        for target in range(-60, 1060, 7):
            found = next(((offset, time, 0) for offset, time in left if time >= target), None)
            assert partition.offset_for_timestamp(target) == found, target
        newest = max(time for _, time in left)
        newest_record = next((offset, time, 0) for offset, time in left if time == newest)
        assert [partition.max_timestamp() for _ in range(2)] == [newest_record] * 2


def test_an_empty_log_has_no_times(topics: Topics) -> None:
    topics.create("t", partitions=1)
    topic = topics.get("t")
    assert topic is not None
    assert topic.partitions[0].offset_for_timestamp(0) is None
    assert topic.partitions[0].max_timestamp() is None
