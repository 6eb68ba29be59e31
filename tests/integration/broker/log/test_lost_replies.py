"""Replies that never arrive make an idempotent producer send again; the log holds each record once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from tests.fakes.inner_broker import inner_broker
from tests.fakes.record_batches import stored
from tidemill_broker.server import serve

RECORDS = 20_000
SEED = 20131231
CUT_ONE_IN = 12


class LossyProxy:
    """Passes everything on to a broker, but ends a connection every few replies instead of passing one."""

    def __init__(self) -> None:
        self.broker_port = 0
        self.cuts = 0
        self._generator = random.Random(SEED)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection("127.0.0.1", self.broker_port)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            async with asyncio.TaskGroup() as both:
                requests = both.create_task(self._requests(reader, downstream))
                await self._replies(upstream, writer)
                requests.cancel()
        for end in (writer, downstream):
            end.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while prefix := await reader.read(4):
            prefix += await reader.readexactly(4 - len(prefix))
            reply = await reader.readexactly(int.from_bytes(prefix, "big"))
            passed += 1
            # The first replies of a connection are its handshake.
            if passed > 3 and self._generator.randrange(CUT_ONE_IN) == 0:
                self.cuts += 1
                return
            writer.write(prefix + reply)
            await writer.drain()


@asynccontextmanager
async def proxied(directory: Path) -> AsyncIterator[tuple[LossyProxy, list[tuple[int, int, int]], int]]:
    proxy = LossyProxy()
    listener = await asyncio.start_server(proxy.connection, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    batches: list[tuple[int, int, int]] = []
    with inner_broker(directory) as inner:
        # The inner broker's clock stands still, years before the producer's.
        configs = {"message.timestamp.after.max.ms": str(2**62)}
        topic = inner.broker.topics.create("t", partitions=1, configs=configs)
        server = await serve(inner.broker, replace(inner.broker.settings, port=0))
        proxy.broker_port, inner.broker.ports["plaintext"] = server.port, port
        try:
            yield proxy, batches, port
            offset = 0
            while offset < topic.partitions[0].end_offset:
                batches += stored(topic.partitions[0].read(offset, 1 << 20))
                offset = batches[-1][0] + batches[-1][2]
        finally:
            listener.close()
            await server.close()


def produce(port: int) -> list[int | None]:
    """Send numbered records; the offsets that were acknowledged, in the order of the numbers."""
    offsets: dict[int, int | None] = {}

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        offsets[int(message.value() or b"")] = message.offset()

    producer = Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{port}",
            "enable.idempotence": True,
            "batch.num.messages": 50,
            "linger.ms": 1,
            "reconnect.backoff.ms": 1,
            "reconnect.backoff.max.ms": 10,
            "retry.backoff.ms": 1,
            "log_level": 0,
        }
    )
    for number in range(RECORDS):
        producer.produce("t", b"%d" % number, on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(60) == 0
    return [offsets[number] for number in range(RECORDS)]


async def test_every_record_is_there_once_and_in_order_though_replies_get_lost(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (proxy, batches, port):
        offsets = await asyncio.to_thread(produce, port)
    assert proxy.cuts > 5
    assert offsets == list(range(RECORDS))
    assert sum(count for _, _, count in batches) == RECORDS
