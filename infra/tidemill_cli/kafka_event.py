"""Makes the event that a mapping of the endpoint's cluster would send, from records of a topic or a sample.

Its bytes are the poller's own; a mapping's filters and batching are not applied.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tidemill_cli.access import kafka_options
from tidemill_cli.clients import Endpoint
from tidemill_poller.event import Record, event_json, event_source, records_json

_SAMPLE_TIMESTAMP_MS: Final = 1_700_000_000_000


@dataclass(slots=True, kw_only=True)
class SampleRecord:
    """A record that is nowhere."""

    topic: str
    partition: int = 0
    offset: int = 0
    timestamp: int = _SAMPLE_TIMESTAMP_MS
    timestamp_type: int = 0
    key: bytes | None = b"key"
    value: bytes | None = b'{"message": "Hello from Kafka"}'
    headers: Sequence[tuple[str, bytes | None]] = (("traceparent", b"00"),)


def topic_event(
    there: Endpoint, servers: str | None, topic: str, *, partition: int, offset: int, count: int
) -> bytes:
    """Return the event of these records; `servers` that the user names are a self-managed cluster."""
    from tidemill_cli import kafka

    options = kafka_options(there, servers)
    found: Sequence[Any] = asyncio.run(kafka.read(options, topic, partition, offset, count))
    return _event(found, options["bootstrap_servers"], None if servers else there.cluster_arn)


def sample_event(topic: str) -> bytes:
    """Return an event of one record, as a mapping of an MSK cluster sends it; asks nobody."""
    arn = "arn:aws:kafka:us-east-1:123456789012:cluster/sample/00000000-0000-0000-0000-000000000000-1"
    return _event([SampleRecord(topic=topic)], "b-1.sample.kafka.us-east-1.amazonaws.com:9092", arn)


def _event(records: Sequence[Record], servers: str, arn: str | None) -> bytes:
    first = records[0]
    source = event_source(
        first.topic, first.partition, bootstrap_servers=servers.split(","), event_source_arn=arn
    )
    return event_json(source, records_json(records))
