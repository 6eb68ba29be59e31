"""The broker beside a warm Apache Kafka: alternating, several passes, memory touched before every step.

The client is confluent-kafka; where its Python objects would be what is measured, the same librdkafka is
called by `librdkafka.BatchProducer`. CPU is the broker's own, user and system.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.benchmarks.librdkafka import BatchProducer
from tests.benchmarks.report import Row
from tests.harness.tidemill_broker import TidemillBroker
from tests.oracles.apache_kafka import LEAN_FLAGS, PEER_FLAGS, VERSION, ApacheKafka

PEER = f"Apache Kafka {VERSION}"
RECORD_BYTES = 1024
MB = 1_000_000
HALF_GIB_RECORDS = 524_288
PASSES = 5
WARM_UP_RECORDS = 1_500_000
PRODUCER = {
    "acks": "all",
    "linger.ms": "5",
    "batch.size": "1000000",
    "batch.num.messages": "10000",
    "log_level": "3",
}
QUEUE = {"queue.buffering.max.messages": "1000000", "queue.buffering.max.kbytes": "1048576"}
SMALL = {
    "acks": "all",
    "linger.ms": "0",
    "batch.num.messages": "1",
    "max.in.flight": "1000",
    "log_level": "3",
}

Broker = TidemillBroker | ApacheKafka
Figures = dict[str, float]


class Moved(NamedTuple):
    """Records moved: MB a second, and CPU seconds per 512 MiB of the broker and of the client."""

    rate: float
    cpu_s: float
    client_cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much each step does; the quick run only shows that it works."""

    records: int = HALF_GIB_RECORDS // 2  # short enough that touched pages are still there at its end
    flushed_records: int = 150_000
    small_requests: int = 60_000
    latencies: int = 3_000
    touched_mib: int = 700


QUICK = Load(records=20_000, flushed_records=5_000, small_requests=2_000, latencies=100, touched_mib=1)


@dataclass(slots=True)
class Bench:
    """One broker under load: each step makes a topic, uses it, and deletes it.

    `client` is what its clients must set to get in; nothing for the plaintext listener.
    """

    broker: Broker
    load: Load
    client: Mapping[str, str] = field(default_factory=dict)
    figures: dict[str, list[float]] = field(default_factory=dict)
    topics: int = 0

    @property
    def door(self) -> dict[str, Any]:
        return {"bootstrap.servers": self.broker.bootstrap_servers, **self.client}

    def note(self, figures: Figures) -> None:
        for name, figure in figures.items():
            self.figures.setdefault(name, []).append(figure)

    @contextmanager
    def topic(self, partitions: int = 1, **config: str) -> Iterator[str]:
        admin = AdminClient(self.door)
        self.topics += 1
        name = f"bench-{self.topics}"
        named = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=named)
        admin.create_topics([new])[name].result(30)
        try:
            yield name
        finally:
            admin.delete_topics([name])[name].result(30)

    def produce(self, topic: str, records: int, **config: str) -> Moved:
        settings = {**self.door, **PRODUCER, **QUEUE}
        settings |= {key.replace("_", "."): value for key, value in config.items()}
        with BatchProducer(topic, os.urandom(RECORD_BYTES), settings) as producer:
            producer.produce(1)
            self.touch()
            with self.measured(records) as taken:
                producer.produce(records)
        return taken[0]

    @contextmanager
    def measured(self, records: int) -> Iterator[list[Moved]]:
        """Measure what moves so many records; the list holds it afterwards."""
        taken: list[Moved] = []
        cpu_s, client_cpu_s, started_s = self.cpu_s(), time.process_time(), time.perf_counter()
        yield taken
        seconds = time.perf_counter() - started_s
        spent_s = self.cpu_s() - cpu_s, time.process_time() - client_cpu_s
        per_half_gib = HALF_GIB_RECORDS / records
        taken.append(Moved(records * RECORD_BYTES / MB / seconds, *(each * per_half_gib for each in spent_s)))

    def touch(self) -> None:
        """Make the pages that the step will fill present: a virtual machine may have given them back."""
        file = self.broker.data_dir / "touched"
        block = bytes(1 << 20)
        with file.open("wb", buffering=0) as stream:
            for _ in range(self.load.touched_mib):
                stream.write(block)
        file.unlink()

    def cpu_s(self) -> float:
        # Linux: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED); to the nanosecond, where /proc counts ticks.
        return time.clock_gettime((~self.broker.pid << 3) | 2)

    def rss_mib(self) -> float:
        pages = int(Path(f"/proc/{self.broker.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def plain(bench: Bench) -> Figures:
    """Produce, then read back what was produced."""
    with bench.topic() as topic:
        produced = bench.produce(topic, bench.load.records)
        fetched = fetch(bench, topic, bench.load.records)
    return {
        "produce": produced.rate,
        "produce cpu": produced.cpu_s,
        "fetch": fetched.rate,
        "fetch cpu": fetched.cpu_s,
    }


def fetch(bench: Bench, topic: str, records: int) -> Moved:
    consumer = Consumer(
        {
            **bench.door,
            "group.id": "bench",
            "enable.auto.commit": False,
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 1_048_576,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    consumed = len(consumer.consume(1, timeout=30))
    with bench.measured(records) as taken:
        while consumed < records:
            consumed += len(consumer.consume(min(10_000, records - consumed), timeout=30))
    consumer.close()
    return taken[0]


def flushed(bench: Bench) -> Figures:
    with bench.topic(flush_messages="1") as topic:
        produced = bench.produce(topic, bench.load.flushed_records)
    return {"flushed": produced.rate, "flushed cpu": produced.cpu_s}


def idempotent(bench: Bench) -> Figures:
    with bench.topic(4) as topic:
        produced = bench.produce(topic, bench.load.records, enable_idempotence="true")
    return {"idempotent": produced.rate, "idempotent cpu": produced.cpu_s}


def small(bench: Bench) -> Figures:
    """One record of 100 bytes a request, many on the way."""
    with bench.topic() as topic:
        settings = {**bench.door, **SMALL, **QUEUE}
        with BatchProducer(topic, bytes(100), settings) as producer:
            producer.produce(1000)
            started = time.perf_counter()
            producer.produce(bench.load.small_requests)
            return {"small": bench.load.small_requests / (time.perf_counter() - started)}


def acks(bench: Bench) -> Figures:
    """From `produce` to the delivery report, one record at a time."""
    with bench.topic() as topic:
        producer = Producer({**bench.door, "acks": "all", "linger.ms": 0})

        def once() -> None:
            delivered: list[Any] = []
            producer.produce(topic, bytes(100), on_delivery=lambda error, _: delivered.append(error))
            while not delivered:
                producer.poll(1)

        return percentiles("ack", once, bench.load.latencies)


def end_to_end(bench: Bench) -> Figures:
    """From `produce` to the consumer's `poll`, one record at a time."""
    with bench.topic() as topic:
        producer = Producer({**bench.door, "acks": "all", "linger.ms": 0})
        consumer = Consumer({**bench.door, "group.id": "bench"})
        consumer.assign([TopicPartition(topic, 0, 0)])

        def once() -> None:
            producer.produce(topic, bytes(100))
            message = None
            while message is None:
                message = consumer.poll(1)

        figures = percentiles("end to end", once, bench.load.latencies)
        producer.flush(10)
        consumer.close()
        return figures


def percentiles(name: str, once: Callable[[], None], count: int) -> Figures:
    for _ in range(count // 10):
        once()
    taken_ms = []
    for _ in range(count):
        started = time.perf_counter_ns()
        once()
        taken_ms.append((time.perf_counter_ns() - started) / 1e6)
    cuts = statistics.quantiles(taken_ms, n=100)
    return {f"{name} p50": cuts[49], f"{name} p99": cuts[98]}


STEPS: tuple[Callable[[Bench], Figures], ...] = (plain, flushed, idempotent, small, acks, end_to_end)


def run(*, quick: bool) -> list[Row]:
    """Every figure; the quick run takes our broker alone."""
    folder = Path(tempfile.mkdtemp(prefix="tidemill-bench-"))
    try:
        return _rows(*(_quick(folder) if quick else _both(folder)))
    finally:
        shutil.rmtree(folder)


def _quick(folder: Path) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    bench = Bench(TidemillBroker(data_dir=folder / "tidemill").start(), QUICK)
    try:
        bench.note({"ready": bench.broker.ready_s})
        for step in STEPS:
            bench.note(step(bench))
        bench.note({"rss": bench.rss_mib()})
    finally:
        bench.broker.stop()
    return bench.figures, {}


def _both(folder: Path) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    ours = Bench(TidemillBroker(data_dir=folder / "tidemill").start(), Load())
    try:
        theirs = Bench(
            ApacheKafka(data_dir=folder / "kafka", jvm_flags=PEER_FLAGS, lean=False).start(), Load()
        )
        try:
            # A fresh JVM is two to three times slower than a warm one.
            with theirs.topic() as topic:
                theirs.produce(topic, WARM_UP_RECORDS)
            for step in STEPS[1:]:
                step(theirs)
            for _ in range(PASSES):
                for step in STEPS:
                    for bench in (ours, theirs):
                        bench.note(step(bench))
            for bench in (ours, theirs):
                bench.note({"rss": bench.rss_mib()})
        finally:
            theirs.broker.stop()
    finally:
        ours.broker.stop()
    for _ in range(PASSES):
        ours.note({"ready": _ready_s(TidemillBroker(data_dir=folder / "start"))})
    flags = _fastest_start(folder)
    for _ in range(PASSES):
        theirs.note({"ready": _ready_s(ApacheKafka(data_dir=folder / "lean", jvm_flags=flags))})
    return ours.figures, theirs.figures


def _ready_s(broker: Broker) -> float:
    broker.start()
    broker.stop()
    return broker.ready_s


def _fastest_start(folder: Path) -> tuple[str, ...]:
    """The JVM flags of Kafka's fastest start: lean, with an archive of its classes made by one run."""
    archive = folder / "kafka.jsa"
    _ready_s(
        ApacheKafka(data_dir=folder / "lean", jvm_flags=(*LEAN_FLAGS, f"-XX:ArchiveClassesAtExit={archive}"))
    )
    return (*LEAN_FLAGS, f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")


# (figure, what, unit, aim in words, ratio to the peer, higher is better)
AIMS: tuple[tuple[str, str, str, str, float | None, bool], ...] = (
    ("produce", "produce, 1 KiB, acks=all", "MB/s", "1.7 times", 1.7, True),
    ("produce cpu", "broker CPU for it", "s per 512 MiB", "at most 0.4", 0.4, False),
    ("flushed", "produce with fsync before the reply", "MB/s", "2 times", 2.0, True),
    ("flushed cpu", "broker CPU for it", "s per 512 MiB", "", None, False),
    ("idempotent", "produce, idempotent, 4 partitions", "MB/s", "", None, True),
    ("idempotent cpu", "broker CPU for it", "s per 512 MiB", "", None, False),
    ("fetch", "fetch", "MB/s", "at least its rate", 1.0, True),
    ("fetch cpu", "broker CPU for it", "s per 512 MiB", "", None, False),
    ("small", "produce, one small record a request", "requests/s", "3 times", 3.0, True),
    ("ack p50", "acknowledgement p50", "ms", "", None, False),
    ("ack p99", "acknowledgement p99", "ms", "below its own", 1.0, False),
    ("end to end p50", "produce to consume p50", "ms", "", None, False),
    ("end to end p99", "produce to consume p99", "ms", "at most half", 0.5, False),
    ("rss", "resident memory after the load", "MiB", "a fifth", 0.2, False),
    ("ready", "start to ready", "s", "half of its fastest", 0.5, False),
)


def _rows(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> list[Row]:
    rows = []
    for name, what, unit, aim, ratio, higher_is_better in AIMS:
        peer = theirs.get(name)
        rows.append(
            Row(
                what=what,
                unit=unit,
                ours=(min(ours[name]), max(ours[name])),
                peer=(min(peer), max(peer)) if peer else None,
                peer_name=PEER,
                aim=aim,
                aim_ratio=ratio,
                higher_is_better=higher_is_better,
            )
        )
    return rows
