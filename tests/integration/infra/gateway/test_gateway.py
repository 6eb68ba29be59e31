"""The gateway between real HTTP clients and fake programs: what goes in comes out."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError
from yarl import URL

from tidemill_local.gateway.routes import Upstream
from tidemill_local.gateway.server import Gateway


@dataclass
class Program:
    """A fake program: remembers raw requests and answers what the test set."""

    name: str
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    gate: asyncio.Event | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        if self.gate is None:
            return web.Response(status=self.status, body=self.body, headers=self.headers)
        reply = web.StreamResponse(headers=self.headers)
        await reply.prepare(request)
        await reply.write(b"first")
        await self.gate.wait()
        await reply.write(b"second")
        return reply


async def _serve(application: web.Application) -> tuple[web.AppRunner, URL]:
    runner = web.AppRunner(application, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return runner, URL(f"http://{host}:{port}")


@pytest.fixture
async def programs() -> dict[Upstream, Program]:
    return {"functions": Program("f"), "poller": Program("p"), "broker": Program("b"), "aws": Program("a")}


@pytest.fixture
async def gateway(programs: dict[Upstream, Program]) -> AsyncIterator[URL]:
    runners, upstreams = [], {}
    for name, program in programs.items():
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", program.answer)
        runner, upstreams[name] = await _serve(application)
        runners.append(runner)
    runner, url = await _serve(Gateway(upstreams).application())
    yield url
    for one in (runner, *runners):
        await one.cleanup()


async def test_raw_path_headers_and_body_arrive_untouched(
    programs: dict[Upstream, Program], gateway: URL
) -> None:
    """Encoded slashes, the Host that SigV4 signed, odd headers and gzip bytes pass as they came."""
    programs["aws"].headers = {"X-Odd": "1", "Content-Encoding": "gzip", "Content-Type": "x/y"}
    programs["aws"].body = b"\x1f\x8b not really gzip"
    target = URL(f"{gateway}/bucket/a%2Fb%20c?x=%2F&y", encoded=True)
    sent = {"Host": "bucket.s3.localhost:4580", "Content-Encoding": "gzip", "X-Amz-Date": "now"}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.put(target, data=b"\x1f\x8b also not", headers=sent) as reply,
    ):
        assert await reply.read() == b"\x1f\x8b not really gzip"
        assert reply.headers["X-Odd"] == "1"
        assert reply.headers["Content-Encoding"] == "gzip"
    [(method, path, headers, body)] = programs["aws"].seen
    assert (method, path) == ("PUT", "/bucket/a%2Fb%20c?x=%2F&y")
    assert body == b"\x1f\x8b also not"
    assert headers["Host"] == "bucket.s3.localhost:4580"
    assert headers["X-Amz-Date"] == "now"
    assert "Transfer-Encoding" not in headers


async def test_nothing_is_added_to_a_request(programs: dict[Upstream, Program], gateway: URL) -> None:
    """A bare request reaches the program with its own Host and nothing else."""
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(b"GET /x HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert programs["aws"].seen[0][2] == {"Host": "example"}


async def test_replies_stream_as_they_come(programs: dict[Upstream, Program], gateway: URL) -> None:
    """The first bytes of a reply are here before the program has written its last."""
    gate = programs["functions"].gate = asyncio.Event()
    async with (
        aiohttp.ClientSession() as http,
        http.post(gateway / "2015-03-31/functions/f/invocations", data=b"{}") as reply,
    ):
        assert await reply.content.readexactly(5) == b"first"
        gate.set()
        assert await reply.content.read() == b"second"


async def test_a_stream_to_an_old_client_ends_with_its_connection(
    programs: dict[Upstream, Program], gateway: URL
) -> None:
    """HTTP/1.0 knows no chunks."""
    programs["aws"].gate = asyncio.Event()
    programs["aws"].gate.set()
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(b"GET /x HTTP/1.0\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 200 " in head.splitlines()[0]
    assert body == b"firstsecond"


async def test_a_large_body_passes_in_both_directions(
    programs: dict[Upstream, Program], gateway: URL
) -> None:
    programs["aws"].body = bytes(range(256)) * 80_000
    async with aiohttp.ClientSession() as http, http.put(gateway / "k", data=programs["aws"].body) as reply:
        assert await reply.read() == programs["aws"].body
    assert programs["aws"].seen[0][3] == programs["aws"].body


async def test_an_upload_is_chunked_on_when_it_came_chunked(
    programs: dict[Upstream, Program], gateway: URL
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with aiohttp.ClientSession() as http, http.put(gateway / "k", data=chunks()) as reply:
        assert reply.status == 200
    assert programs["aws"].seen[0][3] == b"onetwo"


async def test_head_and_204_have_no_body(programs: dict[Upstream, Program], gateway: URL) -> None:
    """HEAD keeps its Content-Length, 204 has none, and the connection stays usable."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        programs["aws"].body = b"x" * 10
        async with http.head(gateway / "k") as reply:
            assert reply.headers["Content-Length"] == "10"
        programs["aws"].status, programs["aws"].body = 204, b""
        async with http.delete(gateway / "k") as reply:
            assert reply.status == 204
        programs["aws"].status, programs["aws"].body = 200, b"fine"
        async with http.get(gateway / "k") as reply:
            assert await reply.read() == b"fine"


async def test_a_dead_program_answers_503_in_each_dialect(
    programs: dict[Upstream, Program], gateway: URL
) -> None:
    """Lambda's, SQS's (json), SNS's (query) and S3's clients all understand the 503."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = URL(f"http://127.0.0.1:{closed.getsockname()[1]}")
    runner, url = await _serve(
        Gateway({"functions": dead, "poller": dead, "broker": dead, "aws": dead}).application()
    )

    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=str(url),
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=Config(retries={"total_max_attempts": 1}),
        )

    codes = {}
    for service, method in (
        ("lambda", "list_functions"),
        ("kafka", "list_clusters"),
        ("sqs", "list_queues"),
        ("sns", "list_topics"),
        ("s3", "list_buckets"),
    ):
        with pytest.raises(ClientError) as refused:
            await asyncio.to_thread(getattr(client(service), method))
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert "does not answer" in refused.value.response["Error"]["Message"]
        codes[service] = refused.value.response["Error"]["Code"]
    assert codes == {
        "lambda": "ServiceUnavailableException",
        "kafka": "ServiceUnavailableException",
        "sqs": "ServiceUnavailableException",
        "sns": "ServiceUnavailable",
        "s3": "ServiceUnavailable",
    }
    async with aiohttp.ClientSession() as http, http.get(url / "_tidemill/health") as reply:
        assert reply.status == 503
        assert (await reply.json())["programs"]["poller"] == "down"
    await runner.cleanup()


async def test_a_program_that_dies_in_its_reply_cuts_the_clients_too(gateway: URL) -> None:
    """A half reply is never passed off as a whole one."""

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(die, "127.0.0.1", 0)
    url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    runner, front = await _serve(
        Gateway({"functions": url, "poller": url, "broker": url, "aws": url}).application()
    )
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientError):
            async with http.get(front / "k") as reply:
                await reply.read()
    await runner.cleanup()
    server.close()


async def test_health_says_which_program_is_up(gateway: URL) -> None:
    async with aiohttp.ClientSession() as http, http.get(gateway / "_tidemill/health") as reply:
        assert reply.status == 200
        assert json.loads(await reply.text()) == {
            "programs": {"functions": "up", "poller": "up", "broker": "up", "aws": "up"}
        }


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://evil.example:4580", "Host": "evil.example:4580"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "Cross-Site"},
        {"Origin": "http://127.0.0.1:4580.evil.example"},
        [("Origin", "http://localhost:3000"), ("Origin", "https://evil.example")],
    ],
    ids=[
        "another site",
        "a sandboxed page",
        "a name that resolves to here",
        "an image",
        "a relation in capitals",
        "a port that is none",
        "two origins",
    ],
)
async def test_a_web_page_from_elsewhere_reaches_no_program(
    programs: dict[Upstream, Program], gateway: URL, headers: dict[str, str] | list[tuple[str, str]]
) -> None:
    """Nobody verifies signatures here: without this any site could create and invoke code."""
    async with aiohttp.ClientSession() as session:
        async with session.post(gateway / "2015-03-31/functions", data=b"{}", headers=headers) as refused:
            assert refused.status == 403
        async with session.post(
            gateway / "2015-03-31/functions", data=b"{}", headers={"Origin": "http://localhost:3000"}
        ) as local:
            assert local.status == 200

    assert len(programs["functions"].seen) == 1


@pytest.mark.parametrize("host", ["evil.example:4580", "[evil", "x.local:4580"])
async def test_a_page_whose_name_resolves_to_here_reads_nothing(
    programs: dict[Upstream, Program], gateway: URL, host: str
) -> None:
    """DNS rebinding: such a page's GETs carry neither Origin nor Fetch Metadata."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(gateway / "2015-03-31/functions", headers={"Host": host}) as refused,
    ):
        assert refused.status == 403
    assert programs["functions"].seen == []


async def test_a_malformed_request_is_logged_without_its_bytes(
    gateway: URL, caplog: pytest.LogCaptureFixture
) -> None:
    """Aiohttp's traceback quotes the line at fault: it may be a header with a session token."""
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nX-Amz-Security-Token : planted\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
    writer.close()
    assert "not an HTTP request error=BadHttpMessage" in caplog.text
    assert "planted" not in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("target", ["http://{other}/", "CONNECT 0@{other}", "CONNECT {other}", "OPTIONS *"])
async def test_the_gateway_is_no_proxy(
    programs: dict[Upstream, Program], gateway: URL, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No form of a request's target makes it ask anyone but its upstreams."""
    async with asyncio.timeout(5):
        asked = asyncio.Event()
        other = await asyncio.start_server(lambda _r, _w: asked.set(), "127.0.0.1", 0)
        port = other.sockets[0].getsockname()[1]
        line = target.format(other=f"127.0.0.1:{port}")
        method, _, path = line.rpartition(" ")
        reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
        head = f"{method or 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        reply = await reader.read()
        writer.close()
        other.close()
    assert reply.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 "))
    assert not asked.is_set()
    assert not any(program.seen for program in programs.values())
    assert "Traceback" not in caplog.text
