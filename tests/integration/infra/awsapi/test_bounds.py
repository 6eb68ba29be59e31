"""The deadlines and bounds of tidemill_awsapi's server, with limits short enough to wait for."""

import asyncio
import contextlib
import gzip
import resource
import socket
import time
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tidemill_awsapi import Call, ConnectionLimits, ConnectionTable, Service, http_server

LIMITS = ConnectionLimits(
    head_s=0.5, body_s=1.0, body_bytes_min=100, keep_alive_s=3.0, waiting_max=4, connections_max=8
)
INVOKE = b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: h\r\n"
BODY_BYTES_MAX = 70_000_000
GIGABYTE = 1_000_000_000


class Invoked:
    """Answers every Invoke with as many bytes as it got, or with a reply that nobody reads at once."""

    def __init__(self) -> None:
        self.reply: bytes | None = None
        self.begun = asyncio.Event()
        self.table: ConnectionTable | None = None
        self.hold: asyncio.Event | None = None

    async def __call__(self, call: Call) -> Mapping[str, Any]:
        self.begun.set()
        if self.hold is not None:
            await self.hold.wait()
        payload = str(len(call.params.get("Payload", b""))).encode()
        return {"StatusCode": 200, "Payload": self.reply or payload}


@asynccontextmanager
async def served(limits: ConnectionLimits = LIMITS, invoked: Invoked | None = None) -> AsyncIterator[int]:
    invoked = invoked or Invoked()
    handlers = {"Invoke": invoked}
    service = Service("lambda", handlers, region="us-east-1", account_id="123456789012")
    application = service.application(max_body_bytes=BODY_BYTES_MAX)
    async with http_server(application, drain_s=0.1, limits=limits) as server:
        invoked.table = server.table
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        try:
            yield int(listener.sockets[0].getsockname()[1])
        finally:
            listener.close()


async def said(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """All that the server says to these bytes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sending = asyncio.create_task(_send(writer, pieces, pause_s))
    everything = bytearray()
    async with asyncio.timeout(15):
        with contextlib.suppress(ConnectionError):
            while some := await reader.read(65_536):
                everything += some
    sending.cancel()
    writer.close()
    return bytes(everything)


async def _send(writer: asyncio.StreamWriter, pieces: Sequence[bytes], pause_s: float) -> None:
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)


def request(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return INVOKE + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([], b""),
        ([INVOKE], b"HTTP/1.1 408 "),
        ([INVOKE + b"Content-Length: 9\r\n\r\n{"], b"HTTP/1.1 408 "),
        ([INVOKE + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"], b"HTTP/1.1 408 "),
        ([request(b"{}")], b"HTTP/1.1 200 "),
        ([request(b"{}"), INVOKE], b"HTTP/1.1 200 "),
    ],
    ids=["nothing", "half a head", "half a body", "half a chunk", "idle", "half a second head"],
)
async def test_silence_ends_a_connection(pieces: list[bytes], answer: bytes) -> None:
    """Who began a request is told 408; aiohttp alone would wait an hour, or for ever."""
    async with served() as port:
        begun_s = time.monotonic()
        assert (await said(port, *pieces, pause_s=0.1)).startswith(answer)
        assert time.monotonic() - begun_s < 40


@pytest.mark.parametrize("head", [INVOKE, INVOKE + b"Content-Length: 1000\r\n\r\n"], ids=["head", "body"])
async def test_a_byte_now_and_then_does_not_keep_a_connection(head: bytes) -> None:
    async with served() as port:
        dripping = [head, *[b"x"] * 30]
        assert b"408 Request Timeout" in await said(port, *dripping, pause_s=0.15)


async def test_a_slow_but_steady_body_is_taken() -> None:
    async with served() as port:
        body = [INVOKE + b"Connection: close\r\nContent-Length: 4000\r\n\r\n", *[b"x" * 200] * 20]
        assert (await said(port, *body, pause_s=0.15)).endswith(b"\r\n\r\n4000")


async def test_who_does_not_read_a_reply_is_cut_off() -> None:
    """A reply of 60 MB that nobody reads would lie in memory for as long as the client likes."""
    invoked = Invoked()
    invoked.reply = bytes(60_000_000)
    async with served(invoked=invoked) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(request(b"{}"))
            await invoked.begun.wait()
            assert invoked.table is not None
            async with asyncio.timeout(40):
                while len(invoked.table):  # noqa: ASYNC110 - the server's own deadline is waited for
                    await asyncio.sleep(0.05)


async def test_the_longest_silent_makes_room_for_a_new_connection() -> None:
    patient = ConnectionLimits(head_s=60, waiting_max=4, connections_max=8)
    async with served(patient) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
        async with asyncio.timeout(5):
            for reader, _ in opened[:2]:
                assert await reader.read() == b""
        assert b" 200 OK" in await said(port, request(b"{}", b"Connection: close"))
        for _, writer in opened:
            writer.close()


async def test_connections_are_bounded_also_when_each_has_been_answered() -> None:
    patient = ConnectionLimits(head_s=60, waiting_max=4, connections_max=8)
    async with served(patient) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(1)]
        for _ in range(11):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(b"{}"))
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            opened.append((reader, writer))
        async with asyncio.timeout(5):
            assert await opened[0][0].read() == b""
            assert (await opened[1][0].read()).endswith(b"2")
        for _, writer in opened:
            writer.close()


def bomb(gigabytes: int, window: int) -> bytes:
    """Whole but for the end, which nobody should come to."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    first, block = (
        packer.compress(bytes(GIGABYTE // 50)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    return first + block * (50 * gigabytes)


@pytest.fixture(scope="module")
def bombs() -> Mapping[bytes, bytes]:
    return {b"gzip": bomb(4, 31), b"deflate": bomb(1, 15)}


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
async def test_a_body_that_inflates_beyond_the_limit_is_413_and_holds_nobody_up(
    bombs: Mapping[bytes, bytes], coding: bytes
) -> None:
    """4 MB of gzip are 4 GB of zeros: inflated in steps, up to the limit and no further."""
    peak_before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with served() as port:
        attack = asyncio.create_task(
            said(port, request(bombs[coding], b"Content-Encoding: " + coding, b"Connection: close"))
        )
        longest_s = 0.0
        while not attack.done():
            begun_s = time.process_time()  # of both sides, whatever else the machine does
            assert b" 200 OK" in await said(port, request(b"{}", b"Connection: close"))
            longest_s = max(longest_s, time.process_time() - begun_s)
        assert b"HTTP/1.1 413 " in await attack
    assert longest_s < 0.25
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before_kb
    assert grown_kb * 1024 < 2.5 * BODY_BYTES_MAX


@pytest.mark.parametrize(
    ("body", "coding", "status"),
    [
        (gzip.compress(b"{}" * 50), b"gzip", 200),
        (gzip.compress(b"{}" * 50), b"X-GZIP, identity", 200),
        (zlib.compress(b"{}" * 50), b"deflate", 200),
        (zlib.compress(b"{}" * 50, wbits=-15), b"deflate", 200),
        (b"{}" * 50, b"identity", 200),
        (gzip.compress(b"{}" * 50)[:-1], b"gzip", 400),
        (gzip.compress(b"{}" * 50) + b"x", b"gzip", 400),
        (gzip.compress(b"") * 100_000, b"gzip", 400),
        (b"no gzip", b"gzip", 400),
        (b"\xff" * 9, b"deflate", 400),
        (b"{}", b"br", 415),
        (b"{}", b"zstd", 415),
        (gzip.compress(gzip.compress(b"{}")), b"gzip, gzip", 415),
    ],
    ids=[
        "gzip",
        "x-gzip",
        "deflate",
        "bare deflate",
        "identity",
        "cut short",
        "a byte too many",
        "100,000 members",
        "no gzip",
        "no deflate",
        "br",
        "zstd",
        "two codings",
    ],
)
async def test_codings_are_read_or_rejected(body: bytes, coding: bytes, status: int) -> None:
    async with served() as port:
        reply = await said(port, request(body, b"Content-Encoding: " + coding, b"Connection: close"))
        assert reply.startswith(b"HTTP/1.1 %d " % status)
        assert status != 200 or reply.endswith(b"\r\n\r\n100")


@pytest.mark.parametrize(
    "chunk",
    [b"FFFFFFFFFFFFFFFFF\r\nxx", b"-1\r\nxx", b"2\r\nxxx\r\n0\r\n\r\n", b"zz\r\n", b"1;" + b"e" * 9000],
)
async def test_a_malformed_chunk_is_rejected(chunk: bytes) -> None:
    async with served() as port:
        reply = await said(port, INVOKE + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunk)
        assert reply[8:12] in {b" 400", b" 408"}


async def test_a_body_in_tiny_chunks_is_rejected_and_one_in_small_chunks_is_taken() -> None:
    """Each chunk costs time, whatever it holds: 300,000 of one byte held others up for half a second."""
    async with served() as port:
        head = INVOKE + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        # Who still sends when the connection is closed may not see the answer.
        await becomes(port, head + b"1\r\nx\r\n" * 24_000, b"HTTP/1.1 400 ")
        few = head + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
        assert (await said(port, few)).endswith(b"\r\n\r\n10000")
        small = head + (b"40\r\n" + b"x" * 64 + b"\r\n") * 20_000 + b"0\r\n\r\n"
        assert (await said(port, small)).endswith(b"\r\n\r\n1280000")


@asynccontextmanager
async def half_sent(port: int, *headers: bytes) -> AsyncIterator[asyncio.StreamWriter]:
    """A request of 600,000 bytes of which all but the last have come."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(bytes(600_000), *headers)[:-1])
    await writer.drain()
    try:
        yield writer
    finally:
        writer.close()


async def test_all_bodies_together_are_bounded_and_small_ones_always_taken() -> None:
    """Each may be 70 MB; who comes when a megabyte is there is told to come again."""
    limits = ConnectionLimits(bodies_bytes_max=1_000_000)
    large, small = request(bytes(600_000), b"Connection: close"), request(b"{}", b"Connection: close")
    async with served(limits) as port:
        async with half_sent(port):
            reply = await becomes(port, large, b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in reply
            assert b"x-amzn-ErrorType: ServiceUnavailableException" in reply
            assert (await said(port, small)).endswith(b"\r\n\r\n2")
        assert (await becomes(port, large, b"HTTP/1.1 200 ")).endswith(b"\r\n\r\n600000")


async def test_what_a_body_inflates_to_counts_among_all_bodies() -> None:
    async with served(ConnectionLimits(bodies_bytes_max=1_000_000)) as port:
        packed = request(gzip.compress(bytes(1_000_001)), b"Content-Encoding: gzip", b"Connection: close")
        assert (await said(port, packed)).startswith(b"HTTP/1.1 503 ")


async def test_bodies_count_until_they_are_answered() -> None:
    invoked = Invoked()
    invoked.hold = asyncio.Event()
    async with served(ConnectionLimits(bodies_bytes_max=1_000_000), invoked) as port:
        large = request(bytes(600_000), b"Connection: close")
        first = asyncio.create_task(said(port, large))
        await invoked.begun.wait()
        await becomes(port, large, b"HTTP/1.1 503 ")
        invoked.hold.set()
        assert (await first).endswith(b"\r\n\r\n600000")
        assert (await becomes(port, large, b"HTTP/1.1 200 ")).endswith(b"\r\n\r\n600000")


async def becomes(port: int, sent: bytes, answer: bytes) -> bytes:
    """Repeat a request until it is answered so."""
    async with asyncio.timeout(40):
        while not (reply := await said(port, sent)).startswith(answer):
            pass
    return reply


async def test_a_length_beyond_the_limit_is_413_before_the_body_comes() -> None:
    async with served() as port:
        head = INVOKE + b"Connection: close\r\nContent-Length: 70000001\r\n\r\n"
        assert (await said(port, head)).startswith(b"HTTP/1.1 413 ")
