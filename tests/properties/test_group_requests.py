"""Random group requests in every version, through frame, table and handler: each has an answer."""

from __future__ import annotations

import asyncio
import inspect
import random
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.inner_broker import inner_broker
from tests.fakes.kafka_frames import random_request, read_response, request_frame
from tidemill_broker.apis import dispatch
from tidemill_broker.apis.groups import APIS

REQUESTS_PER_VERSION = 15


@pytest.mark.parametrize("seed", range(3))
async def test_every_request_is_answered(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    versions = [(api.key, each) for api in APIS for each in range(api.min_version, api.max_version + 1)]
    order = versions * REQUESTS_PER_VERSION
    generator.shuffle(order)
    with inner_broker(tmp_path, "group.min.session.timeout.ms=1") as inner:
        inner.broker.topics.create("flights", partitions=2)
        waiting: list[tuple[int, int, asyncio.Future[Any]]] = []
        for api_key, version in order:
            frame = request_frame(random_request(generator, api_key, version))
            reply: Any = dispatch(inner.broker, inner.connection, memoryview(frame))
            if inspect.isawaitable(reply):
                waiting.append((api_key, version, asyncio.ensure_future(reply)))
                await asyncio.sleep(0)
            else:
                read_response(api_key, version, reply)
        inner.broker.groups.dismiss()
        for api_key, version, later in waiting:
            read_response(api_key, version, await later)
        before = list(inner.broker.groups.coordinator.snapshot())
    with inner_broker(tmp_path) as again:
        assert sorted(map(repr, again.broker.groups.coordinator.snapshot())) == sorted(map(repr, before))
