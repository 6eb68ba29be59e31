"""What holds for every GroupClient: the fake in virtual time, and aiokafka on a real cluster.

Each contract is a coroutine over a `Cluster`; the test modules run them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import pytest

from tidemill_poller.offsets import CommitPoint
from tidemill_poller.source import GroupClient
from tidemill_poller.source.client import OffsetsOutOfRange

PARTITIONS = 3


class Cluster(Protocol):
    """One fresh topic of PARTITIONS partitions, and one fresh group."""

    async def produce(self, partition: int, *values: bytes) -> None: ...

    def client(self) -> GroupClient: ...


class RecordingListener:
    """Sets every position to the committed offset, or to the start, as a source does."""

    def __init__(self, client: GroupClient) -> None:
        self.client = client
        self.assigned: list[list[int]] = []
        self.revoked = 0
        self.before_revoked: Callable[[], Awaitable[None]] | None = None

    async def on_revoked(self) -> None:
        if self.before_revoked:
            await self.before_revoked()
        self.revoked += 1

    async def on_assigned(self, partitions: Collection[int]) -> None:
        points = await self.client.committed()
        for partition in partitions:
            self.client.seek(partition, points[partition].offset if partition in points else 0)
        self.assigned.append(sorted(partitions))


async def joined(cluster: Cluster) -> tuple[GroupClient, RecordingListener]:
    client = cluster.client()
    listener = RecordingListener(client)
    await client.start(listener)
    await becomes(lambda: bool(listener.assigned))
    return client, listener


async def polled(client: GroupClient, count: int, partitions: Collection[int]) -> dict[int, list[int]]:
    """Poll until so many records came; their offsets by partition."""
    offsets: dict[int, list[int]] = {}
    async with asyncio.timeout(20):
        while sum(map(len, offsets.values())) < count:
            for partition, records in (await client.poll(partitions, timeout_s=0.2)).items():
                offsets.setdefault(partition, []).extend(record.offset for record in records)
    return offsets


async def becomes(condition: Callable[[], bool], within_s: float = 40) -> None:
    """Look again and again: what happens in the client has no event to wait for."""
    deadline_s = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline_s, f"did not hold within {within_s} s"
        await asyncio.sleep(0.01)


async def a_first_member_gets_all_partitions_and_reads_from_where_it_seeks(cluster: Cluster) -> None:
    await cluster.produce(1, b"a", b"b", b"c")
    client, listener = await joined(cluster)
    assert listener.assigned == [[0, 1, 2]]
    assert listener.revoked == 0
    assert sorted(client.partitions()) == [0, 1, 2]
    assert await polled(client, 3, range(3)) == {1: [0, 1, 2]}
    client.seek(1, 1)
    assert await polled(client, 2, range(3)) == {1: [1, 2]}
    await client.stop()


async def a_partition_that_is_not_wanted_loses_nothing_by_waiting(cluster: Cluster) -> None:
    await cluster.produce(0, *(b"%d" % i for i in range(10)))
    await cluster.produce(1, *(b"%d" % i for i in range(10)))
    client, _ = await joined(cluster)
    assert await polled(client, 10, [1]) == {1: list(range(10))}
    await cluster.produce(1, b"more")
    assert await polled(client, 1, [1]) == {1: [10]}
    assert await polled(client, 10, [0]) == {0: list(range(10))}
    await client.stop()


async def what_was_committed_is_read_with_its_metadata(cluster: Cluster) -> None:
    client, _ = await joined(cluster)
    assert await client.committed() == {}
    await client.commit({0: CommitPoint(0, '{"tidemill":1}'), 2: CommitPoint(0)})
    assert await client.committed() == {0: CommitPoint(0, '{"tidemill":1}'), 2: CommitPoint(0, "")}
    await client.stop()
    again, _ = await joined(cluster)
    assert await again.committed() == {0: CommitPoint(0, '{"tidemill":1}'), 2: CommitPoint(0, "")}
    await again.stop()


async def the_longest_metadata_is_accepted(cluster: Cluster) -> None:
    client, _ = await joined(cluster)
    await client.commit({0: CommitPoint(0, "x" * 4096)})
    assert (await client.committed())[0].metadata == "x" * 4096
    await client.stop()


async def bounds_and_times_are_found(cluster: Cluster) -> None:
    await cluster.produce(0, b"a", b"b")
    client, _ = await joined(cluster)
    assert await client.bounds([0, 1]) == {0: (0, 2), 1: (0, 0)}
    assert await client.at_time([0, 1], 0) == {0: 0, 1: None}
    assert await client.at_time([0], 2**42) == {0: None}
    await client.stop()


async def a_position_that_the_log_does_not_have_is_told(cluster: Cluster) -> None:
    await cluster.produce(0, b"a")
    client, _ = await joined(cluster)
    client.seek(0, 1000)
    with pytest.raises(OffsetsOutOfRange) as raised:
        await polled(client, 1, [0])
    assert raised.value.positions == {0: 1000}
    client.seek(0, 0)
    assert await polled(client, 1, [0]) == {0: [0]}
    await client.stop()


async def a_second_member_is_assigned_after_the_first_was_revoked_and_could_commit(cluster: Cluster) -> None:
    first, listener = await joined(cluster)

    async def commit_last() -> None:
        await first.commit({p: CommitPoint(0, "last") for p in range(3)})

    listener.before_revoked = commit_last
    second, other = await joined(cluster)
    await becomes(lambda: len(listener.assigned) == 2)
    assert listener.revoked == 1
    assert sorted(listener.assigned[1] + other.assigned[-1]) == [0, 1, 2]
    points = await second.committed()
    assert {point.metadata for point in points.values()} == {"last"}
    await second.stop()
    await first.stop()


async def a_member_that_stops_leaves_at_once(cluster: Cluster) -> None:
    """dapr/components-contrib#3887: the others must not wait for a session to expire."""
    first, _ = await joined(cluster)
    second, listener = await joined(cluster)
    await first.stop()
    await becomes(lambda: listener.assigned[-1] == [0, 1, 2], within_s=8)
    await second.stop()


CONTRACT: tuple[Callable[[Cluster], Awaitable[None]], ...] = (
    a_first_member_gets_all_partitions_and_reads_from_where_it_seeks,
    a_partition_that_is_not_wanted_loses_nothing_by_waiting,
    what_was_committed_is_read_with_its_metadata,
    the_longest_metadata_is_accepted,
    bounds_and_times_are_found,
    a_position_that_the_log_does_not_have_is_told,
    a_second_member_is_assigned_after_the_first_was_revoked_and_could_commit,
    a_member_that_stops_leaves_at_once,
)
