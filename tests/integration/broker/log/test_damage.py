"""A consumer gets every record outside of the damage, after a clean stop and after kill -9."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from tests.harness.processes import wait_until
from tests.harness.tidemill_broker import TidemillBroker

RECORDS = 120
VALUE_BYTES = 2000

pytestmark = pytest.mark.slow


def flip(file: Path, size: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(size // 2)
        byte = stream.read(1)[0]
        stream.seek(size // 2)
        stream.write(bytes([byte ^ 0x55]))


def cut(file: Path, size: int) -> None:
    with file.open("r+b") as stream:
        stream.truncate(size // 2)


def zero(file: Path, size: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(size // 3)
        stream.write(bytes(size // 3))


def read_all(broker: TidemillBroker, end: int) -> set[int]:
    """The numbers of all records that a consumer gets until it is at the end."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "reader",
            "log_level": 0,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "enable.auto.commit": False,
        }
    )
    found: set[int] = set()
    consumer.assign([TopicPartition("t", 0, 0)])

    def at_end() -> bool:
        for message in consumer.consume(100, timeout=0.5):
            error = message.error()
            if error is None:
                found.add(int((message.value() or b"").split()[0]))
            elif error.code() == KafkaError._PARTITION_EOF:
                return True
            elif error.code() != KafkaError.INVALID_MSG:
                raise KafkaException(error)
        return False

    try:
        wait_until(at_end, timeout_s=40, what="the consumer to be at the end")
    finally:
        consumer.close()
    assert max(found) < end
    return found


@pytest.mark.parametrize("harm", [flip, cut, zero])
@pytest.mark.parametrize("stop", [TidemillBroker.stop, TidemillBroker.kill])
def test_damage_of_any_segment_costs_what_is_in_it(
    stop: Callable[[TidemillBroker], object], harm: Callable[[Path, int], None], tmp_path: Path
) -> None:
    broker = TidemillBroker(data_dir=tmp_path, settings={"log.segment.bytes": "60000"}).start()
    try:
        producer = Producer(
            {"bootstrap.servers": broker.bootstrap_servers, "log_level": 0, "batch.num.messages": 1}
        )
        for number in range(RECORDS):
            producer.produce("t", b"%d %s" % (number, b"x" * VALUE_BYTES), partition=0)
        assert producer.flush(40) == 0
        stop(broker)
        segments = sorted(tmp_path.rglob("t-0/*.log"))
        assert len(segments) >= 4
        for which in (0, len(segments) // 2):
            harm(segments[which], segments[which].stat().st_size)

        broker.start()
        found = read_all(broker, RECORDS)

        # A flipped byte costs one batch of each segment, the others half a segment at most.
        lost = RECORDS - len(found)
        assert 0 < lost <= (2 if harm is flip else RECORDS // len(segments) + 4), sorted(found)
        wait_until(lambda: broker.log.count("lost records partition=t-0") >= 2, what="both lines")
        assert all(str(segments[which]) in broker.log for which in (0, len(segments) // 2))
        # A file that was cut between two batches holds no damage to keep.
        assert len(list(tmp_path.rglob("t-0/*.damaged"))) == 2 or harm is cut
    finally:
        broker.stop()
