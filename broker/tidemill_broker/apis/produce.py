"""Produce (key 0, versions 3 to 13): the frame goes to the native core as it lies, a response comes back.

What needs the event loop stays here: to wake fetches, and to hold the reply back until an fsync.
Deviations: transactional batches are rejected with INVALID_TXN_STATE until there are transactions.

See docs/decisions/0100 and docs/decisions/0102.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from tidemill_broker.apis.api import Api, CloseConnection, Reply
from tidemill_broker.apis.broker import Broker, Connection
from tidemill_broker.log.authorized import NativeSteps
from tidemill_broker.log.topics import Produced


def produce(
    broker: Broker, connection: Connection, frame: memoryview
) -> Reply | Awaitable[Reply] | NativeSteps[Reply | Awaitable[Reply]]:
    """Append the request's batches; with acks=0 there is no answer, and a fault ends the connection."""
    produced = broker.topics.begin_produce(frame, broker.now_ms(), connection.rights.writable, connection)
    return _answer(produced) if isinstance(produced, tuple) else _in_turns(produced)


def _in_turns(steps: NativeSteps[Produced]) -> NativeSteps[Reply | Awaitable[Reply]]:
    return _answer((yield from steps))


def _answer(produced: Produced) -> Reply | Awaitable[Reply]:
    reply, failed, flushed = produced
    if failed and reply is None:
        raise CloseConnection("a batch sent with acks=0 was rejected")
    return reply if flushed is None else flushed


APIS: Final = (
    # Kafka 4 advertises 0 too: librdkafka picks message format and codecs by that range (KAFKA-18659).
    Api(
        key=0,
        name="Produce",
        min_version=3,
        max_version=13,
        handle=produce,
        raw=True,
        advertised_min_version=0,
    ),
)
