"""What the broker acknowledges, clients can read: damaged batches, read by Kafka and by aiokafka.

Kafka's LogValidator and Java's reader run on the same bytes. We accept less than Kafka where not every
client can read what it accepts. STRICTER lists the rest: what all could read, and no client writes.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cramjam
import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from tests.fakes.kafka_frames import read_response
from tests.fakes.log_disk import Disk
from tests.fakes.log_frames import EVERYTHING, PRODUCE, produce_frame
from tests.fakes.mutation import mutate
from tests.fakes.record_batches import CODECS, NOW_MS, Record, batch, compress, encoded
from tests.oracles.apache_kafka import jars_or_skip
from tests.oracles.java_batches import JavaBatches, Verdict
from tidemill_broker.log.topics import Topics
from tidemill_broker.protocol.errors import ErrorCode

SEED = int(os.environ.get("TIDEMILL_FUZZ_SEED", "20131231"))
BATCHES = int(os.environ.get("TIDEMILL_FUZZ_BATCHES", "4000"))

STRICTER = (
    "do not have consecutive offsets",  # readers would see an offset twice, or miss one
    "varint above 32 bits",  # Java drops the upper bits
    "invalid gzip header",  # reserved flags, which RFC 1952 tells decoders to reject
    "bytes follow the gzip member",  # librdkafka reads the first member, Java all that begin as members do
    "length below -1",  # null for Java and aiokafka; librdkafka cannot read on
    "bytes follow the lz4 frame",  # an empty frame: Java ignores whatever stands there
)


class Reader:
    """The broker's verdict on a batch."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        topics.create("t", partitions=1)

    def refusal(self, records: bytes) -> str | None:
        """Why it is refused; None where it is appended. A client must not try it again."""
        reply, _, _ = self._topics.produce(memoryview(produce_frame(records)), NOW_MS, *EVERYTHING)
        assert reply is not None
        (answer,) = read_response(PRODUCE, 12, reply).responses[0].partition_responses
        if answer.error_code is ErrorCode.none:
            return None
        assert answer.error_code is ErrorCode.invalid_record
        return str(answer.error_message)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Reader]:
    disk = Disk(tmp_path / "log")
    yield Reader(disk.open())
    for topics in disk.opened:
        topics.close()


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> JavaBatches:
    jars_or_skip()
    return JavaBatches(tmp_path_factory.mktemp("java"))


def as_aiokafka_reads(records: bytes) -> str | None:
    """Number and digest of the records, in the form of the Java oracle; None where aiokafka fails."""
    digest = hashlib.sha256()
    count = 0

    def add(field: bytes | None) -> None:
        digest.update(b"null" if field is None else f"{len(field)}:".encode() + field)

    try:
        found = MemoryRecords(records).next_batch()
        assert found is not None
        for record in found:
            digest.update(f"{record.offset} {record.timestamp};".encode())
            add(record.key)
            add(record.value)
            for name, value in record.headers:
                add(name.encode())
                add(value)
            count += 1
    except (
        CorruptRecordException,
        cramjam.DecompressionError,
        EOFError,
        OSError,
        UnicodeDecodeError,
        struct.error,
        zlib.error,
    ):
        return None
    return f"{count}:{digest.hexdigest()}"


def header_names_are_text(records: bytes) -> bool:
    """Whether aiokafka can read the names; Kafka takes any bytes, and Java replaces what is not UTF-8."""
    try:
        found = MemoryRecords(records).next_batch()
        return found is None or all(True for _ in found)
    except UnicodeDecodeError:
        return False


def check(records: bytes, refusal: str | None, verdict: Verdict) -> None:
    if refusal is None:
        assert verdict.accepted, verdict.fault
        assert verdict.read is not None
        assert not header_names_are_text(records) or as_aiokafka_reads(records) == verdict.read
    elif verdict.accepted and verdict.read is not None and as_aiokafka_reads(records) == verdict.read:
        assert any(reason in refusal for reason in STRICTER), refusal


def mutated(generator: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.randrange(1, 3)):
        mutate(generator, changed)
    return bytes(changed)


def damaged(generator: random.Random, codec: str) -> bytes:
    records = [
        Record(
            value=generator.randbytes(generator.randrange(40)) * generator.randrange(1, 5),
            key=generator.choice((None, b"k")),
            delta_ms=generator.randrange(5),
            headers=[("h", b"v")] * generator.randrange(3),
        )
        for _ in range(generator.randrange(1, 5))
    ]
    whole = encoded(records)
    if generator.random() < 0.5:  # damage to what is compressed, or to what came of it
        return batch(records, codec=codec, payload=mutated(generator, compress(codec, whole)))
    return batch(records, codec=codec, payload=compress(codec, mutated(generator, whole)))


def test_of_damaged_batches_those_are_taken_that_every_client_can_read(
    broker: Reader, kafka: JavaBatches
) -> None:
    """`TIDEMILL_FUZZ_SEED` and `TIDEMILL_FUZZ_BATCHES` choose others."""
    generator = random.Random(SEED)
    batches = [(codec, damaged(generator, codec)) for codec in CODECS for _ in range(BATCHES // len(CODECS))]
    verdicts = kafka.validate([records for _, records in batches])
    taken: Counter[str] = Counter()
    for (codec, records), verdict in zip(batches, verdicts, strict=True):
        refusal = broker.refusal(records)
        check(records, refusal, verdict)
        taken[codec] += refusal is None
    assert all(taken[codec] for codec in CODECS)  # otherwise the damage hides what this test is about


TWO = [Record(value=b"first"), Record(value=b"second")]
WHOLE = encoded(TWO)
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0skip"
ZSTD_CHECKED = (
    bytes.fromhex("28b52ffd")
    + b"\x24"
    + bytes([len(WHOLE)])
    + b"%s" % ((len(WHOLE) << 3 | 1).to_bytes(3, "little") + WHOLE)
)


def split(codec: str) -> bytes:
    return compress(codec, WHOLE[:9]) + compress(codec, WHOLE[9:])


ODD: dict[str, tuple[str, bytes, bool]] = {
    "zstd with junk behind it": ("zstd", compress("zstd", WHOLE) + b"junk", False),
    "zstd with zeros behind it": ("zstd", compress("zstd", WHOLE) + bytes(8), False),
    "zstd with a wrong content checksum": ("zstd", ZSTD_CHECKED + b"\0\0\0\0", False),
    "zstd in two frames": ("zstd", split("zstd"), True),
    "zstd with an empty frame behind it": ("zstd", compress("zstd", WHOLE) + compress("zstd", b""), True),
    "zstd behind a frame to skip": ("zstd", SKIPPABLE + compress("zstd", WHOLE), True),
    "zstd, cut": ("zstd", compress("zstd", WHOLE)[:-1], False),
    "records behind the last of them in a second zstd frame": (
        "zstd",
        compress("zstd", WHOLE) + compress("zstd", WHOLE),
        False,
    ),
    "gzip in two members": ("gzip", split("gzip"), False),
    "gzip behind an empty member": ("gzip", compress("gzip", b"") + compress("gzip", WHOLE), False),
    "gzip with junk behind it": ("gzip", compress("gzip", WHOLE) + b"junk", False),
    "gzip with zeros behind it": ("gzip", compress("gzip", WHOLE) + bytes(4), False),
    "lz4 in two frames": ("lz4", split("lz4"), False),
    "lz4 with a frame behind it": ("lz4", compress("lz4", WHOLE) + compress("lz4", b""), False),
    "lz4 with junk behind it": ("lz4", compress("lz4", WHOLE) + b"junk", False),
    "lz4 without its end mark": ("lz4", compress("lz4", WHOLE)[:-4], False),
    "snappy in one bare block": ("snappy", bytes(cramjam.snappy.compress_raw(WHOLE)), True),
    "snappy-java's format twice": ("snappy", split("snappy"), False),
    "snappy-java's format with part of a length behind it": (
        "snappy",
        compress("snappy", WHOLE) + b"\0",
        False,
    ),
    "snappy-java's format in version 2": (
        "snappy",
        compress("snappy", WHOLE).replace(b"\0\0\0\1\0\0\0\1", b"\0\0\0\2\0\0\0\1", 1),
        False,
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_payload_is_taken_exactly_if_every_client_can_read_it(
    broker: Reader, kafka: JavaBatches, name: str
) -> None:
    codec, payload, readable = ODD[name]
    records = batch(TWO, codec=codec, payload=payload)
    refusal = broker.refusal(records)
    (verdict,) = kafka.validate([records])

    assert (refusal is None) is readable
    check(records, refusal, verdict)


def test_what_stands_behind_the_first_frame_counts_towards_the_limit(broker: Reader) -> None:
    """98 KB of `zstd(record) + 3 x zstd(1 GB of zeros)` passed the bound once."""
    zeros = cramjam.zstd.Compressor()
    for _ in range(64):
        zeros.compress(bytes(8 << 20))
    bomb = compress("zstd", WHOLE) + bytes(zeros.finish())

    assert len(bomb) < 1 << 20
    assert "bytes inflated" in str(broker.refusal(batch(TWO, codec="zstd", payload=bomb)))
