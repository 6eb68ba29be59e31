"""A segment that the disk lost or cut after a clean stop is told at the next start, with its offsets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.log_disk import Disk
from tests.fakes.record_batches import Record, batch


def filled(disk: Disk) -> list[Path]:
    """The closed and the active segments of a partition with 60 batches of one record, cleanly closed."""
    topics = disk.open()
    partition = topics.create(
        "t", partitions=1, configs={"segment.bytes": "1000", "index.interval.bytes": "200"}
    ).partitions[0]
    for _ in range(60):
        partition.append(batch([Record(value=b"x" * 40)]))
    topics.close()
    return sorted(disk.directory.rglob("t-0/*.log"))


def cut(log: Path) -> None:
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size // 2)


def empty(log: Path) -> None:
    log.write_bytes(b"")


def zero_tail(log: Path) -> None:
    with log.open("r+b") as file:
        file.seek(log.stat().st_size - 100)
        file.write(bytes(100))


@pytest.mark.parametrize("damage", [cut, empty, zero_tail, Path.unlink])
def test_lost_offsets_are_told_and_the_others_are_served(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(tmp_path / "log")
    segments = filled(disk)
    assert len(segments) > 4
    damage(segments[2])
    following = int(segments[3].stem)

    with caplog.at_level(logging.ERROR):
        topics = disk.open()

    assert f"-{following - 1}: " in caplog.text
    assert "lost records partition=t-0" in caplog.text
    topic = topics.get("t")
    assert topic is not None
    assert topic.partitions[0].read(following, 100)
    topics.close()


def test_segments_that_follow_on_are_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk(tmp_path / "log")
    filled(disk)

    with caplog.at_level(logging.ERROR):
        disk.open().close()

    assert "lost records" not in caplog.text
