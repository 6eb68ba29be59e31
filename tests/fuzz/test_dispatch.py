"""Whatever a request says, a handler answers it or the connection is closed; nothing else happens."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.inner_broker import InnerBroker, inner_broker
from tests.fakes.kafka_frames import random_request, read_response, request_frame
from tests.fakes.mutation import mutate
from tidemill_broker.apis import APIS, CloseConnection, dispatch

SEED = 20131231
VERSIONS = [(api.key, v) for api in APIS.values() for v in range(api.min_version, api.max_version + 1)]
DECODED = [each for each in VERSIONS if not APIS[each[0]].raw]
ROUNDS = 4
MUTATED = 4_000
# A JoinGroup that waits for others, or a Fetch that waits for records, has been answered well enough by then.
PATIENCE_S = 0.01


async def answered(inner: InnerBroker, frame: bytes) -> bytes | None:
    """The reply; None when the connection was closed or the reply has to wait."""
    try:
        reply: Any = dispatch(inner.broker, inner.connection, memoryview(frame))
        if inspect.isawaitable(reply):
            reply = await waited(reply)
    except CloseConnection:
        return None
    return (
        None if reply is None else bytes(reply if isinstance(reply, bytes | memoryview) else b"".join(reply))
    )


async def waited(reply: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reply
    except TimeoutError:
        return None


@pytest.fixture
def inner(tmp_path: Path) -> Any:
    with inner_broker(tmp_path) as opened:
        opened.broker.topics.create("flights", partitions=3)
        yield opened


async def test_every_valid_request_is_answered_in_every_version(inner: InnerBroker) -> None:
    generator = random.Random(SEED)
    replies = 0
    for _ in range(ROUNDS):
        for key, version in DECODED:
            reply = await answered(inner, request_frame(random_request(generator, key, version)))
            if reply is not None:
                read_response(key, version, reply)
                replies += 1
    assert replies > 0.9 * ROUNDS * len(DECODED)


async def test_mutated_requests_are_answered_or_close_the_connection(inner: InnerBroker) -> None:
    generator = random.Random(SEED)
    for _ in range(MUTATED):
        frame = bytearray(request_frame(random_request(generator, *generator.choice(VERSIONS))))
        mutate(generator, frame)
        await answered(inner, bytes(frame))
