"""A fresh topic and group on a real cluster, for contracts and whole sources."""

from __future__ import annotations

import asyncio
import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported untyped

from tidemill_poller.batch import ByteBudget
from tidemill_poller.kafka_auth import ClientOptions
from tidemill_poller.source import GroupClient, KafkaGroupClient


class RealCluster:
    """Cluster of the group contract, and the makings of a source."""

    def __init__(self, bootstrap_servers: str, *, partitions: int, compression: str = "none") -> None:
        self.bootstrap_servers = bootstrap_servers
        self.topic = f"t-{uuid.uuid4()}"
        self.group = f"g-{uuid.uuid4()}"
        admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        for future in admin.create_topics([NewTopic(self.topic, partitions, 1)]).values():
            future.result(20)
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "linger.ms": 50, "compression.type": compression}
        )

    async def produce(self, partition: int, *values: bytes) -> None:
        for value in values:
            self._producer.produce(self.topic, value, key=b"k", partition=partition)
        left = await asyncio.to_thread(self._producer.flush, 20)
        assert left == 0, "the broker did not take every record"

    def client(self, *, drain_timeout_s: float = 5.0) -> GroupClient:
        return KafkaGroupClient(
            ClientOptions(bootstrap_servers=self.bootstrap_servers),
            topic=self.topic,
            group=self.group,
            client_id="test",
            isolation_level="read_uncommitted",
            drain_timeout_s=drain_timeout_s,
            budget=ByteBudget(64 << 20),
        )
