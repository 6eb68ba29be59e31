"""Kafka's own DumpLogSegments reads our files: batches, offset indexes and time indexes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.log_disk import Disk
from tests.fakes.record_batches import CODECS, NOW_MS, Record, batch
from tests.oracles.apache_kafka import jars_or_skip, run_tool

DUMP = "org.apache.kafka.tools.DumpLogSegments"

pytestmark = pytest.mark.kafka


def test_kafka_finds_every_record_in_our_segments_and_no_fault_in_our_indexes(tmp_path: Path) -> None:
    jars_or_skip()
    disk = Disk(tmp_path)
    topics = disk.open()
    topic = topics.create("t", partitions=1, configs={"segment.bytes": "2000", "index.interval.bytes": "300"})
    for number in range(60):
        records = [Record(delta_ms=3), Record(value=bytes(number)), Record(key=None)]
        sent = batch(records, codec=CODECS[number % 5], base_timestamp_ms=NOW_MS + number * 10)
        topic.partitions[0].append(sent)
    topics.close()
    files = sorted((tmp_path / "t-0").glob("0*"))
    assert len(files) >= 9
    done = run_tool(DUMP, "--deep-iteration", "--files", ",".join(map(str, files)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| offset: ") == 180
    for fault in (
        "Found timestamp mismatch",
        "Found out of order",
        "Mismatches in",
        "Non-consecutive",
        "isvalid: false",
    ):
        assert fault not in done.stdout
    assert "Found" not in done.stderr
