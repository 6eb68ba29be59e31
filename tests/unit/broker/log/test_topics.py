"""Topics on disk: what is created survives, what is deleted is gone, and configs hold at once."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.log_disk import Disk
from tests.fakes.record_batches import NOW_MS, Record, batch, stored
from tidemill_broker.log import configs as topic_configs
from tidemill_broker.log.configs import TOPIC_CONFIGS
from tidemill_broker.log.errors import (
    InvalidBatch,
    InvalidConfig,
    InvalidPartitions,
    InvalidTopicName,
    OffsetOutOfRange,
    TopicExists,
    UnknownTopic,
)
from tidemill_broker.log.partition import Partition
from tidemill_broker.log.topics import Topics
from tidemill_broker.settings import KAFKA_SETTINGS, Settings

HOUR_MS = 3_600_000


def first(topics: Topics, name: str = "t") -> Partition:
    topic = topics.get(name)
    assert topic is not None
    return topic.partitions[0]


def kill(topics: Topics) -> None:
    """Leave everything as it lies: nothing of these topics writes any more."""
    for topic in topics.all():
        for partition in topic.partitions:
            partition.log.abandon()


def test_a_topic_survives_a_kill_with_all_that_was_asked_of_it(disk: Disk) -> None:
    topics = disk.open()
    made = topics.create(
        "a.b_c-1", partitions=3, replication_factor=3, configs={"retention.ms": "5"}, internal=True
    )
    topics.add_partitions("a.b_c-1", 5)
    topics.set_configs("a.b_c-1", {"retention.ms": "7"})
    kill(topics)
    found = disk.open().get("a.b_c-1")
    assert found is not None
    assert found.topic_id == made.topic_id
    assert len(found.partitions) == 5
    assert (found.replication_factor, found.internal, found.configs) == (3, True, {"retention.ms": "7"})


def test_a_topic_is_found_by_name_and_by_id(topics: Topics) -> None:
    made = topics.create("t", partitions=1)
    assert topics.get("t") is made
    assert topics.by_id(made.topic_id) is made
    assert [topic.name for topic in topics.all()] == ["t"]
    assert topics.get("u") is None


def test_a_deleted_topic_takes_its_data_along(disk: Disk) -> None:
    topics = disk.open()
    made = topics.create("t", partitions=2)
    first(topics).append(batch())
    topics.delete("t")
    assert topics.get("t") is None
    assert topics.by_id(made.topic_id) is None
    topics.close()
    assert [path.name for path in disk.directory.iterdir()] == ["topics"]
    assert disk.open().all() == []


def test_a_topic_created_again_begins_at_0_even_if_a_crash_left_old_folders(disk: Disk) -> None:
    topics = disk.open()
    topics.create("t", partitions=1)
    first(topics).append(batch())
    kill(topics)
    (disk.directory / "topics" / "t.json").unlink()
    topics = disk.open()
    assert topics.get("t") is None
    topics.create("t", partitions=1)
    assert first(topics).end_offset == 0


def test_a_crash_between_file_and_folders_is_made_good_at_the_next_start(disk: Disk) -> None:
    topics = disk.open()
    topics.create("t", partitions=1)
    topics.close()
    file = disk.directory / "topics" / "t.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "partitions": 3}))
    (disk.directory / "t-1").mkdir()
    topics = disk.open()
    found = topics.get("t")
    assert found is not None
    assert [partition.append(batch()) for partition in found.partitions] == [0, 0, 0]


def test_a_topic_may_have_the_longest_name_there_is(disk: Disk) -> None:
    topics = disk.open()
    name = "x" * 249
    topics.create(name, partitions=11)
    topics.set_configs(name, {"retention.ms": "7"})
    first(topics, name).append(batch())
    kill(topics)
    topics = disk.open()
    assert first(topics, name).end_offset == 1
    topics.delete(name)
    topics.close()
    assert [path.name for path in disk.directory.iterdir()] == ["topics"]


@contextmanager
def few_files() -> Iterator[int]:
    """How many files can be open, which is not many more than there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = max(int(file.name) for file in Path("/proc/self/fd").iterdir()) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        yield few
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux lists them")
def test_a_topic_that_could_not_be_made_is_not_there_after_a_restart(disk: Disk) -> None:
    topics = disk.open()
    with few_files() as count, pytest.raises(OSError, match="files"):
        topics.create("t", partitions=count, internal=True)
    assert topics.get("t") is None
    kill(topics)
    topics = disk.open()
    assert topics.get("t") is None
    topics.create("t", partitions=3)
    assert [partition.append(batch()) for partition in topics.get("t").partitions] == [0, 0, 0]  # type: ignore[union-attr]  # just made


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ü", "x" * 250, "a\n"])
def test_a_bad_name_is_rejected(topics: Topics, name: str) -> None:
    with pytest.raises(InvalidTopicName):
        topics.create(name, partitions=1)


def test_what_contradicts_the_present_is_rejected_and_changes_nothing(topics: Topics) -> None:
    topics.create("t", partitions=2)
    with pytest.raises(TopicExists):
        topics.create("t", partitions=1)
    for total in (0, 1, 2, 10_001):
        with pytest.raises(InvalidPartitions):
            topics.add_partitions("t", total)
    for count in (0, -1, 10_001):
        with pytest.raises(InvalidPartitions):
            topics.create("u", partitions=count)
    with pytest.raises(InvalidConfig):
        topics.create("u", partitions=1, configs={"no.such": "1"})
    with pytest.raises(InvalidConfig):
        topics.set_configs("t", {"retention.ms": "soon"})
    for call in (
        topics.delete,
        lambda name: topics.set_configs(name, {}),
        lambda name: topics.add_partitions(name, 9),
    ):
        with pytest.raises(UnknownTopic):
            call("u")
    assert [(topic.name, len(topic.partitions), topic.configs) for topic in topics.all()] == [("t", 2, {})]


def test_configs_hold_at_once(topics: Topics) -> None:
    topics.create("t", partitions=1)
    topics.set_configs("t", {"max.message.bytes": "10"})
    with pytest.raises(InvalidBatch, match=r"max\.message\.bytes of 10"):
        first(topics).append(batch())
    topics.set_configs("t", {})
    assert first(topics).append(batch()) == 0


def test_every_default_of_the_table_is_a_value_that_it_accepts() -> None:
    topic_configs.validate(
        {name: row.default for name, row in TOPIC_CONFIGS.items() if row.type.name != "LIST"}
    )
    topic_configs.validate(topic_configs.effective({}, Settings().kafka_values()))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.ms", "-2"),
        ("retention.ms", "x"),
        ("retention.ms", str(2**63)),
        ("segment.bytes", "13"),
        ("segment.bytes", str(2**31)),
        ("min.cleanable.dirty.ratio", "1.1"),
        ("min.cleanable.dirty.ratio", "nan"),
        ("cleanup.policy", "keep"),
        ("message.timestamp.type", "createtime"),
        ("preallocate", "yes"),
        ("remote.storage.enable", "true"),
    ],
)
def test_a_value_out_of_range_is_rejected_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidConfig, match=f"Invalid value .* for configuration {name}") as refused:
        topic_configs.validate({name: value})
    assert refused.value.name == name


def test_an_unknown_config_names_its_nearest_neighbour() -> None:
    with pytest.raises(InvalidConfig, match=r"did you mean retention\.ms"):
        topic_configs.validate({"retentionms": "1"})


def test_the_strongest_broker_setting_gives_the_default() -> None:
    row = TOPIC_CONFIGS["retention.ms"]
    settings: dict[str, object] = {"log.retention.hours": 2}
    assert topic_configs.default(row, settings) == str(2 * HOUR_MS)
    assert topic_configs.default(row, {**settings, "log.retention.minutes": 3}) == "180000"
    assert (
        topic_configs.default(row, {**settings, "log.retention.ms": -1, "log.retention.minutes": 3}) == "-1"
    )
    assert topic_configs.default(row, {"log.retention.hours": -1}) == "-1"
    assert topic_configs.default(TOPIC_CONFIGS["preallocate"], {"log.preallocate": True}) == "true"


def test_the_broker_settings_that_the_table_names_have_its_units() -> None:
    named = {synonym for row in TOPIC_CONFIGS.values() for synonym, _ in row.synonyms}
    assert {"log.retention.hours", "log.roll.hours", "message.max.bytes"} <= named & set(KAFKA_SETTINGS)


def test_retention_runs_on_the_clock_that_it_is_given(disk: Disk) -> None:
    topics = disk.open()
    topics.create("t", partitions=1, configs={"segment.bytes": "100", "retention.ms": "1000"})
    topics.create("kept", partitions=1, configs={"retention.ms": "1000", "cleanup.policy": "compact"})
    first(topics, "kept").append(batch())
    for index in range(5):
        first(topics).append(batch(base_timestamp_ms=NOW_MS + index * 1000))
    assert topics.housekeep(NOW_MS + 1000) == 0
    assert topics.housekeep(NOW_MS + 2500) == 2
    assert (first(topics).log_start, first(topics).end_offset) == (2, 5)
    assert topics.housekeep(NOW_MS + HOUR_MS) == 3
    kill(topics)
    topics = disk.open()
    assert (first(topics).log_start, first(topics).end_offset, first(topics).size_bytes) == (5, 5, 0)
    assert first(topics, "kept").read(0, 1000)


def test_a_folder_holds_the_files_that_kafka_users_know(disk: Disk) -> None:
    topics = disk.open()
    topics.create("t", partitions=1, configs={"segment.bytes": "100"})
    for _ in range(2):
        first(topics).append(batch())
    topics.close()
    names = {path.name for path in (disk.directory / "t-0").iterdir()}
    assert names == {
        *(f"{base:020}.{kind}" for base in (0, 1) for kind in ("log", "index", "timeindex")),
        "leader-epoch-checkpoint",
        "partition.metadata",
        "checkpoint",
    }


def test_what_is_read_is_what_was_appended_wherever_it_begins(topics: Topics) -> None:
    topics.create("t", partitions=1)
    for count in (1, 3, 2):
        first(topics).append(batch([Record()] * count))
    assert [stored(first(topics).read(offset, 1 << 20))[0][0] for offset in range(6)] == [0, 1, 1, 1, 4, 4]
    assert first(topics).read(6, 1) == b""
    with pytest.raises(OffsetOutOfRange, match="is outside the log, which is 0 to 6"):
        first(topics).read(7, 1)


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        *(
            (name, Path.unlink)
            for name in ("checkpoint", "leader-epoch-checkpoint", "*.index", "*.timeindex")
        ),
        *((name, cut) for name in ("checkpoint", "*.index", "*.timeindex")),
        *((name, damage) for name in ("checkpoint", "leader-epoch-checkpoint")),
    ],
)
def test_everything_but_the_log_itself_can_be_lost(
    disk: Disk, name: str, harm: Callable[[Path], None]
) -> None:
    topics = disk.open()
    topics.create("t", partitions=1, configs={"segment.bytes": "300", "index.interval.bytes": "0"})
    for index in range(9):
        first(topics).append(batch(base_timestamp_ms=NOW_MS + index, producer=(5, 0, index)))
    topics.close()
    for file in (disk.directory / "t-0").glob(name):
        harm(file)
    topics = disk.open()
    assert first(topics).end_offset == 9
    for offset in range(9):
        assert stored(first(topics).read(offset, 1))[0][0] == offset
        assert first(topics).offset_for_timestamp(NOW_MS + offset) == (offset, NOW_MS + offset, 0)
    assert first(topics).append(batch(producer=(5, 0, 9))) == 9


COMPACTION_LINE = "compaction is not done, old records of a key are kept topic=t cleanup_policy="


def test_a_topic_whose_policy_becomes_compact_is_told_in_the_log_once(
    topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    topics.create("t", partitions=2)
    assert caplog.messages == []
    for policy in ("compact", "compact,delete", "compact"):
        topics.set_configs("t", {"cleanup.policy": policy})
    topics.add_partitions("t", 3)
    assert caplog.messages == [f"{COMPACTION_LINE}compact"]


def test_a_topic_that_is_created_or_found_with_compaction_is_told_in_the_log(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.open().create("t", partitions=1, configs={"cleanup.policy": "compact,delete"})
    disk.open()
    assert caplog.messages == [f"{COMPACTION_LINE}compact,delete"] * 2


def test_a_topic_that_is_compact_by_the_brokers_default_is_told_in_the_log(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.open(log_cleanup_policy="compact").create("t", partitions=1)
    assert caplog.messages == [f"{COMPACTION_LINE}compact"]


def test_the_brokers_own_topic_is_kept_small_and_not_told_in_the_log(
    topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    topics.create("__consumer_offsets", partitions=1, configs={"cleanup.policy": "compact"}, internal=True)
    assert caplog.messages == []


def test_retention_deletes_nothing_of_an_internal_topic_whatever_its_configs_say(topics: Topics) -> None:
    configs = {
        "cleanup.policy": "delete",
        "retention.ms": "1",
        "retention.bytes": "1",
        "segment.bytes": "100",
    }
    for name, internal in (("__consumer_offsets", True), ("t", False)):
        made = topics.create(name, partitions=1, configs=configs, internal=internal)
        for _ in range(5):
            made.partitions[0].append(batch())
    assert topics.housekeep(2**50) > 0
    offsets, plain = topics.all()
    assert [each.partitions[0].log_start for each in (offsets, plain)] == [0, 5]


def test_a_partition_of_many_segments_holds_one_file_open(topics: Topics) -> None:
    partition = topics.create("t", partitions=1, configs={"segment.bytes": "14"}).partitions[0]
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(300):
        partition.append(batch())
    assert partition.log.segment_count == 300
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before + 1
    assert partition.log.flush() == 300
    for offset in range(300):
        assert partition.read(offset, 1)
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before + 5


def test_partitions_beyond_half_of_the_open_files_are_rejected_and_the_fix_is_named(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _limit: (280, 280))
    topics.create("t", partitions=60)
    with pytest.raises(InvalidPartitions, match=r"room for 70 partitions, 60 .*ulimit -n.* is 280"):
        topics.create("u", partitions=11)
    with pytest.raises(InvalidPartitions, match="delete topics"):
        topics.add_partitions("t", 71)
    topics.create("groups", partitions=20, internal=True)
    topics.delete("groups")
    topics.add_partitions("t", 70)


def test_partitions_that_are_made_in_turns_are_counted(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _limit: (280, 280))
    making = topics.create_in_turns("t", partitions=60)
    next(making)
    with pytest.raises(InvalidPartitions, match="60 of which are taken"):
        topics.create("u", partitions=11)
