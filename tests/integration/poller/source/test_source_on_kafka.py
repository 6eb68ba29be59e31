"""The Kafka-facing part against real clusters: our own broker, and Apache Kafka."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.group_contract import CONTRACT, PARTITIONS, Cluster, RecordingListener, becomes
from tests.fakes.poller import (
    BROKEN,
    MAPPING,
    RecordingDestination,
    ScriptedFunction,
    lane_dependencies,
    poller_reporter,
    telemetry,
)
from tests.fakes.real_cluster import RealCluster
from tests.harness.tidemill_broker import TidemillBroker
from tidemill_poller.batch import ByteBudget
from tidemill_poller.errors import SourceUnavailable
from tidemill_poller.kafka_auth import ClientOptions
from tidemill_poller.mapping import StartingPosition
from tidemill_poller.reporting.status import MappingStatus, PollerStatus
from tidemill_poller.source import Source, SourceDependencies
from tidemill_poller.source.client import KafkaGroupClient


@pytest.mark.parametrize("contract", CONTRACT, ids=lambda contract: contract.__name__)
async def test_aiokafka_keeps_the_contract(
    bootstrap_servers: str, contract: Callable[[Cluster], Awaitable[None]]
) -> None:
    await contract(RealCluster(bootstrap_servers, partitions=PARTITIONS))


class RunningSource:
    """A source on a real cluster, in a task of its own."""

    def __init__(self, cluster: RealCluster, function: Any, **lanes: Any) -> None:
        self.status = PollerStatus(number=0)
        self.board = MappingStatus()
        self.telemetry = telemetry()
        self.joined = asyncio.Event()
        setup = SourceDependencies(
            topic=cluster.topic,
            starting_position=StartingPosition.TRIM_HORIZON,
            starting_timestamp_ms=None,
            commit_interval_s=0.1,
            drain_timeout_s=5.0,
            lanes=lane_dependencies(function, **lanes),
        )
        self.client = cluster.client()
        self.source = Source(
            setup,
            self.client,
            reporter=poller_reporter(self.telemetry, board=self.board, status=self.status),
            on_joined=self.joined.set,
        )
        self.task = asyncio.ensure_future(self.source.run())

    async def stop(self) -> None:
        self.source.stop()
        await self.task


def seen(function: ScriptedFunction) -> list[tuple[str, int]]:
    return [(call.partition, offset) for call in function.calls for offset in call.offsets]


async def test_a_second_poller_takes_over_partitions_without_a_duplicate(bootstrap_servers: str) -> None:
    cluster = RealCluster(bootstrap_servers, partitions=4)
    function = ScriptedFunction(takes_s=0.02)
    for partition in range(4):
        await cluster.produce(partition, *(b"%d" % i for i in range(60)))
    first = RunningSource(cluster, function, records=2)
    await becomes(lambda: len(function.calls) > 5)
    second = RunningSource(cluster, function, records=2)
    await becomes(lambda: len(seen(function)) >= 240)
    await first.stop()
    await second.stop()
    assert sorted(seen(function)) == sorted(
        (f"{cluster.topic}-{partition}", offset) for partition in range(4) for offset in range(60)
    )


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_records_arrive_as_they_were_sent(tidemill: str, codec: str) -> None:
    cluster = RealCluster(tidemill, partitions=1, compression=codec)
    await cluster.produce(0, *(b"a compressible value " * 10 for _ in range(200)))
    function = ScriptedFunction()
    source = RunningSource(cluster, function, records=200)
    await becomes(lambda: len(seen(function)) == 200)
    await source.stop()


async def test_tries_travel_in_the_commit_and_survive_a_restart(bootstrap_servers: str) -> None:
    cluster = RealCluster(bootstrap_servers, partitions=1)
    await cluster.produce(0, b"1", b"2")
    function, destination = ScriptedFunction(answer=lambda *_: BROKEN), RecordingDestination()
    while not destination.sent:
        calls = len(function.calls)
        source = RunningSource(
            cluster, function, destination=destination, retry_attempts=2, backoff_base_s=30.0
        )
        await becomes(lambda now=calls: len(function.calls) > now or bool(destination.sent))  # type: ignore[misc]  # mypy cannot see a lambda's default
        await source.stop()
    assert len(function.calls) == 3
    assert destination.sent[0].approximate_invoke_count == 3


async def test_a_function_slower_than_the_session_keeps_its_partitions(tidemill: str) -> None:
    """aiokafka#848, with a short session: heartbeats and polls go on while the function runs."""
    cluster = RealCluster(tidemill, partitions=2)
    await cluster.produce(0, b"1")
    function = ScriptedFunction(takes_s=12.0)
    source = RunningSource(cluster, function)
    await becomes(lambda: function.running == 1)
    await cluster.produce(1, b"2")
    await becomes(lambda: function.running == 2)
    await becomes(lambda: len(source.board.partitions) == 2 and source.board.partitions[0].committed == 1)
    await source.stop()
    counts = source.telemetry.metrics.of(MAPPING.uuid)
    assert counts["esm.rebalances"] == 1
    assert len(function.calls) == 2


async def test_a_broker_that_is_not_there_is_named_with_the_step_and_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = KafkaGroupClient(
        ClientOptions(bootstrap_servers=f"127.0.0.1:{port},no-such-host.invalid:9092"),
        topic="t1",
        group="g",
        client_id="c",
        isolation_level="read_uncommitted",
        drain_timeout_s=1.0,
        budget=ByteBudget(64 << 20),
    )
    with pytest.raises(SourceUnavailable) as raised:
        await client.start(RecordingListener(client))
    await client.stop()
    assert f"127.0.0.1:{port}: connection: ConnectionRefusedError" in str(raised.value)
    assert "no-such-host.invalid:9092: name lookup" in str(raised.value)


async def test_a_cluster_that_was_not_reached_is_not_said_to_lack_the_topic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first attempt fails; when its cause is looked for, the cluster is there again."""

    async def no_fault(_options: ClientOptions, _brokers: list[str]) -> None: ...

    monkeypatch.setattr("tidemill_poller.source.client.diagnose", no_fault)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = KafkaGroupClient(
        ClientOptions(bootstrap_servers=f"127.0.0.1:{port}"),
        topic="t1",
        group="g",
        client_id="c",
        isolation_level="read_uncommitted",
        drain_timeout_s=1.0,
        budget=ByteBudget(64 << 20),
    )
    with pytest.raises(SourceUnavailable, match=f"127.0.0.1:{port}: connecting: KafkaConnectionError"):
        await client.start(RecordingListener(client))
    await client.stop()


async def test_an_advertised_address_that_nobody_reaches_is_told_long_before_a_join_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill_poller.source.client._JOIN_LOOK_S", 0.3)
    broker = TidemillBroker(
        data_dir=tmp_path, settings={"advertised.listeners": "PLAINTEXT://no-such-host.invalid:9092"}
    ).start()
    client = KafkaGroupClient(
        ClientOptions(bootstrap_servers=broker.bootstrap_servers),
        topic="t1",
        group="g",
        client_id="c",
        isolation_level="read_uncommitted",
        drain_timeout_s=30.0,
        budget=ByteBudget(64 << 20),
    )
    with pytest.raises(SourceUnavailable) as raised:
        async with asyncio.timeout(10):
            await client.start(RecordingListener(client))
    await client.stop()
    broker.stop()
    assert str(raised.value).startswith(
        f"Kafka at {broker.bootstrap_servers} advertises no-such-host.invalid:9092: name lookup:"
    )
