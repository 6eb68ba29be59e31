"""Fixtures of the end-to-end tests: whole programs, once per session, and a bench per test.

Tests kill and restart what they share: a stack must bear that. Topic, function and queue are each test's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.harness.processes import wait_until
from tests.harness.recording import SOURCE, Proof
from tests.harness.stack import Stack, running
from tests.harness.tidemill_broker import TidemillBroker
from tests.oracles.apache_kafka import ApacheKafka, jars_or_skip

# librdkafka's own mark for "the partitioner decides".
PARTITIONER = -1


@dataclass(kw_only=True)
class Bench:
    """One test's own topic, function and proof in a stack that it may share with others."""

    stack: Stack
    name: str
    proof: Proof
    partitions: int
    acknowledged: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    """(partition, offset) -> (key, value) of every record that the broker has acknowledged."""

    def __post_init__(self) -> None:
        servers: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.stack.kafka.bootstrap_servers
        }
        admin = AdminClient(servers)
        admin.create_topics([NewTopic(self.name, self.partitions, 1)])[self.name].result(20)
        self._producer = Producer(
            {**servers, "acks": "all", "enable.idempotence": True, "linger.ms": 1, "log_level": 0}
        )

    def produce(self, rows: list[tuple[str, str]], *, partition: int | None = None) -> None:
        """Hand (key, value) rows to the producer; `flush` waits for their acknowledgement."""
        where = PARTITIONER if partition is None else partition
        for key, value in rows:
            self._producer.produce(self.name, value, key, where, on_delivery=self._acknowledge)

    def flush(self) -> None:
        """Wait until all that was produced is acknowledged."""
        left = self._producer.flush(40)
        assert left == 0, f"{left} records are not acknowledged"

    def _acknowledge(self, error: object, message: Message) -> None:
        assert error is None, error
        partition, offset = message.partition(), message.offset()
        key, value = message.key(), message.value()
        assert partition is not None
        assert offset is not None
        assert key is not None
        assert value is not None
        self.acknowledged[partition, offset] = (bytes(key).decode(), bytes(value).decode())

    def create_function(self, **environment: str) -> str:
        return self.stack.create_function(
            self.name, SOURCE, {"PROOF_DIR": str(self.proof.directory), **environment}
        )

    def wait_until_done(self, expected: set[tuple[int, int]] | None = None, timeout_s: float = 60) -> None:
        """Wait until these (partition, offset), or all acknowledged ones, were processed."""
        wanted = set(self.acknowledged) if expected is None else expected

        def finished() -> bool:
            return wanted <= self.proof.offsets_done(self.name)

        try:
            wait_until(finished, timeout_s=timeout_s, what=f"{len(wanted)} records to be processed")
        except AssertionError as error:
            missing = sorted(wanted - self.proof.offsets_done(self.name))
            msg = f"{len(missing)} records are unprocessed, first {missing[:5]}\n{self.stack.logs()}"
            raise AssertionError(msg) from error

    def assert_order_held(self) -> None:
        """Records came in the order of their partition, and keys in theirs; repeats are allowed."""
        last_of_key: dict[str, int] = {}
        for partition in range(self.partitions):
            rows = self.proof.done(f"{self.name}-{partition}")
            first_seen = list(dict.fromkeys(offset for offset, _, _ in rows))
            assert first_seen == sorted(first_seen), f"partition {partition} was processed out of order"
            for _, key, value in dict.fromkeys(rows):
                number = int(value.split()[0])
                assert number > last_of_key.get(key, -1), f"key {key}: {value} came too late"
                last_of_key[key] = number


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Our broker and everything around it."""
    data_dir = tmp_path_factory.mktemp("stack")
    broker = TidemillBroker(data_dir=data_dir / "broker")
    broker.start()
    try:
        with running(data_dir, broker) as programs:
            yield programs
    finally:
        broker.kill()


@pytest.fixture(scope="session")
def apache_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real Apache Kafka and everything around it."""
    jars_or_skip()
    data_dir = tmp_path_factory.mktemp("apache")
    kafka = ApacheKafka(data_dir=data_dir / "kafka")
    kafka.start()
    try:
        with running(data_dir, kafka) as programs:
            yield programs
    finally:
        kafka.kill()


@pytest.fixture
def bench(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench on our broker."""
    yield _bench(stack, tmp_path, request)
    stack.delete_mappings()


@pytest.fixture
def apache_bench(apache_stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench on a real Apache Kafka."""
    yield _bench(apache_stack, tmp_path, request)
    apache_stack.delete_mappings()


@pytest.fixture(params=["tidemill", pytest.param("apache", marks=pytest.mark.kafka)])
def any_bench(request: pytest.FixtureRequest) -> Bench:
    """A bench on our broker, and one on a real Apache Kafka: the poller knows no difference."""
    bench: Bench = request.getfixturevalue("bench" if request.param == "tidemill" else "apache_bench")
    return bench


def _bench(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    name = request.node.originalname.removeprefix("test_")[:40]
    if hasattr(request.node, "callspec"):
        name = f"{name}-{request.node.callspec.id}"
    return Bench(stack=stack, name=name.replace("_", "-"), proof=Proof(tmp_path), partitions=3)
