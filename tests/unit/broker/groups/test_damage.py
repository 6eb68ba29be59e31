"""What a damaged __consumer_offsets costs: the records in the damage, told with their place, no others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.log_disk import Disk
from tidemill_broker.coordinators.records import OffsetCommitted
from tidemill_broker.groups.offsets_topic import NAME, OffsetsTopic

GROUPS = 100


def commit(number: int) -> OffsetCommitted:
    return OffsetCommitted(
        group_id=f"group-{number}",
        topic="orders",
        partition=0,
        offset=number,
        leader_epoch=0,
        metadata="m" * 30_000,  # 34 to a segment
        committed_at_ms=0,
    )


def cut(segments: list[Path]) -> None:
    with segments[0].open("r+b") as file:
        file.truncate(segments[0].stat().st_size // 2)


def zero(segments: list[Path]) -> None:
    size = segments[0].stat().st_size
    with segments[0].open("r+b") as file:
        file.seek(size // 3)
        file.write(bytes(size // 3))


def remove(segments: list[Path]) -> None:
    segments[1].unlink()


@pytest.mark.parametrize("damage", [cut, zero, remove])
def test_a_damaged_segment_is_told_with_its_place_and_what_can_be_read_is_read(
    damage: Callable[[list[Path]], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(tmp_path / "log")
    topics = disk.open()
    written = OffsetsTopic(topics, partitions=1, now_ms=disk.clock)
    for number in range(GROUPS):
        written.append([commit(number)])
    topics.close()
    segments = sorted((tmp_path / "log").rglob(f"{NAME}-0/*.log"))
    assert len(segments) > 2
    damage(segments)

    topics = disk.open()
    with caplog.at_level(logging.ERROR):
        found = list(OffsetsTopic(topics, partitions=1, now_ms=disk.clock).read_all())
    topics.close()

    left = {record.offset for record in found if isinstance(record, OffsetCommitted)}
    assert 0 < len(left) < GROUPS
    assert GROUPS - 1 in left  # behind the damage
    lost = sorted(set(range(GROUPS)) - left)
    assert f"partition={NAME}-0 offsets={lost[0]}-{lost[-1]}" in caplog.text
