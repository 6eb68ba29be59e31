"""The fake cluster keeps the contract that the real one keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.fakes import virtual_time
from tests.fakes.group_contract import CONTRACT, PARTITIONS, Cluster
from tests.fakes.kafka import FakeGroupClient, FakeKafka


class FakeCluster:
    def __init__(self) -> None:
        self.kafka = FakeKafka(partition_count=PARTITIONS)

    async def produce(self, partition: int, *values: bytes) -> None:
        self.kafka.produce(partition, *values)

    def client(self) -> FakeGroupClient:
        return self.kafka.client()


@pytest.mark.parametrize("contract", CONTRACT, ids=lambda contract: contract.__name__)
def test_the_fake_keeps_the_contract(contract: Callable[[Cluster], Awaitable[None]]) -> None:
    async def scenario() -> None:
        await contract(FakeCluster())

    virtual_time.run(scenario())
