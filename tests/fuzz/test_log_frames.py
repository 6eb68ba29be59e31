"""Whatever comes as Produce or Fetch, the core answers or says MalformedFrame, and the log stays whole."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.kafka_frames import random_request, request_frame
from tests.fakes.log_disk import Disk
from tests.fakes.log_frames import EVERYTHING, FETCH, PRODUCE, fetch_frame, fetch_partition, produce_frame
from tests.fakes.record_batches import CODECS, HEADER_BYTES, NOW_MS, Record, batch, sealed, stored
from tidemill_broker.log.topics import Topics
from tidemill_broker.protocol.errors import MalformedFrame

SEED = 20131231
FRAMES = 10_000
PRODUCE_VERSIONS, FETCH_VERSIONS = range(3, 14), range(4, 18)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "log")
    yield disk
    for topics in disk.opened:
        topics.close()


def mutated(generator: random.Random, data: bytes) -> bytes:
    """Bytes flipped, cut out, put in or replaced by tempting numbers."""
    changed = bytearray(data)
    for _ in range(generator.randrange(1, 4)):
        at = generator.randrange(len(changed) + 1)
        kind = generator.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del changed[at : at + generator.randrange(1, 9)]
        elif kind == 2:
            changed[at:at] = generator.randbytes(generator.randrange(1, 9))
        else:
            number = generator.choice((0, 1, -1, 2**31 - 1, -(2**31), 255, 65_535))
            changed[at : at + 4] = struct.pack(">i", number)
    return bytes(changed)


def served(topics: Topics, frame: bytes) -> bool:
    """Whether it is answered; any exception but MalformedFrame fails the test."""
    try:
        if frame[:2] == b"\0\0":
            topics.produce(memoryview(frame), NOW_MS, *EVERYTHING)
        else:
            topics.fetch(memoryview(frame), *EVERYTHING)
    except MalformedFrame:
        return False
    return True


def check_whole(topics: Topics) -> int:
    """Every batch of every partition follows on the one before; how many records there are."""
    total = 0
    for topic in topics.all():
        for partition in topic.partitions:
            offset = partition.log_start
            while offset < partition.end_offset:
                for base, _, count in stored(partition.read(offset, 1 << 20)):
                    assert base == offset
                    assert count > 0
                    offset += count
            assert offset == partition.end_offset
            total += offset
    return total


def test_random_and_mutated_frames_are_answered_or_malformed_and_the_log_stays_whole(disk: Disk) -> None:
    generator = random.Random(SEED)
    topics = disk.open()
    topic = topics.create("flights", partitions=3, configs={"segment.bytes": "20000"})
    answered = 0
    for _ in range(FRAMES):
        key = generator.choice((PRODUCE, FETCH))
        version = generator.choice(PRODUCE_VERSIONS if key == PRODUCE else FETCH_VERSIONS)
        named = topic.topic_id if version >= 13 else "flights"
        kind = generator.random()
        if kind < 0.2:
            frame = struct.pack(">hhih", key, version, 7, -1) + generator.randbytes(generator.randrange(120))
        elif kind < 0.4:
            frame = request_frame(random_request(generator, key, version))
        elif key == PRODUCE:
            sent = batch([Record()] * generator.randrange(1, 4), codec=generator.choice(CODECS))
            frame = mutated(generator, produce_frame(sent, version=version, topic=named))
        else:
            asked = fetch_partition(version=version, offset=generator.randrange(50))
            frame = mutated(generator, fetch_frame([asked], version=version, topic=named))
        answered += served(topics, frame)
    assert FRAMES / 10 < answered < FRAMES
    records = check_whole(topics)
    topics.close()
    again = disk.open()
    assert check_whole(again) == records


def test_mutated_batches_with_a_right_crc_leave_only_readable_batches(disk: Disk) -> None:
    generator = random.Random(SEED)
    topics = disk.open()
    topics.create("flights", partitions=1)
    for _ in range(FRAMES):
        records = [Record(value=generator.randbytes(9), headers=[("h", b"v")])] * generator.randrange(1, 4)
        codec = generator.choice(CODECS)
        checked = bytearray(batch(records, codec=codec)[21:])
        at = HEADER_BYTES - 21 if generator.random() < 0.7 else 0
        damaged = bytes(checked[:at]) + mutated(generator, bytes(checked[at:]))
        served(topics, produce_frame(sealed(damaged), topic="flights"))
    check_whole(topics)
    (topic,) = topics.all()
    for target in (0, NOW_MS, NOW_MS + 1, 2**62):
        topic.partitions[0].offset_for_timestamp(target)
