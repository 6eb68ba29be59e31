"""A fleet on a secured cluster, with secrets in moto's Secrets Manager; only the function is fake."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import uvloop
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported untyped

from tests.fakes.poller import ScriptedFunction, no_revision
from tidemill_poller.aws import AwsClients
from tidemill_poller.batch import ByteBudget
from tidemill_poller.fleet import Dependencies, Fleet, FunctionUpdates
from tidemill_poller.kafka_auth import ClientOptions, KafkaAccess
from tidemill_poller.mapping import Mapping as EventSourceMapping
from tidemill_poller.mapping import MskSource, SelfManagedSource, SourceAccess
from tidemill_poller.reporting import Telemetry
from tidemill_poller.reporting.metrics import Metrics
from tidemill_poller.reporting.status import StatusBoard
from tidemill_poller.reporting.tracing import NO_TRACING
from tidemill_poller.settings import Settings
from tidemill_poller.source import GroupClient, KafkaGroupClient
from tidemill_poller.store import MappingStore

WITHIN_S = 20.0


class Secrets:
    """Secrets Manager, by name."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = boto3.client(
            "secretsmanager",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.arns: dict[str, str] = {}

    def put(self, name: str, **content: str) -> str:
        """Make the secret, or give it a new version; its ARN."""
        text = json.dumps(content)
        if name in self.arns:
            self._client.put_secret_value(SecretId=name, SecretString=text)
        else:
            self.arns[name] = self._client.create_secret(Name=name, SecretString=text)["ARN"]
        return self.arns[name]


class SecureWorld:
    """One fleet, its mappings, and the topics that they read; the test itself enters by `plaintext`."""

    def __init__(
        self, plaintext: str, directory: Path, *, shown: list[str], ca_file: Path | None = None
    ) -> None:
        self.function = ScriptedFunction()
        self.entered: list[str] = []  # the servers that each poller was given
        self.shown = shown  # gets all of a mapping, whenever one has become what a test waited for
        self.board, self.metrics = StatusBoard(), Metrics()
        self.store = MappingStore(directory)
        self.settings = Settings(
            data_dir=directory,
            drain_timeout_s=5.0,
            retry_backoff_base_s=0.1,
            retry_backoff_max_s=0.3,
            secret_refresh_s=0.2,
            ca_file=ca_file,
        )
        self._admin = AdminClient({"bootstrap.servers": plaintext})
        self._producer = Producer({"bootstrap.servers": plaintext, "linger.ms": 0})

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """Run the fleet, on the poller's own event loop, until the scenario ends."""

        async def main() -> None:
            fleet = Fleet(self._dependencies())
            task = asyncio.ensure_future(fleet.run())
            try:
                await scenario()
            finally:
                fleet.stop()
                await task

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
        self.store.close()

    def _dependencies(self) -> Dependencies:
        return Dependencies(
            store=self.store,
            settings=self.settings,
            invoker=self.function,
            function_updates=FunctionUpdates(no_revision, interval_s=0),
            open_destination=lambda _: None,  # type: ignore[arg-type, return-value]  # no mapping has one
            access=KafkaAccess(
                AwsClients(boto3.Session(region_name="us-east-1")), ca_file=self.settings.ca_file
            ),
            open_client=self._client,
            telemetry=Telemetry(tracing=NO_TRACING, metrics=self.metrics, board=self.board, now_ms=_now_ms),
            budget=ByteBudget(1 << 30),
            now_ms=_now_ms,
            random=random.random,
        )

    def _client(self, options: ClientOptions, mapping: EventSourceMapping, number: int) -> GroupClient:
        self.entered.append(options.bootstrap_servers)
        return KafkaGroupClient(
            options,
            topic=mapping.topic,
            group=mapping.consumer_group_id,
            client_id=f"{mapping.uuid}-{number}",
            isolation_level="read_uncommitted",
            drain_timeout_s=self.settings.drain_timeout_s,
            budget=ByteBudget(64 << 20),
        )

    def add(
        self,
        source: MskSource | SelfManagedSource,
        access: Mapping[str, str],
        *,
        allow: Callable[[str], None] = lambda _: None,
    ) -> EventSourceMapping:
        """Store a mapping for a new topic with one partition; `allow` may let somebody read it."""
        name = str(uuid.uuid4())
        for future in self._admin.create_topics([NewTopic(name, 1, 1)]).values():
            future.result(10)
        allow(name)
        mapping = EventSourceMapping(
            uuid=name,
            function_arn="arn:aws:lambda:us-east-1:123456789012:function:f",
            source=source,
            topic=name,
            consumer_group_id=name,
            batching_window_s=0,
            access=tuple(SourceAccess(type=kind, uri=uri) for kind, uri in access.items()),
        )
        self.store.create(mapping)
        return mapping

    async def produce(self, mapping: EventSourceMapping, count: int = 1) -> None:
        for _ in range(count):
            self._producer.produce(mapping.topic, b"v", partition=0)
        left = await asyncio.to_thread(self._producer.flush, 10)
        assert left == 0, "the broker did not take every record"

    def stored(self, mapping: EventSourceMapping) -> EventSourceMapping:
        found = self.store.get(mapping.uuid)
        assert found is not None
        return found

    def result(self, mapping: EventSourceMapping) -> str:
        return self.stored(mapping).last_processing_result

    def reason(self, mapping: EventSourceMapping) -> str:
        return self.board.mapping(mapping.uuid).pollers[0].reason

    def seen(self, mapping: EventSourceMapping) -> list[int]:
        """Offsets that the function was given, in order."""
        calls = [call for call in self.function.calls if call.partition == f"{mapping.topic}-0"]
        return [offset for call in calls for offset in call.offsets]

    async def becomes(self, mapping: EventSourceMapping, result: str) -> None:
        await until(lambda: self.result(mapping) == result, lambda: self.told(mapping))
        self.shown.append(repr(self.told(mapping)))

    async def delivers(self, mapping: EventSourceMapping, upto: int) -> None:
        """Every offset below `upto` has reached the function."""
        await until(lambda: len(self.seen(mapping)) >= upto, lambda: self.told(mapping))

    async def commits(self, mapping: EventSourceMapping, upto: int) -> None:
        """The group has said so: who loses its rights before that is given records again."""
        await until(lambda: self._committed(mapping) == upto, lambda: self.told(mapping))

    def _committed(self, mapping: EventSourceMapping) -> int:
        group, place = mapping.consumer_group_id, TopicPartition(mapping.topic, 0)
        asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [place])])
        found: int = asked[group].result(10).topic_partitions[0].offset
        return found

    def told(self, mapping: EventSourceMapping) -> dict[str, Any]:
        """Everything that is shown of a mapping."""
        return {"stored": self.stored(mapping), "status": self.board.as_json(mapping.uuid)}


async def until(condition: Callable[[], bool], told: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s, told()
        await asyncio.sleep(0.01)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
