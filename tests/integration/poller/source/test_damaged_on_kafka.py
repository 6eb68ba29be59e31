"""Logs that hold what cannot be read, a topic that is deleted: what a poller makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported untyped

from tests.fakes.group_contract import becomes
from tests.fakes.poller import RecordingDestination, ScriptedFunction
from tests.fakes.raw_kafka import RawKafka
from tests.fakes.real_cluster import RealCluster
from tests.fakes.record_batches import Record, batch, zigzag
from tests.harness.tidemill_broker import TidemillBroker
from tests.integration.poller.source.test_source_on_kafka import RunningSource, seen
from tidemill_poller.errors import SourceUnavailable

PRODUCE, METADATA = 0, 3


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TidemillBroker]:
    running = TidemillBroker(data_dir=tmp_path / "broker").start()
    yield running
    running.stop()


def produce(broker: TidemillBroker, topic: str, partition: int, data: bytes) -> None:
    """Produce bytes as they are."""
    client = RawKafka(broker.port)
    reply = client.ask(
        PRODUCE,
        7,
        acks=-1,
        timeout_ms=5000,
        topic_data=[{"name": topic, "partition_data": [{"index": partition, "records": data}]}],
    )
    client.close()
    assert reply.responses[0].partition_responses[0].error_code == 0


def damage(broker: TidemillBroker, topic: str, partition: int, find: bytes) -> None:
    """Change a byte of a record where it lies."""
    (segment,) = broker.data_dir.rglob(f"{topic}-{partition}/*.log")
    data = segment.read_bytes()
    at = data.index(find)
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(b"?")


async def test_a_damaged_batch_goes_to_the_destination_and_every_other_record_is_delivered(
    broker: TidemillBroker,
) -> None:
    cluster = RealCluster(broker.bootstrap_servers, partitions=3)
    for partition in range(3):
        for value in (b"first", b"damaged", b"last"):
            await cluster.produce(partition, value)
    damage(broker, cluster.topic, 1, b"damaged")
    function, destination = ScriptedFunction(), RecordingDestination()
    poller = RunningSource(cluster, function, destination=destination)
    await becomes(lambda: len(seen(function)) == 8 and len(destination.sent) == 1)
    await becomes(lambda: all(p.committed == 3 for p in poller.board.partitions.values()))
    assert destination.sent[0].condition == "BatchUnreadable"
    assert (destination.sent[0].partition_key, destination.offsets) == (f"{cluster.topic}-1", [(1, 1)])
    await poller.stop()


async def test_header_names_that_are_not_utf_8_are_delivered(broker: TidemillBroker) -> None:
    cluster = RealCluster(broker.bootstrap_servers, partitions=1)
    body = b"\0\0\0" + zigzag(-1) + zigzag(1) + b"v" + zigzag(1) + zigzag(2) + b"\xff\xfe" + zigzag(0)
    produce(broker, cluster.topic, 0, batch([Record()], payload=zigzag(len(body)) + body))
    await cluster.produce(0, b"next")
    function = ScriptedFunction()
    poller = RunningSource(cluster, function)
    await becomes(lambda: [offset for _, offset in seen(function)] == [0, 1])
    await poller.stop()


async def test_a_deleted_topic_does_not_come_back_by_the_poller(broker: TidemillBroker) -> None:
    cluster = RealCluster(broker.bootstrap_servers, partitions=1)
    poller = RunningSource(cluster, ScriptedFunction())
    await poller.joined.wait()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.delete_topics([cluster.topic])[cluster.topic].result(20)
    client = RawKafka(broker.port)
    await becomes(lambda: not poller.client.partitions())  # it has asked for the topic since
    reply = client.ask(METADATA, 5, topics=None, allow_auto_topic_creation=False)
    assert cluster.topic not in [topic.name for topic in reply.topics]
    client.close()
    poller.source.stop()
    with suppress(SourceUnavailable):
        await poller.task


async def test_a_topic_made_anew_and_refilled_has_another_id(broker: TidemillBroker) -> None:
    cluster = RealCluster(broker.bootstrap_servers, partitions=1)
    await cluster.produce(0, b"old")
    first = RunningSource(cluster, ScriptedFunction())
    await becomes(lambda: first.board.partitions[0].committed == 1 if first.board.partitions else False)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.delete_topics([cluster.topic])[cluster.topic].result(20)
    admin.create_topics([NewTopic(cluster.topic, 1, 1)])[cluster.topic].result(20)
    for n in range(3):
        await cluster.produce(0, b"new %d" % n)
    with pytest.raises(SourceUnavailable):
        async with asyncio.timeout(20):
            await first.task
    function = ScriptedFunction()
    second = RunningSource(cluster, function)
    await becomes(lambda: [offset for _, offset in seen(function)] == [0, 1, 2])
    await becomes(lambda: second.board.partitions[0].committed == 3)
    await second.stop()
