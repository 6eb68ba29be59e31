"""Client libraries that others wrote, behind one face: aiokafka, kafka-python, confluent-kafka (librdkafka).

A conformance test is written once and runs with each of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import aiokafka
import confluent_kafka
import kafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor as AioRange
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor as AioRoundRobin
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor as AioSticky
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

LIBRARIES = ("aiokafka", "kafka-python", "confluent-kafka")
CODECS = {
    "aiokafka": ("none", "gzip", "snappy", "lz4", "zstd"),
    "kafka-python": ("none", "gzip"),  # the others need packages that are not installed
    "confluent-kafka": ("none", "gzip", "snappy", "lz4", "zstd"),
}
SESSION_MS = 6_000  # the shortest that a broker allows by default
HEARTBEAT_MS = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a consumer is to do."""

    bootstrap: str
    topics: Sequence[str]
    group_id: str | None
    assignor: str
    instance_id: str | None
    session_ms: int
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A record as a consumer got it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


class Producer(Protocol):
    """`send` queues, `flush` returns once all is acknowledged and raises if something was not."""

    def send(
        self, topic: str, key: bytes | None, value: bytes, *, partition: int = -1, timestamp_ms: int = 0
    ) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class Consumer(Protocol):
    """A group member, or with `group_id` None a lone reader. Used by one thread."""

    def poll(self, timeout_s: float) -> list[Received]: ...
    def assignment(self) -> frozenset[tuple[str, int]]: ...
    def commit(self) -> None: ...
    def offset_for_time(self, topic: str, partition: int, timestamp_ms: int) -> int | None: ...
    def close(self) -> None: ...


def open_producer(
    library: str,
    bootstrap: str,
    *,
    codec: str = "none",
    idempotent: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Producer:
    """A producer with acks=all; `options` are the library's own, e.g. of its security."""
    make: dict[str, Callable[[str, str, bool, Mapping[str, Any]], Producer]] = {
        "aiokafka": AioProducer,
        "kafka-python": PythonProducer,
        "confluent-kafka": ConfluentProducer,
    }
    return make[library](bootstrap, codec, idempotent, options or {})


def open_consumer(
    library: str,
    bootstrap: str,
    topics: Sequence[str],
    group_id: str | None,
    *,
    assignor: str = "range",
    instance_id: str | None = None,
    session_ms: int = SESSION_MS,
    options: Mapping[str, Any] | None = None,
) -> Consumer:
    """A consumer that reads from the earliest record and commits when told to."""
    wish = Wish(
        bootstrap=bootstrap,
        topics=topics,
        group_id=group_id,
        assignor=assignor,
        instance_id=instance_id,
        session_ms=session_ms,
        options=options or {},
    )
    make: dict[str, Callable[[Wish], Consumer]] = {
        "aiokafka": AioConsumer,
        "kafka-python": PythonConsumer,
        "confluent-kafka": ConfluentConsumer,
    }
    return make[library](wish)


# --- aiokafka: asyncio, in a loop of its own ---


class _Loop:
    """An event loop in a thread, for a library that is asynchronous."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 60) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class AioProducer:
    def __init__(
        self,
        bootstrap: str,
        codec: str,
        idempotent: bool,  # noqa: FBT001 - one of three alike
        options: Mapping[str, Any],
    ) -> None:
        self._loop = _Loop()
        self._sent: list[Any] = []
        self._options: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "acks": "all",
            "compression_type": None if codec == "none" else codec,
            "enable_idempotence": idempotent,
            "linger_ms": 5,
            "retry_backoff_ms": 50,
            **options,
        }
        self._producer = self._loop.run(self._start())

    async def _start(self) -> Any:
        producer = aiokafka.AIOKafkaProducer(**self._options)
        await producer.start()
        return producer

    def send(
        self, topic: str, key: bytes | None, value: bytes, *, partition: int = -1, timestamp_ms: int = 0
    ) -> None:
        where = {} if partition < 0 else {"partition": partition}
        when = timestamp_ms or None
        self._sent.append(
            self._loop.run(self._producer.send(topic, value, key=key, timestamp_ms=when, **where))
        )

    def flush(self) -> None:
        sent, self._sent = self._sent, []

        async def settle() -> None:
            await self._producer.flush()
            await asyncio.gather(*sent)

        self._loop.run(settle())

    def close(self) -> None:
        self._loop.run(self._producer.stop())
        self._loop.close()


class AioConsumer:
    def __init__(self, wish: Wish) -> None:
        assignors = {"range": AioRange, "roundrobin": AioRoundRobin, "sticky": AioSticky}
        self._loop = _Loop()
        self._options: dict[str, Any] = {
            "bootstrap_servers": wish.bootstrap,
            "group_id": wish.group_id,
            "group_instance_id": wish.instance_id,
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "partition_assignment_strategy": (assignors[wish.assignor],),
            "session_timeout_ms": wish.session_ms,
            "heartbeat_interval_ms": HEARTBEAT_MS,
            "fetch_max_wait_ms": 100,
            "retry_backoff_ms": 50,
            **wish.options,
        }
        self._consumer = self._loop.run(self._start(wish.topics))

    async def _start(self, topics: Sequence[str]) -> Any:
        consumer = aiokafka.AIOKafkaConsumer(*topics, **self._options)
        await consumer.start()
        return consumer

    def poll(self, timeout_s: float) -> list[Received]:
        batches = self._loop.run(self._consumer.getmany(timeout_ms=int(timeout_s * 1000)))
        return [_received(record, record.timestamp) for batch in batches.values() for record in batch]

    def assignment(self) -> frozenset[tuple[str, int]]:
        return frozenset((place.topic, place.partition) for place in self._consumer.assignment())

    def commit(self) -> None:
        self._loop.run(self._consumer.commit())

    def offset_for_time(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        place = aiokafka.TopicPartition(topic, partition)
        found = self._loop.run(self._consumer.offsets_for_times({place: timestamp_ms}))[place]
        return None if found is None else int(found.offset)

    def close(self) -> None:
        self._loop.run(self._consumer.stop())
        self._loop.close()


# --- kafka-python ---


class PythonProducer:
    def __init__(
        self,
        bootstrap: str,
        codec: str,
        idempotent: bool,  # noqa: FBT001 - one of three alike
        options: Mapping[str, Any],
    ) -> None:
        self._sent: list[Any] = []
        self._producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent,
            linger_ms=5,
            retry_backoff_ms=50,
            **options,
        )

    def send(
        self, topic: str, key: bytes | None, value: bytes, *, partition: int = -1, timestamp_ms: int = 0
    ) -> None:
        where = None if partition < 0 else partition
        when = timestamp_ms or None
        self._sent.append(
            self._producer.send(topic, value=value, key=key, partition=where, timestamp_ms=when)
        )

    def flush(self) -> None:
        self._producer.flush(60)
        for future in self._sent:
            future.get(60)
        self._sent = []

    def close(self) -> None:
        self._producer.close(10)


class PythonConsumer:
    def __init__(self, wish: Wish) -> None:
        assignors = {
            "range": RangePartitionAssignor,
            "roundrobin": RoundRobinPartitionAssignor,
            "sticky": StickyPartitionAssignor,
            "cooperative-sticky": CooperativeStickyAssignor,
        }
        self._consumer = kafka.KafkaConsumer(
            *wish.topics,
            bootstrap_servers=wish.bootstrap,
            group_id=wish.group_id,
            group_instance_id=wish.instance_id,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            partition_assignment_strategy=[assignors[wish.assignor]],
            session_timeout_ms=wish.session_ms,
            heartbeat_interval_ms=HEARTBEAT_MS,
            fetch_max_wait_ms=100,
            retry_backoff_ms=50,
            **wish.options,
        )
        # A leader that does not know its topics yet assigns nothing, joins again, and (3.0.12) may then hang
        # for ever, with Apache Kafka too: see FINDINGS.md. So let it know them before it joins.
        for topic in wish.topics:
            self._consumer.partitions_for_topic(topic)

    def poll(self, timeout_s: float) -> list[Received]:
        batches = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        return [_received(record, record.timestamp) for batch in batches.values() for record in batch]

    def assignment(self) -> frozenset[tuple[str, int]]:
        return frozenset((place.topic, place.partition) for place in self._consumer.assignment())

    def commit(self) -> None:
        self._consumer.commit()

    def offset_for_time(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        place = kafka.TopicPartition(topic, partition)
        found = self._consumer.offsets_for_times({place: timestamp_ms})[place]
        return None if found is None else int(found.offset)

    def close(self) -> None:
        self._consumer.close()


# --- confluent-kafka, which is librdkafka ---


class ConfluentProducer:
    def __init__(
        self,
        bootstrap: str,
        codec: str,
        idempotent: bool,  # noqa: FBT001 - one of three alike
        options: Mapping[str, Any],
    ) -> None:
        self._faults: list[str] = []
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "compression.type": codec,
                "enable.idempotence": idempotent,
                "linger.ms": 5,
                "retry.backoff.ms": 50,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
                **options,
            }
        )

    def send(
        self, topic: str, key: bytes | None, value: bytes, *, partition: int = -1, timestamp_ms: int = 0
    ) -> None:
        self._producer.produce(
            topic,
            key=key,
            value=value,
            partition=partition,
            timestamp=timestamp_ms,
            on_delivery=self._delivered,
        )
        self._producer.poll(0)

    def flush(self) -> None:
        left = self._producer.flush(60)
        assert left == 0, f"{left} records were never acknowledged"
        assert not self._faults, self._faults

    def close(self) -> None:
        self.flush()

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._faults.append(str(error))


class ConfluentConsumer:
    def __init__(self, wish: Wish) -> None:
        static = {} if wish.instance_id is None else {"group.instance.id": wish.instance_id}
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": wish.bootstrap,
                "group.id": wish.group_id or "unused",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "partition.assignment.strategy": wish.assignor,
                "session.timeout.ms": wish.session_ms,
                "heartbeat.interval.ms": HEARTBEAT_MS,
                "fetch.wait.max.ms": 100,
                "retry.backoff.ms": 50,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
                **static,
                **wish.options,
            }
        )
        if wish.group_id is not None:
            self._consumer.subscribe(list(wish.topics))

    def poll(self, timeout_s: float) -> list[Received]:
        records = []
        for message in self._consumer.consume(500, timeout_s):
            assert message.error() is None, message.error()
            records.append(
                Received(
                    topic=message.topic() or "",
                    partition=message.partition() or 0,
                    offset=message.offset() or 0,
                    key=message.key(),
                    value=message.value(),
                    timestamp_ms=message.timestamp()[1],
                )
            )
        return records

    def assignment(self) -> frozenset[tuple[str, int]]:
        return frozenset((place.topic, place.partition) for place in self._consumer.assignment())

    def commit(self) -> None:
        try:
            self._consumer.commit(asynchronous=False)
        except confluent_kafka.KafkaException as fault:
            if fault.args[0].code() != confluent_kafka.KafkaError._NO_OFFSET:
                raise

    def offset_for_time(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        (found,) = self._consumer.offsets_for_times(
            [confluent_kafka.TopicPartition(topic, partition, timestamp_ms)], 10
        )
        # librdkafka says OFFSET_END (-1) where there is no such record.
        return None if found.offset < 0 else int(found.offset)

    def close(self) -> None:
        self._consumer.close()


def _received(record: Any, timestamp_ms: int) -> Received:
    return Received(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        timestamp_ms=timestamp_ms,
    )
