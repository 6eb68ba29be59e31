"""The broker is killed -9 while clients work: what was acknowledged is there, once; offsets stay."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # documented there, made elsewhere

from tests.conformance.test_clients import produce
from tests.harness.processes import wait_until
from tests.harness.tidemill_broker import TidemillBroker
from tests.oracles.group_members import SHORT_SESSIONS, Member, in_order, read_all

pytestmark = pytest.mark.slow


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[TidemillBroker]:
    """A broker of the test's own, to be killed; small segments, so that a kill also meets a roll."""
    settings = SHORT_SESSIONS | {"log.segment.bytes": "1048576"}
    broker = TidemillBroker(data_dir=tmp_path, settings=settings).start()
    yield broker
    broker.stop()


def create(broker: TidemillBroker, partitions: int) -> str:
    name = f"kill-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    for made in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        made.result(20)
    return name


class Writer:
    """An idempotent producer with acks=all that never stops; knows what was acknowledged."""

    def __init__(self, broker: TidemillBroker, topic: str) -> None:
        self.acknowledged: list[int] = []
        self.sent = 0
        self._topic = topic
        self._stop = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "enable.idempotence": True,
                "linger.ms": 1,
                "retry.backoff.ms": 20,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert self._producer.flush(60) == 0

    def _run(self) -> None:
        while not self._stop.is_set():
            key = str(self.sent % 20).encode()
            self._producer.produce(
                self._topic, key=key, value=str(self.sent).encode().rjust(200, b"0"), on_delivery=self._done
            )
            self.sent += 1
            # While the broker is away no more than this waits in the client.
            full = self.sent - len(self.acknowledged) > 5_000
            self._producer.poll(0.01 if full else 0.001 if self.sent % 50 == 0 else 0)

    def _done(self, error: Any, message: Any) -> None:
        if error is None:
            self.acknowledged.append(int(message.value()))


def test_every_acknowledged_record_is_there_once_and_in_order(mortal: TidemillBroker) -> None:
    topic = create(mortal, 3)
    writer = Writer(mortal, topic)
    for _ in range(3):
        reached = len(writer.acknowledged) + 2_000
        wait_until(lambda reached=reached: len(writer.acknowledged) >= reached, what="progress")  # type: ignore[misc]  # mypy infers no types for a lambda's defaults
        mortal.kill()
        mortal.start()
    writer.finish()
    received = read_all("confluent-kafka", mortal.bootstrap_servers, topic, writer.sent, group_id=topic)
    assert sorted(int(record.value or b"") for record in received) == list(range(writer.sent))
    assert set(writer.acknowledged) == set(range(writer.sent))
    assert in_order(received)


def test_committed_offsets_survive_and_members_go_on(mortal: TidemillBroker) -> None:
    """The group is as it was: the member keeps its id and its partitions, without a rebalance."""
    topic = create(mortal, 6)
    produce("confluent-kafka", mortal, topic, range(100))
    # Not "rebootstrap": librdkafka's admin may wait for ever on the connection that it gave up (FINDINGS.md).
    recovery: dict[str, str | int | float] = {"metadata.recovery.strategy": "none", "log_level": 0}
    admin = AdminClient({"bootstrap.servers": mortal.bootstrap_servers, **recovery})

    def committed() -> dict[int, int]:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(topic)])[topic]
        places: list[TopicPartition] = asked.result(20).topic_partitions
        return {place.partition: place.offset for place in places}

    def members() -> list[str]:
        described = admin.describe_consumer_groups([topic])[topic].result(20)
        return [member.member_id for member in described.members]

    with Member("confluent-kafka", mortal.bootstrap_servers, [topic], topic) as member:
        wait_until(lambda: sum(committed().values()) == 100, what="every offset committed")
        before = committed(), members()
        mortal.kill()
        mortal.start()
        assert (committed(), members()) == before
        produce("confluent-kafka", mortal, topic, range(100, 200))
        wait_until(lambda: len(member.received) == 200, what="every record")
        assert members() == before[1]
    assert sorted(int(record.value or b"") for record in member.received) == list(range(200))
