"""Connections: frames in whatever pieces, replies in order, and one peer's fault is its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.fakes.certificates import Authority
from tests.fakes.inner_broker import inner_broker
from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.fakes.log_frames import FETCH, PRODUCE, fetch_frame, fetch_partition, produce_frame
from tests.fakes.record_batches import Record, batch
from tidemill_broker.auth.tls.certificates import Certificates
from tidemill_broker.listeners import ListenerName
from tidemill_broker.log.topics import Topics
from tidemill_broker.server import Server, connection, serve, server
from tidemill_broker.server.connection import BUFFER_BYTES, PENDING_MAX

METADATA, API_VERSIONS = 3, 18
ANSWER_BYTES = 16  # of ApiVersions in a version of the future


@dataclass
class Peer:
    """A client's side of one connection, in raw frames."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames))
        await self.writer.drain()

    async def frame(self) -> bytes:
        async with asyncio.timeout(5):
            prefix = await self.reader.readexactly(4)
            return prefix + await self.reader.readexactly(int.from_bytes(prefix, "big"))

    async def correlation_id(self) -> int:
        return int.from_bytes((await self.frame())[4:8], "big")

    async def ended(self) -> bool:
        """Whether the server closes it, without another byte."""
        async with asyncio.timeout(5):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True

    async def close(self) -> None:
        self.writer.close()


async def until_left(served: Server, connections: int) -> None:
    """Wait until no more connections are left."""
    async with asyncio.timeout(40):
        while len(served.connections) > connections:
            waits = [asyncio.ensure_future(each.lost.wait()) for each in served.connections]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()


@dataclass
class Running:
    server: Server
    topics: Topics

    async def connect(self) -> Peer:
        return Peer(*await asyncio.open_connection("127.0.0.1", self.server.port))


@asynccontextmanager
async def running(directory: Path, *settings: str) -> AsyncIterator[Running]:
    with inner_broker(directory, *settings) as inner:
        inner.broker.topics.create("t", partitions=2)
        listening = replace(inner.broker.settings, port=0)
        server = await serve(inner.broker, listening)
        try:
            yield Running(server, inner.broker.topics)
        finally:
            await server.close()


def metadata_frame(correlation_id: int) -> bytes:
    return request_frame(request(METADATA, 9, topics=[]), correlation_id=correlation_id)


async def test_a_frame_is_read_in_whatever_pieces_it_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        peer = await broker.connect()
        whole = metadata_frame(1)
        for byte in len(whole).to_bytes(4, "big") + whole:
            peer.writer.write(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        assert await peer.correlation_id() == 1


async def test_many_frames_in_one_piece_are_answered_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        peer = await broker.connect()
        await peer.send(*(metadata_frame(index) for index in range(2000)))
        assert [await peer.correlation_id() for _ in range(2000)] == list(range(2000))


@pytest.mark.parametrize("size", [1, BUFFER_BYTES - 100, BUFFER_BYTES, 3 * BUFFER_BYTES, 900_000])
async def test_frames_of_every_size_come_through_one_after_the_other(tmp_path: Path, size: int) -> None:
    async with running(tmp_path) as broker:
        peer = await broker.connect()
        frames = [
            produce_frame(batch([Record(value=bytes(size))]), correlation_id=index) for index in range(5)
        ]
        await peer.send(*frames, metadata_frame(5))
        assert [await peer.correlation_id() for _ in range(6)] == list(range(6))
        topic = broker.topics.get("t")
        assert topic is not None
        assert topic.partitions[0].end_offset == 5


async def test_what_came_behind_a_frame_at_fault_is_not_served(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        peer = await broker.connect()
        good = batch([Record(value=b"late")])
        refused = bytes([*good[:-1], good[-1] ^ 1])
        await peer.send(produce_frame(refused, acks=0), produce_frame(good, acks=0))
        assert await peer.ended()
        topic = broker.topics.get("t")
        assert topic is not None
        assert topic.partitions[0].end_offset == 0


async def test_a_frame_of_20_mb_is_read_without_trusting_its_length(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        peer = await broker.connect()
        await peer.send(produce_frame(batch([Record(value=bytes(20_000_000))])))
        reply = read_response(PRODUCE, 12, await peer.frame())
        assert reply.responses[0].partition_responses[0].error_code.name == "message_too_large"


@pytest.mark.parametrize(
    "bad",
    [
        struct.pack(">i", -1),
        struct.pack(">i", 104_857_601),
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">i", 3) + b"abc",
        struct.pack(">ihhih", 10, 999, 0, 1, -1),
        struct.pack(">ihhih", 10, PRODUCE, 2, 1, -1),
        struct.pack(">ihhih", 10, PRODUCE, 99, 1, -1),
        struct.pack(">ihhih", 10, FETCH, 12, 1, -1),
    ],
)
async def test_a_bad_frame_ends_its_connection_with_one_line_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: bytes
) -> None:
    async with running(tmp_path) as broker:
        good, peer = await broker.connect(), await broker.connect()
        with caplog.at_level(logging.INFO, logger="broker"):
            peer.writer.write(bad)
            assert await peer.ended()
        assert len([record for record in caplog.records if "closing connection" in record.message]) == 1
        assert len(caplog.records) == 1
        await good.send(metadata_frame(3))
        assert await good.correlation_id() == 3


async def test_the_length_of_a_frame_alone_costs_no_memory(tmp_path: Path) -> None:
    """Else a thousand connections of four bytes each would cost gigabytes."""
    async with running(tmp_path) as broker:
        peers = [await broker.connect() for _ in range(20)]
        for peer in peers:
            peer.writer.write((100_000_000).to_bytes(4, "big") + b"\0\x12")
        async with asyncio.timeout(5):
            # The server tells nobody what it has read.
            while [peer._filled for peer in broker.server.connections] != [6] * len(peers):  # noqa: ASYNC110 - see above
                await asyncio.sleep(0)
        assert [len(peer._view) for peer in broker.server.connections] == [BUFFER_BYTES] * len(peers)
        for peer in peers:
            await peer.close()


async def test_a_client_id_cannot_forge_a_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as broker:
        peer = await broker.connect()
        await peer.send(request_frame(request(METADATA, 9, topics=[]), client_id="x\nINFO all is well"))
        await peer.correlation_id()
        await peer.send(b"nonsense")
        assert await peer.ended()
    [line] = [record.getMessage() for record in caplog.records if "closing connection" in record.getMessage()]
    assert "\n" not in line
    assert "x\\nINFO all is well" in line


async def test_thousands_of_requests_in_one_piece_let_others_have_their_turn(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        flood = struct.pack(">ihhih", 10, API_VERSIONS, 99, 1, -1) * 4000
        greedy = socket.create_connection(("127.0.0.1", broker.server.port))
        other = await broker.connect()
        with greedy:
            greedy.sendall(flood)
            await other.send(metadata_frame(3))
            assert await other.correlation_id() == 3
            answered = len(greedy.recv(len(flood), socket.MSG_DONTWAIT)) // ANSWER_BYTES
            assert 0 < answered < 1000
            greedy.settimeout(5)
            left = (4000 - answered) * ANSWER_BYTES
            while left:
                left -= len(await asyncio.to_thread(greedy.recv, left))


async def test_who_floods_and_goes_fills_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path) as broker:
        with socket.create_connection(("127.0.0.1", broker.server.port)) as greedy:
            greedy.sendall(struct.pack(">ihhih", 10, API_VERSIONS, 99, 1, -1) * 4000)
        other = await broker.connect()
        for number in range(10):
            await other.send(metadata_frame(number))
            assert await other.correlation_id() == number
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_what_came_before_a_bad_frame_is_done(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        peer = await broker.connect()
        await peer.send(produce_frame(batch()), b"bad")
        assert await peer.correlation_id() == 7
        assert await peer.ended()
        topic = broker.topics.get("t")
        assert topic is not None
        assert topic.partitions[0].end_offset == 1


async def test_a_waiting_fetch_is_woken_by_an_append(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        reader, writer = await broker.connect(), await broker.connect()
        await reader.send(fetch_frame([fetch_partition()], min_bytes=1, max_wait_ms=60_000))
        await writer.send(metadata_frame(1))
        await writer.correlation_id()
        await writer.send(produce_frame(batch()))
        reply = read_response(FETCH, 12, await reader.frame())
        assert reply.responses[0].partitions[0].high_watermark == 1


async def test_a_fetch_that_nothing_wakes_is_answered_at_its_deadline(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        peer = await broker.connect()
        started = asyncio.get_running_loop().time()
        await peer.send(fetch_frame([fetch_partition()], min_bytes=1, max_wait_ms=100))
        reply = read_response(FETCH, 12, await peer.frame())
        assert reply.responses[0].partitions[0].records == b""
        assert asyncio.get_running_loop().time() - started >= 0.09


async def test_replies_wait_for_the_fetch_before_them(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        peer, writer = await broker.connect(), await broker.connect()
        fetch = fetch_frame([fetch_partition()], min_bytes=1, max_wait_ms=60_000, correlation_id=1)
        await peer.send(fetch, *(metadata_frame(index) for index in range(2, 2 * PENDING_MAX)))
        await writer.send(produce_frame(batch()))
        assert [await peer.correlation_id() for _ in range(2 * PENDING_MAX - 1)] == list(
            range(1, 2 * PENDING_MAX)
        )


async def test_with_an_fsync_before_each_reply_all_requests_are_still_answered_in_order(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, "log.flush.interval.messages=1") as broker:
        peer, other = await broker.connect(), await broker.connect()
        frames = [produce_frame(batch(), index=index % 2, correlation_id=index) for index in range(100)]
        await peer.send(*frames)
        await other.send(*frames)
        for each in (peer, other):
            assert [await each.correlation_id() for _ in range(100)] == list(range(100))
        topic = broker.topics.get("t")
        assert topic is not None
        assert [partition.high_watermark for partition in topic.partitions] == [100, 100]


async def test_a_fetch_sees_only_what_is_flushed_and_is_woken_by_the_flush(tmp_path: Path) -> None:
    async with running(tmp_path, "log.flush.interval.messages=1") as broker:
        reader, writer = await broker.connect(), await broker.connect()
        await reader.send(fetch_frame([fetch_partition()], min_bytes=1, max_wait_ms=60_000))
        await writer.send(produce_frame(batch()))
        reply = read_response(FETCH, 12, await reader.frame())
        assert reply.responses[0].partitions[0].high_watermark == 1


async def test_a_peer_that_does_not_read_is_not_served_into_memory(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        topic = broker.topics.get("t")
        assert topic is not None
        topic.partitions[0].append(batch([Record(value=bytes(1_000_000))]))
        peer = await broker.connect()
        fetch = fetch_frame([fetch_partition()])
        await peer.send(*[fetch] * 200)
        (connection,) = broker.server.connections
        other = await broker.connect()
        await other.send(metadata_frame(1))
        await other.correlation_id()
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 4_000_000
        for _ in range(200):
            assert len(await peer.frame()) > 1_000_000


async def test_a_silent_connection_is_ended_and_a_waiting_one_is_not(tmp_path: Path) -> None:
    async with running(tmp_path, "connections.max.idle.ms=200") as broker:
        silent, waiting = await broker.connect(), await broker.connect()
        await waiting.send(fetch_frame([fetch_partition()], min_bytes=1, max_wait_ms=600))
        assert await silent.ended()
        assert await waiting.correlation_id() == 7


async def test_connections_above_the_limit_are_ended_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, "max.connections=1") as broker:
        first = await broker.connect()
        await first.send(metadata_frame(1))
        assert await first.correlation_id() == 1
        assert await (await broker.connect()).ended()
        await first.close()


async def test_clients_without_a_name_leave_room_for_those_who_log_in(tmp_path: Path) -> None:
    ca = Authority()
    (tmp_path / "ca.pem").write_text(ca.pem)
    (tmp_path / "broker.pem").write_text(ca.issue("broker", hosts=("localhost",)).keystore_pem)
    (tmp_path / "alice.pem").write_text(ca.issue("alice").keystore_pem)
    nameless, alice = (ssl.create_default_context(cadata=ca.pem) for _ in range(2))
    alice.load_cert_chain(tmp_path / "alice.pem")
    certificates = Certificates(tmp_path / "broker.pem", tmp_path / "ca.pem", "requested")
    with inner_broker(tmp_path, "max.connections=4") as inner:
        settings = replace(inner.broker.settings, listeners={"plaintext": 0, "tls": 0})
        server = await serve(inner.broker, settings, certificates)

        async def connect(listener: ListenerName, tls: ssl.SSLContext | None) -> Peer:
            host = None if tls is None else "localhost"
            port = inner.broker.ports[listener]
            return Peer(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=host))

        plain, behind_tls = (
            [await connect("plaintext", None) for _ in range(2)],
            await connect("tls", nameless),
        )
        for peer in (*plain, behind_tls):
            await peer.send(metadata_frame(1))
            assert await peer.correlation_id() == 1
        assert await (await connect("plaintext", None)).ended()
        assert await (await connect("tls", nameless)).ended()
        known = await connect("tls", alice)
        await known.send(metadata_frame(2))
        assert await known.correlation_id() == 2
        await server.close()
        assert (server.connections.logged_in, server.connections.anonymous) == (0, 0)


async def test_a_peer_that_goes_while_it_waits_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        peer, other = await broker.connect(), await broker.connect()
        await peer.send(fetch_frame([fetch_partition()], min_bytes=1, max_wait_ms=60_000))
        await other.send(metadata_frame(1))
        await other.correlation_id()
        await peer.close()
        await until_left(broker.server, 1)
        assert not broker.topics.growth._waiting


async def test_a_batch_that_is_rejected_with_acks_0_ends_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        peer = await broker.connect()
        await peer.send(produce_frame(batch(), acks=0), metadata_frame(2))
        assert await peer.correlation_id() == 2
        await peer.send(produce_frame(b"", acks=0))
        assert await peer.ended()


async def test_closing_lets_replies_in_work_go_out(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        peer, idle = await broker.connect(), await broker.connect()
        await peer.send(fetch_frame([fetch_partition()], min_bytes=1, max_wait_ms=300))
        await idle.send(metadata_frame(1))
        await idle.correlation_id()
        port = broker.server.port
        await broker.server.close()
        assert await peer.correlation_id() == 7
        assert await peer.ended()
        assert await idle.ended()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_replies_that_nobody_reads_are_bounded_over_all_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "REPLIES_BYTES_MAX", 40_000_000)
    async with running(tmp_path) as broker:
        peer = await broker.connect()
        await peer.send(produce_frame(batch([Record(value=bytes(900_000))])))
        await peer.frame()
        topic = broker.topics.get("t")
        assert topic is not None
        for _ in range(30):
            topic.partitions[0].append(batch([Record(value=bytes(900_000))]))
        asked = fetch_frame([fetch_partition(partition_max_bytes=50_000_000)])
        silent = [await broker.connect() for _ in range(3)]
        for each in silent:
            each.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
            await each.send(asked)
        await until_left(broker.server, 2)
        await peer.send(metadata_frame(3))
        assert await peer.correlation_id() == 3
    assert "bytes of replies are not read" in caplog.text


async def test_replies_that_wait_for_an_earlier_one_count_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Their clients read, and nothing has been sent to them."""
    monkeypatch.setattr(connection, "REPLIES_BYTES_MAX", 10_000_000)
    monkeypatch.setattr(server, "LOOK_S", 3600.0)
    async with running(tmp_path) as broker:
        topic = broker.topics.get("t")
        assert topic is not None
        topic.partitions[0].append(batch([Record(value=bytes(900_000))]))
        waits = fetch_frame([fetch_partition(index=1)], min_bytes=1, max_wait_ms=300_000)
        asked = fetch_frame([fetch_partition(partition_max_bytes=1_000_000)])
        peers = [await broker.connect() for _ in range(4)]
        for each in peers:
            await each.send(waits, *[asked] * 4)
        await until_left(broker.server, 3)
    assert "bytes of replies are not read" in caplog.text
