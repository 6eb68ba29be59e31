"""What users do with a Kafka client, by three libraries: against our broker, and unchanged against Kafka."""

from __future__ import annotations

import time
import uuid

import pytest

from tests.conformance.conftest import PARTITIONS, KafkaLike
from tests.harness.processes import wait_until
from tests.oracles.group_members import Member, in_order, read_all
from tests.oracles.kafka_clients import CODECS, LIBRARIES, open_consumer, open_producer

EACH_LIBRARY = pytest.mark.parametrize("library", LIBRARIES)
KEYS = [f"tail-{number}".encode() for number in range(20)]


def produce(library: str, kafka: KafkaLike, topic: str, numbers: range, **options: object) -> None:
    """Numbers as values, keys in turn; all acknowledged."""
    producer = open_producer(library, kafka.bootstrap_servers, **options)  # type: ignore[arg-type]  # codec, idempotent
    for number in numbers:
        producer.send(topic, KEYS[number % len(KEYS)], str(number).encode())
    producer.flush()
    producer.close()


@EACH_LIBRARY
def test_records_come_back_with_every_codec(
    library: str, kafka_like: KafkaLike, topic: str, group: str
) -> None:
    codecs = CODECS[library]
    for index, codec in enumerate(codecs):
        produce(library, kafka_like, topic, range(index * 100, index * 100 + 100), codec=codec)
    received = read_all(library, kafka_like.bootstrap_servers, topic, len(codecs) * 100, group_id=group)
    assert sorted(int(record.value or b"") for record in received) == list(range(len(codecs) * 100))
    assert in_order(received)


@EACH_LIBRARY
def test_a_group_of_three_reads_every_record_once_and_in_order(
    library: str, kafka_like: KafkaLike, topic: str, group: str
) -> None:
    where = kafka_like.bootstrap_servers
    with (
        Member(library, where, [topic], group) as first,
        Member(library, where, [topic], group) as second,
        Member(library, where, [topic], group) as third,
    ):
        members = (first, second, third)
        wait_until(lambda: all(len(member.assigned) == 2 for member in members), what="two partitions each")
        produce(library, kafka_like, topic, range(1_000))
        wait_until(lambda: sum(len(member.received) for member in members) >= 1_000, what="every record")
    received = [record for member in members for record in member.received]
    assert sorted(int(record.value or b"") for record in received) == list(range(1_000))
    assert in_order(received)
    assert all({record.partition for record in member.received} for member in members)


@EACH_LIBRARY
def test_a_consumer_resumes_where_its_group_had_committed(
    library: str, kafka_like: KafkaLike, topic: str, group: str
) -> None:
    where = kafka_like.bootstrap_servers
    produce(library, kafka_like, topic, range(100))
    assert len(read_all(library, where, topic, 100, group_id=group)) == 100
    produce(library, kafka_like, topic, range(100, 110))
    again = read_all(library, where, topic, 10, group_id=group)
    assert sorted(int(record.value or b"") for record in again) == list(range(100, 110))


@EACH_LIBRARY
def test_an_offset_is_found_by_time(library: str, kafka_like: KafkaLike, topic: str) -> None:
    start_ms = int(time.time() * 1000) - 1_000_000
    producer = open_producer(library, kafka_like.bootstrap_servers)
    for number in range(10):
        producer.send(topic, b"k", str(number).encode(), partition=0, timestamp_ms=start_ms + number * 1000)
    producer.flush()
    producer.close()
    consumer = open_consumer(library, kafka_like.bootstrap_servers, [topic], None)
    try:
        assert consumer.offset_for_time(topic, 0, start_ms) == 0
        assert consumer.offset_for_time(topic, 0, start_ms + 4_001) == 5
        assert consumer.offset_for_time(topic, 0, start_ms + 9_000) == 9
        assert consumer.offset_for_time(topic, 0, start_ms + 9_001) is None
    finally:
        consumer.close()


@EACH_LIBRARY
def test_an_idempotent_producer_writes_each_record_once(
    library: str, kafka_like: KafkaLike, topic: str, group: str
) -> None:
    produce(library, kafka_like, topic, range(2_000), idempotent=True)
    received = read_all(library, kafka_like.bootstrap_servers, topic, 2_000, group_id=group)
    assert sorted(int(record.value or b"") for record in received) == list(range(2_000))
    assert in_order(received)


@EACH_LIBRARY
def test_a_topic_is_made_by_writing_to_it(library: str, kafka_like: KafkaLike, group: str) -> None:
    """auto.create.topics.enable; clients retry until the topic has a leader."""
    name = f"auto-{uuid.uuid4().hex[:8]}"
    produce(library, kafka_like, name, range(10))
    assert len(read_all(library, kafka_like.bootstrap_servers, name, 10, group_id=group)) == 10


@EACH_LIBRARY
def test_keys_go_to_the_partitions_that_the_library_chooses(
    library: str, kafka_like: KafkaLike, topic: str, group: str
) -> None:
    """The client sees as many partitions as there are."""
    produce(library, kafka_like, topic, range(200))
    received = read_all(library, kafka_like.bootstrap_servers, topic, 200, group_id=group)
    places = {(record.key, record.partition) for record in received}
    assert len(places) == len(KEYS)
    assert {partition for _, partition in places} <= set(range(PARTITIONS))
    assert len({partition for _, partition in places}) > 1
