"""Owns the Kafka requests of the topic commands, by aiokafka. Imported only when such a command runs."""

import asyncio
import json
import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnknownTopicOrPartitionError,
    for_code,
)

from tidemill_cli.access import Options
from tidemill_cli.errors import UserError

_REQUEST_TIMEOUT_MS = 15_000
_TAIL_POLL_MS = 500
# DescribeConfigs' source of a value that was set on the topic itself (KIP-226).
_SET_ON_TOPIC = 1

Record = tuple[bytes | None, bytes]


class _LastError(logging.Handler):
    """Keeps why the last connection failed: aiokafka writes that to its log only."""

    error: object = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception that the line is about."""
        if isinstance(record.args, tuple) and record.args:
            self.error = record.args[-1]


_last = _LastError()


def _take_log(library: logging.Logger) -> None:
    """Keep a library's log to ourselves: its lines repeat what the exception says once."""
    library.setLevel(logging.WARNING)
    library.propagate = False
    library.addHandler(_last)


_take_log(logging.getLogger("aiokafka"))


async def create_topic(
    options: Options, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str]
) -> None:
    """Create one topic. Raises UserError in Kafka's words if it is rejected."""
    async with _admin(options) as admin:
        reply = await admin.create_topics(
            [NewTopic(name, partitions, replication_factor, topic_configs=dict(configs))]
        )
    for _, code, *message in reply.topic_errors:
        if code:
            error = for_code(code)
            raise UserError(f"{error.__name__}: {(message and message[0]) or error.description}")


async def list_topics(options: Options) -> list[str]:
    """Return the names, without Kafka's internal topics."""
    async with _admin(options) as admin:
        return sorted(name for name in await admin.list_topics() if not name.startswith("__"))


async def describe_topic(options: Options, name: str) -> dict[str, Any]:
    """Return partitions with leader, replicas and offsets, and the configuration set on the topic."""
    async with _admin(options) as admin:
        about = await _about(admin, name)
        [configs] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    numbers = sorted(partition["partition"] for partition in about["partitions"])
    starts, ends = await _offsets(options, [TopicPartition(name, number) for number in numbers])
    return {
        "topic": name,
        "partitions": [
            {
                "partition": partition["partition"],
                "leader": partition["leader"],
                "replicas": partition["replicas"],
                "start": starts[TopicPartition(name, partition["partition"])],
                "end": ends[TopicPartition(name, partition["partition"])],
            }
            for partition in sorted(about["partitions"], key=lambda partition: partition["partition"])
        ],
        "configs": _set_configs(configs),
    }


def records_to_produce(lines: Iterable[str], key: str | None, key_separator: str | None) -> list[Record]:
    """Return the keys and values of lines."""
    records: list[Record] = []
    for line in lines:
        own_key, value = key, line
        if key_separator:
            own_key, found, value = line.partition(key_separator)
            if not found:
                raise UserError(f"A line has no {key_separator!r} between key and value: {line!r}.")
        records.append((None if own_key is None else _encoded(own_key), _encoded(value)))
    return records


def _encoded(text: str) -> bytes:
    """Return the bytes as they were given: a Kafka value need not be text."""
    return text.encode(errors="surrogateescape")


async def produce(
    options: Options, topic: str, records: Sequence[Record], headers: Sequence[tuple[str, bytes]]
) -> dict[str, Any]:
    """Write all records, acknowledged, and return how many went to each partition."""
    producer = AIOKafkaProducer(**options, acks="all", linger_ms=5)
    await _enter(producer)
    try:
        sent = [await producer.send(topic, value, key=key, headers=headers) for key, value in records]
        placed = [await future for future in sent]
    except UnknownTopicOrPartitionError:
        raise UserError(
            f"There is no topic {topic}, and the broker does not create it.",
            hint=f"Create it: tidemill topic create {topic}",
        ) from None
    finally:
        await producer.stop()
    return {"topic": topic, "records": dict(sorted(Counter(where.partition for where in placed).items()))}


async def tail(
    options: Options, topic: str, show: Callable[[Any], None], *, from_beginning: bool, count_max: int | None
) -> None:
    """Show records as they come, endlessly or up to a number."""
    async with _admin(options) as admin:
        about = await _about(admin, topic)
    partitions = [TopicPartition(topic, partition["partition"]) for partition in about["partitions"]]
    # Not by seek_to_beginning: a reset to the default position that is under way when it is called undoes it.
    reset = "earliest" if from_beginning else "latest"
    consumer = AIOKafkaConsumer(**options, enable_auto_commit=False, auto_offset_reset=reset)
    await _enter(consumer)
    try:
        consumer.assign(partitions)
        shown = 0
        while count_max is None or shown < count_max:
            batches = await consumer.getmany(timeout_ms=_TAIL_POLL_MS)
            for record in sorted(
                (record for batch in batches.values() for record in batch),
                key=lambda record: record.timestamp,
            ):
                show(record)
                shown += 1
                if shown == count_max:
                    return
    finally:
        await consumer.stop()


async def read(options: Options, topic: str, partition: int, offset: int, count: int) -> list[Any]:
    """Return up to `count` records of one partition from `offset` on, as many as there are by now.

    Raises UserError if there is no such record.
    """
    where = TopicPartition(topic, partition)
    async with _admin(options) as admin:
        about = await _about(admin, topic)
    if partition not in {each["partition"] for each in about["partitions"]}:
        raise UserError(f"Topic {topic} has no partition {partition}: it has {len(about['partitions'])}.")
    starts, ends = await _offsets(options, [where])
    if not starts[where] <= offset < ends[where]:
        raise UserError(
            f"{topic}-{partition} has no offset {offset}: it has {starts[where]} to {ends[where] - 1}."
        )
    consumer = AIOKafkaConsumer(**options, enable_auto_commit=False)
    await _enter(consumer)
    try:
        consumer.assign([where])
        consumer.seek(where, offset)
        found: list[Any] = []
        while len(found) < count and await consumer.position(where) < ends[where]:
            batches = await consumer.getmany(where, timeout_ms=_TAIL_POLL_MS, max_records=count - len(found))
            found += batches.get(where, ())
        return found
    finally:
        await consumer.stop()


def record_line(record: Any, *, as_json: bool) -> str:
    """Return one record as a line."""
    value = None if record.value is None else record.value.decode(errors="backslashreplace")
    key = None if record.key is None else record.key.decode(errors="backslashreplace")
    if not as_json:
        return f"{record.topic}-{record.partition}@{record.offset} {'' if key is None else key + ' '}{value}"
    return json.dumps(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": key,
            "value": value,
            "headers": [[name, text.decode(errors="backslashreplace")] for name, text in record.headers],
        }
    )


async def _about(admin: Any, topic: str) -> Any:
    """Return what Metadata says of one topic, without creating it."""
    if topic not in await admin.list_topics():
        raise UserError(f"There is no topic {topic}.", hint=f"Create it: tidemill topic create {topic}")
    [about] = await admin.describe_topics([topic])
    return about


async def _offsets(
    options: Options, partitions: Sequence[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    consumer = AIOKafkaConsumer(**options)
    await _enter(consumer)
    try:
        async with asyncio.TaskGroup() as group:
            starts = group.create_task(consumer.beginning_offsets(partitions))
            ends = group.create_task(consumer.end_offsets(partitions))
    finally:
        await consumer.stop()
    return starts.result(), ends.result()


def _set_configs(reply: Any) -> dict[str, str]:
    """Return the entries set on the topic; older protocol versions have ``is_default`` instead."""
    found = {}
    for _, _, _, _, entries in reply.resources:
        for entry in entries:
            name, value, _, source = entry[:4]
            set_here = source is False if isinstance(source, bool) else source == _SET_ON_TOPIC
            if set_here:
                found[name] = value
    return found


async def _enter(client: Any) -> None:
    """Start a client. Raises UserError if the login was rejected: aiokafka says "cannot connect"."""
    try:
        await client.start()
    except KafkaConnectionError:
        if isinstance(_last.error, SaslAuthenticationFailed | ssl.SSLError):
            raise _rejected(_last.error) from None
        raise


def _rejected(error: Exception) -> UserError:
    if isinstance(error, ssl.SSLError):
        return UserError(
            f"Kafka and this command do not trust each other: {error.reason or error}.",
            hint="Trusted are the system's CAs and that of the secret tidemill_ca, made by `tidemill up`.",
        )
    return UserError(
        f"Kafka rejected the login: {error}.",
        hint="The broker's log says why, in a line `broker.audit login_failed`. With IAM, take "
        "AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test, let your key's policy allow "
        "kafka-cluster:Connect, or add a key: tidemill broker identity add --help",
    )


@asynccontextmanager
async def _admin(options: Options) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    await _enter(admin)
    try:
        yield admin
    finally:
        await admin.close()
