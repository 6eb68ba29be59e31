"""Damage of any file below `log/` is logged with its file, and every record outside of it is served."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.kafka_frames import read_response
from tests.fakes.log_disk import Disk
from tests.fakes.log_frames import EVERYTHING, FETCH, fetch_frame, fetch_partition, produce_frame
from tests.fakes.record_batches import NOW_MS, Record, batch, stored
from tests.harness.processes import wait_until
from tidemill_broker.log.errors import DamagedTopic, TopicExists
from tidemill_broker.log.topics import Topics
from tidemill_broker.protocol.errors import ErrorCode


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


def fetched(topics: Topics, offset: int) -> tuple[int, list[int]]:
    """The error code and the base offsets of one fetch."""
    frame = fetch_frame([fetch_partition(offset=offset, partition_max_bytes=1)])
    answer = topics.fetch(memoryview(frame), *EVERYTHING)
    assert isinstance(answer, memoryview)
    (partition,) = read_response(FETCH, 12, bytes(answer)).responses[0].partitions
    return partition.error_code, [base for base, *_ in stored(partition.records or b"")]


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 0xFF
    file.write_bytes(content)


def test_a_damaged_batch_is_an_error_until_it_is_set_aside_and_reads_go_on_behind_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(tmp_path / "log")
    segment = filled(disk)[2]
    whole = segment.read_bytes()
    first = int(segment.stem)
    size = len(batch([Record(value=b"x" * 40)]))
    flip(segment, size + 70)
    damaged = segment.read_bytes()

    topics = disk.open()

    assert caplog.messages == []
    assert fetched(topics, first) == (ErrorCode.none, [first])
    assert fetched(topics, first + 1) == (ErrorCode.corrupt_message, [])
    assert f"a batch could not be read untold=0: {segment} is damaged at position {size}" in caplog.text
    wait_until(lambda: "lost records" in caplog.text, what="the repair")
    line = next(line for line in caplog.messages if "lost records" in line)
    assert f"partition=t-0 offsets={first + 1}-{first + 1}: {segment} was damaged at position {size}" in line
    wait_until(lambda: fetched(topics, first + 1) == (ErrorCode.none, [first + 2]), what="reads to go on")
    assert segment.with_name(f"{segment.name}.damaged").read_bytes() == damaged
    topics.close()
    assert segment.read_bytes() == whole[:size] + whole[2 * size :]


def test_a_checkpoint_follows_a_closed_segment_so_that_a_kill_costs_no_scan_of_it(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "log")
    topics = disk.open()
    topic = topics.create("t", partitions=1, configs={"segment.bytes": "1000"})
    value = batch([Record(value=b"x" * 40)])
    while topic.partitions[0].log.segment_count < 3:
        produced = topics.produce(memoryview(produce_frame(value)), NOW_MS, *EVERYTHING)
        assert not produced[1]
    wait_until((tmp_path / "log" / "t-0" / "checkpoint").exists, what="the checkpoint")
    topics._upkeep.close()  # the clock of the test: all that was begun is done

    scanned, cut_bytes, damage = disk.open().get("t").partitions[0].log.recovery  # type: ignore[union-attr]  # it is there

    assert scanned < 1000
    assert (cut_bytes, damage) == (0, [])


NOT_A_TOPIC = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"{}",
    b'{"name": "t", "partitions": 1}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", NOT_A_TOPIC, ids=range(len(NOT_A_TOPIC)))
def test_a_damaged_topic_is_told_with_its_file_and_the_others_are_served(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(tmp_path / "log")
    filled(disk)
    topics = disk.open()
    topics.create("other", partitions=1)
    topics.close()
    file = tmp_path / "log" / "topics" / "t.json"
    file.write_bytes(content)

    topics = disk.open()

    assert [topic.name for topic in topics.all()] == ["other"]
    assert f"topic not loaded, the others are served topic=t: {file} cannot be read" in caplog.text
    with pytest.raises(TopicExists, match="is damaged"):
        topics.create("t", partitions=1)
    topics.close()
    assert list((tmp_path / "log" / "t-0").glob("*.log"))


def test_a_topic_file_under_another_name_or_without_partitions_is_damaged(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "log")
    filled(disk)
    folder = tmp_path / "log" / "topics"
    (folder / "u.json").write_bytes((folder / "t.json").read_bytes())
    content = json.loads((folder / "t.json").read_text())
    (folder / "v.json").write_text(json.dumps({**content, "name": "v", "partitions": 0}))
    assert [topic.name for topic in disk.open().all()] == ["t"]


def test_without_the_file_of_its_own_topic_the_broker_does_not_start(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "log")
    topics = disk.open()
    topics.create("__consumer_offsets", partitions=1, internal=True)
    topics.close()
    file = tmp_path / "log" / "topics" / "__consumer_offsets.json"
    file.write_bytes(b"")
    with pytest.raises(DamagedTopic, match=str(file)):
        disk.open()


@pytest.mark.parametrize("content", [b"", b"\xff", b"version: 0\n"])
def test_a_damaged_label_of_a_folder_costs_no_record(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(tmp_path / "log")
    filled(disk)
    label = tmp_path / "log" / "t-0" / "partition.metadata"
    whole = label.read_bytes()
    label.write_bytes(content)

    topics = disk.open()

    assert fetched(topics, 59) == (ErrorCode.none, [59])
    assert f"{label} is damaged" in caplog.text
    assert label.read_bytes() == whole
    topics.close()


def test_a_folder_with_the_label_of_another_topic_is_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(tmp_path / "log")
    filled(disk)
    folder = tmp_path / "log" / "t-0"
    flip_letter = (folder / "partition.metadata").read_text()[:-2]
    last = "A" if (folder / "partition.metadata").read_text()[-2] != "A" else "Q"
    (folder / "partition.metadata").write_text(f"{flip_letter}{last}\n")
    records = sorted((file.name, file.read_bytes()) for file in folder.glob("*.log"))

    topics = disk.open()

    assert topics.get("t").partitions[0].end_offset == 0  # type: ignore[union-attr]  # it is there
    (kept,) = (tmp_path / "log").glob("*.damaged")
    assert sorted((file.name, file.read_bytes()) for file in kept.glob("*.log")) == records
    assert f"it is kept as {kept.name}" in caplog.text
    topics.close()
