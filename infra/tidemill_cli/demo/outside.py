"""Owns the demo's view from the outside: a Kafka client, SQS and DynamoDB, as any user would ask them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import boto3
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config

from tidemill_cli.demo.flights import Flight
from tidemill_cli.demo.proof import Stored
from tidemill_cli.demo.stage import Stage

_SQS_BATCH = 10
_PRODUCE_CHUNK = 2_000
_READ_TIMEOUT_MS = 10_000
_from_dynamodb: Callable[[Any], Any] = TypeDeserializer().deserialize


class Aws:
    """The AWS behind the one endpoint."""

    def __init__(self, stage: Stage) -> None:
        session = boto3.Session(
            region_name=stage.region,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the embedded AWS requires some and checks none
        )
        config = Config(retries={"mode": "standard", "total_max_attempts": 5})

        def client(service: str) -> Any:
            return session.client(service, endpoint_url=stage.endpoint_url, config=config)

        self.functions = client("lambda")
        self.dynamodb = client("dynamodb")
        self.sqs = client("sqs")

    def create_queue(self, name: str) -> tuple[str, str]:
        """Its URL and its ARN."""
        url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        about = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, about["Attributes"]["QueueArn"]

    def create_table(self, name: str) -> None:
        """The handler's table; the handler would make it itself, but six of them at once need not race."""
        self.dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "partition", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "partition", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def counts(self, table: str) -> dict[str, Mapping[str, Any]]:
        """The handler's items by partition."""
        items = self.dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]
        plain = ({name: _from_dynamodb(value) for name, value in item.items()} for item in items)
        return {item["partition"]: item for item in plain}

    def take_failures(self, queue_url: str) -> Iterator[Mapping[str, Any]]:
        """Take the failure records that are in the queue now."""
        while messages := self.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=_SQS_BATCH).get(
            "Messages"
        ):
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages)
            ]
            yield from (json.loads(message["Body"]) for message in messages)
            self.sqs.delete_message_batch(QueueUrl=queue_url, Entries=entries)


async def produce(
    servers: str, topic: str, flights: Sequence[Flight], on_sent: Callable[[int], None]
) -> None:
    """Write the flights in their order, acknowledged by all; the idempotent producer keeps the order."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, enable_idempotence=True, linger_ms=5, max_batch_size=256 * 1024
    )
    await producer.start()
    try:
        for start in range(0, len(flights), _PRODUCE_CHUNK):
            chunk = flights[start : start + _PRODUCE_CHUNK]
            sent = [await producer.send(topic, flight.value, key=flight.key) for flight in chunk]
            for future in sent:
                await future
            on_sent(len(chunk))
    finally:
        await producer.stop()


async def read_topic(servers: str, topic: str, partitions: int) -> dict[str, list[Stored]]:
    """All records by partition, in the order of offsets."""
    where = [TopicPartition(topic, number) for number in range(partitions)]
    stored: dict[str, list[Stored]] = {f"{topic}-{number}": [] for number in range(partitions)}
    async with _consumer(servers) as consumer:
        consumer.assign(where)
        ends = await consumer.end_offsets(where)
        missing = sum(ends.values())
        while missing > 0:
            batches = await consumer.getmany(timeout_ms=_READ_TIMEOUT_MS)
            if not batches:
                break  # the verdict will name what could not be read
            for partition, records in batches.items():
                stored[f"{topic}-{partition.partition}"] += [
                    Stored(offset=record.offset, key=record.key, value=record.value) for record in records
                ]
                missing -= len(records)
    return stored


@asynccontextmanager
async def _consumer(servers: str) -> Any:
    # Not by seek_to_beginning: a reset to the default position that is under way when it is called undoes it.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
