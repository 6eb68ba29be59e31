"""The poller as one process beside a broker, with a function that does nothing behind plain HTTP.

Records a second: a backlog is produced first, then a mapping is created, and the clock runs from the first
invocation to the last record. Latency: from the producer's send to the handler, one record at a time, without
a window.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported untyped

from tests.benchmarks.null_lambda import NullLambdaProcess
from tests.benchmarks.report import Row
from tests.harness.tidemill_broker import TidemillBroker
from tests.oracles.apache_kafka import ApacheKafka
from tidemill_poller.mapping import Mapping, SelfManagedSource, State
from tidemill_poller.store import MappingStore

_ROOT = Path(__file__).resolve().parents[2]
_PARTITIONS = 8
_VALUE = b"x" * 200
_FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:null"


class _Broker(Protocol):
    @property
    def bootstrap_servers(self) -> str: ...


class PollerProcess:
    """The poller on a directory, pointed at one function server; the functions are taken on trust."""

    def __init__(self, directory: Path, lambda_url: str) -> None:
        ready = directory / "poller.json"
        ready.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_LAMBDA": lambda_url,
            "TIDEMILL_POLLER_PARITY_REQUIRE_SOURCE_ACCESS": "false",
        }
        profile = os.environ.get("TIDEMILL_PROFILE")
        profiler = ["-m", "cProfile", "-o", profile] if profile else []
        program = [*profiler, "-m", "tidemill_poller"]
        self.log = directory / "poller.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, *program, "--port", "0", "--data-dir", str(directory / "poller")),
                    *("--ready-file", str(ready)),
                ],
                env=environment,
                cwd=_ROOT,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while not ready.exists():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, "the poller did not start"
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{json.loads(ready.read_text())['port']}"

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=40)


def store_mapping(directory: Path, broker: _Broker, topic: str, *, batch_size: int, window_s: int) -> str:
    """Write a mapping into the store as the control API would; its function is not looked up."""
    uuid = f"00000000-0000-4000-8000-{batch_size:012d}"
    store = MappingStore(directory / "poller")
    store.create(
        Mapping(
            uuid=uuid,
            function_arn=_FUNCTION,
            source=SelfManagedSource(bootstrap_servers=(broker.bootstrap_servers,)),
            topic=topic,
            consumer_group_id=uuid,
            batch_size=batch_size,
            batching_window_s=window_s,
            state=State.CREATING,
        )
    )
    store.close()
    return uuid


def throughput(broker: _Broker, *, batch_size: int, records: int) -> float:
    """Records a second from the first invocation to the last record."""
    topic = f"rate-{batch_size}-{time.monotonic_ns()}"
    produce(broker, topic, records)
    with scratch() as directory:
        function = NullLambdaProcess(directory)
        store_mapping(directory, broker, topic, batch_size=batch_size, window_s=0)
        poller = PollerProcess(directory, function.url)
        try:
            return _rate(function, records)
        finally:
            poller.stop()
            function.stop()


def _rate(function: NullLambdaProcess, records: int) -> float:
    started_s, had = 0.0, 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        stats = function.stats()
        if stats["records"] and not started_s:
            started_s, had = time.monotonic(), stats["records"]
        if stats["records"] >= records:
            return float((records - had) / (stats["last_s"] - started_s))
        time.sleep(0.02)
    raise RuntimeError(f"only {function.stats()['records']} of {records} records arrived")


def latency(broker: _Broker, *, records: int) -> list[float]:
    """Milliseconds from send to handler, sorted."""
    topic = f"latency-{time.monotonic_ns()}"
    produce(broker, topic, 1, value=b"%020d" % time.monotonic_ns())
    with scratch() as directory:
        function = NullLambdaProcess(directory, timed=True)
        store_mapping(directory, broker, topic, batch_size=100, window_s=0)
        poller = PollerProcess(directory, function.url)
        try:
            wait_until(lambda: function.stats()["records"] >= 1)
            producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0})
            for _ in range(records):
                producer.produce(topic, b"%020d" % time.monotonic_ns(), key=b"k")
                producer.poll(0)
                time.sleep(0.005)
            producer.flush(10)
            wait_until(lambda: function.stats()["records"] >= records + 1)
            return sorted(ns / 1e6 for ns in function.stats()["ns"][1:])
        finally:
            poller.stop()
            function.stop()


def produce(broker: _Broker, topic: str, records: int, *, value: bytes = _VALUE, create: bool = True) -> None:
    """Spread records with keys over the partitions of a topic, a new one unless told otherwise."""
    if create:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        for future in admin.create_topics([NewTopic(topic, _PARTITIONS, 1)]).values():
            future.result(20)
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 20, "batch.size": 1 << 18}
    )
    for i in range(records):
        producer.produce(topic, value, key=b"key-%d" % (i % 1000), partition=i % _PARTITIONS)
        if i % 10_000 == 0:
            producer.poll(0)
        if len(producer) > 90_000:
            producer.flush()
    assert producer.flush(30) == 0


def wait_until(condition: Any, timeout_s: float = 30) -> None:
    """Ask every 20 ms until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that goes away."""
    directory = Path(tempfile.mkdtemp(prefix="tidemill-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def measure(broker: _Broker, source: str, *, quick: bool) -> list[Row]:
    """The rows of one source of records."""
    passes = 1 if quick else 3
    rows = []
    for batch_size, aim in ((100, 100_000), (1000, 150_000)):
        records = 300_000 if quick else 800_000
        rates = [throughput(broker, batch_size=batch_size, records=records) for _ in range(passes)]
        rows.append(
            Row(
                what=f"poller, BatchSize {batch_size}, from {source}",
                unit="records/s",
                ours=(min(rates), max(rates)),
                aim=f"{aim:,}",
                aim_value=aim,
            )
        )
    times = latency(broker, records=200 if quick else 1000)
    for name, quantile, aim_ms in (("p50", 50, 10.0), ("p99", 99, None)):
        value = statistics.quantiles(times, n=100)[quantile - 1]
        rows.append(
            Row(
                what=f"produce to handler {name}, no window, from {source}",
                unit="ms",
                ours=(value, value),
                aim="below 10" if aim_ms else "",
                aim_value=aim_ms,
                higher_is_better=False,
            )
        )
    return rows


def run(*, quick: bool) -> list[Row]:
    """Measure beside our broker, and beside Apache Kafka unless it must be quick."""
    with scratch() as directory:
        broker = TidemillBroker(data_dir=directory / "broker").start()
        try:
            rows = measure(broker, "Tidemill", quick=quick)
        finally:
            broker.stop()
        if not quick:
            kafka = ApacheKafka(data_dir=directory / "kafka").start()
            try:
                rows += measure(kafka, "Apache Kafka", quick=quick)
            finally:
                kafka.stop()
    return rows
