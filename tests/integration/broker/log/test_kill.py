"""A broker that is killed -9 in mid-stream keeps every acknowledged record, in order and once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.harness.tidemill_broker import TidemillBroker

PARTITIONS = 3
KILLS = 3
RECORDS = 30_000

pytestmark = pytest.mark.slow


class Stream:
    """A producer of numbered records over all partitions, which remembers what was acknowledged."""

    def __init__(self, broker: TidemillBroker) -> None:
        self.acknowledged: dict[int, dict[int, int]] = {index: {} for index in range(PARTITIONS)}
        self.sent = 0
        self._producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "enable.idempotence": True,
                "batch.num.messages": 100,
                "linger.ms": 1,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,
            }
        )

    def send(self, count: int) -> None:
        for _ in range(count):
            self._producer.produce(
                "t", b"%d" % self.sent, partition=self.sent % PARTITIONS, on_delivery=self._delivered
            )
            self.sent += 1
        self._producer.poll(0)

    def wait_for(self, acknowledged: int) -> None:
        deadline = time.monotonic() + 30
        while sum(map(len, self.acknowledged.values())) < acknowledged:
            assert time.monotonic() < deadline, "the producer got no further"
            self._producer.poll(0.01)

    def _delivered(self, error: Any, message: Any) -> None:
        assert error is None, error
        self.acknowledged[message.partition()][message.offset()] = int(message.value())


def read_all(broker: TidemillBroker, partition: int) -> list[int]:
    """Every record's number, by offset from 0."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "reader", "log_level": 0})
    try:
        consumer.assign([TopicPartition("t", partition, 0)])
        _, end = consumer.get_watermark_offsets(TopicPartition("t", partition), timeout=10)
        found: list[int] = []
        while len(found) < end:
            for message in consumer.consume(end - len(found), timeout=5):
                if message.error():
                    raise KafkaException(message.error())
                assert message.offset() == len(found)
                found.append(int(message.value() or b""))
        return found
    finally:
        consumer.close()


@pytest.mark.parametrize("flush", ["9223372036854775807", "1"])
def test_what_was_acknowledged_is_there_once_and_in_order_after_kills(tmp_path: Path, flush: str) -> None:
    settings = {
        "num.partitions": str(PARTITIONS),
        "log.segment.bytes": "200000",
        "log.flush.interval.messages": flush,
        "log.retention.check.interval.ms": "50",
    }
    broker = TidemillBroker(data_dir=tmp_path, settings=settings).start()
    try:
        stream = Stream(broker)
        for kill in range(KILLS):
            stream.send(RECORDS // KILLS)
            stream.wait_for(RECORDS // KILLS * kill + 1000)
            broker.kill()
            broker.start()
        stream.wait_for(RECORDS)
        for partition, acknowledged in stream.acknowledged.items():
            stored = read_all(broker, partition)
            assert stored == list(range(partition, RECORDS, PARTITIONS))
            assert all(stored[offset] == number for offset, number in acknowledged.items())
    finally:
        broker.stop()


def test_a_torn_tail_is_cut_with_a_line_and_the_broker_goes_on(tmp_path: Path) -> None:
    broker = TidemillBroker(data_dir=tmp_path).start()
    try:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        for number in range(100):
            producer.produce("t", b"%d" % number)
        assert producer.flush(10) == 0
        broker.kill()
        (log,) = tmp_path.rglob("t-0/00000000000000000000.log")
        with log.open("ab") as tail:
            tail.write(log.read_bytes()[:50])
        broker.start()
        assert "cut a torn tail partition=t-0 cut_bytes=50" in broker.log
        assert read_all(broker, 0) == list(range(100))
    finally:
        broker.stop()
