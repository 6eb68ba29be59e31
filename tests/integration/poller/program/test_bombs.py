"""Batches that inflate to much, from a broker that takes them: what they cost the poller."""

from __future__ import annotations

import struct
import threading
import time
import urllib.request
from pathlib import Path

import cramjam
import pytest
import zstandard
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported untyped

from tests.benchmarks.poller import PollerProcess, store_mapping, wait_until
from tests.fakes.http_thread import serving
from tests.fakes.raw_kafka import RawKafka
from tests.fakes.record_batches import CODECS, Record, batch, compress, encoded
from tests.integration.poller.program.test_poller_program import HttpFunction
from tests.oracles.apache_kafka import ApacheKafka

PRODUCE = 0
BOMB_BYTES = 250 << 20
BOMBS = 8  # of each codec
WINDOW_BYTES = 128 << 20
RESTS = 40  # 160 MB: more than the window
BUDGET_BYTES = 256 << 20  # the default of fetch_budget_bytes
HOLD_UP_S = 0.25  # alone on the machine, 0.1 to 0.2
_CONFIG = {"max.message.bytes": str(32 << 20), "retention.ms": "-1"}


def snappy(payload: bytes) -> bytes:
    """In blocks of 32 KB, as snappy-java writes it."""
    blocks = (payload[at : at + 32768] for at in range(0, len(payload), 32768))
    packed = (bytes(cramjam.snappy.compress_raw(block)) for block in blocks)
    return (
        b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + b"".join(struct.pack(">i", len(p)) + p for p in packed)
    )


def wide_zstd(payload: bytes) -> bytes:
    """With a window of 128 MiB, the largest that Java's consumer accepts: each inflater holds as much."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    packing = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packing.compress(payload) + packing.flush()


_PACKED = {"snappy": snappy, "zstd-wide": wide_zstd}


def bomb(codec: str) -> bytes:
    """A batch of three records, the second of which is 250 MB of zeros."""
    records = [Record(value=b"before"), Record(value=bytes(BOMB_BYTES)), Record(value=b"after")]
    payload = encoded(records)
    packed = _PACKED[codec](payload) if codec in _PACKED else compress(codec, payload)
    return batch([Record()] * 3, codec=codec.partition("-")[0], payload=packed)


def slow_bomb() -> bytes:
    """Records of 4 MB, which an event takes one of: the inflater rests between them, with its window."""
    payload = encoded([Record(value=bytes(4 << 20))] * RESTS)
    return batch([Record()] * RESTS, codec="zstd", payload=wide_zstd(payload))


def create(kafka: ApacheKafka, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    wanted = NewTopic(topic, partitions, 1, config=_CONFIG)
    admin.create_topics([wanted])[topic].result(20)


def produce(kafka: ApacheKafka, topic: str, partition: int, data: bytes) -> None:
    client = RawKafka(kafka.port)
    reply = client.ask(
        PRODUCE,
        7,
        acks=-1,
        timeout_ms=20_000,
        topic_data=[{"name": topic, "partition_data": [{"index": partition, "records": data}]}],
    )
    client.close()
    assert reply.responses[0].partition_responses[0].error_code == 0


class Bystander(threading.Thread):
    """Asks the poller's API for its health all the time; `longest_s` is the longest answer."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self.ended = threading.Event()
        self._url = url

    def run(self) -> None:
        while not self.ended.wait(0.01):
            started_s = time.monotonic()
            with urllib.request.urlopen(f"{self._url}/_tidemill/health", timeout=60) as reply:
                reply.read()
            self.longest_s = max(self.longest_s, time.monotonic() - started_s)


def peak_bytes(poller: PollerProcess) -> int:
    """The most resident memory that the process ever had."""
    lines = Path(f"/proc/{poller.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.kafka
def test_bombs_of_every_codec_cost_a_bounded_memory_and_hold_nobody_up(
    tmp_path: Path, apache_kafka: ApacheKafka
) -> None:
    codecs = [*CODECS[1:], "zstd-wide"]
    create(apache_kafka, "bombs", len(codecs) * 2)
    create(apache_kafka, "healthy", 1)
    for number, codec in enumerate(codecs):
        data = bomb(codec)
        for at in range(BOMBS):
            produce(apache_kafka, "bombs", number * 2 + at % 2, data)
    function = HttpFunction()
    with serving(function.application) as url:
        store_mapping(tmp_path, apache_kafka, "bombs", batch_size=100, window_s=0)
        store_mapping(tmp_path, apache_kafka, "healthy", batch_size=10, window_s=0)
        poller = PollerProcess(tmp_path, url)
        before = peak_bytes(poller)
        bystander = Bystander(poller.url)
        bystander.start()
        producer = Producer({"bootstrap.servers": apache_kafka.bootstrap_servers})
        try:
            for n in range(40):
                producer.produce("healthy", b"%d" % n)
                producer.flush(5)
                wait_until(lambda: len(function.seen["healthy-0"]) > n)  # noqa: B023 - waited for here
            partitions = [f"bombs-{n}" for n in range(len(codecs) * 2)]
            wait_until(lambda: all(len(function.seen[p]) == BOMBS for p in partitions), 120)
        finally:
            bystander.ended.set()
            bystander.join()
            peak = peak_bytes(poller)
            poller.stop()
    assert peak - before < BUDGET_BYTES + WINDOW_BYTES
    assert bystander.longest_s < HOLD_UP_S
    assert poller.log.read_text().count("MaximumPayloadSizeExceeded") >= BOMBS * len(codecs)


@pytest.mark.kafka
def test_of_all_windows_of_128_mib_one_at_a_time_is_held(tmp_path: Path, apache_kafka: ApacheKafka) -> None:
    """Four of them at rest were half a gigabyte that nobody counted."""
    create(apache_kafka, "windows", 4)
    for partition in range(4):
        produce(apache_kafka, "windows", partition, slow_bomb())
    function = HttpFunction()
    with serving(function.application) as url:
        store_mapping(tmp_path, apache_kafka, "windows", batch_size=1, window_s=0)
        poller = PollerProcess(tmp_path, url)
        before = peak_bytes(poller)
        try:
            wait_until(lambda: function.distinct() == 4 * RESTS, 100)
        finally:
            peak = peak_bytes(poller)
            poller.stop()
    assert peak - before < BUDGET_BYTES + 2 * WINDOW_BYTES  # four of them are 512 MiB beside the records
