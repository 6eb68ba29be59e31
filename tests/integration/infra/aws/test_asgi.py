"""An ASGI application behind the server of the embedded AWS: what it is given, and what clients get back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.integration.infra.aws.raw_http import head, said
from tidemill_awsapi import http_server
from tidemill_local.aws.asgi import asgi_handler

BODY_BYTES_MAX = 100_000


class Application:
    """Keeps the scopes, with their bodies, and answers with the pieces that the test sets."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = [b"fine"]
        self.fault: Exception | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert not message["more_body"]
        self.scopes.append({**scope, "body": message["body"]})
        if self.fault is not None:
            raise self.fault
        await send({"type": "http.response.start", "status": 206, "headers": self.headers})
        for place, piece in enumerate(self.pieces, start=1):
            await send({"type": "http.response.body", "body": piece, "more_body": place < len(self.pieces)})


@pytest.fixture
def asgi() -> Application:
    return Application()


@pytest.fixture
async def port(asgi: Application) -> AsyncIterator[int]:
    application = web.Application(client_max_size=BODY_BYTES_MAX)
    application.router.add_route("*", "/{path:.*}", asgi_handler(asgi))
    async with http_server(application, drain_s=0.1) as server:
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        yield int(listener.sockets[0].getsockname()[1])
        listener.close()


async def test_a_request_is_carried_over_whole(asgi: Application, port: int) -> None:
    request = head(
        "PUT /bucket/a%2Fb%20c%C3%A9?x=%2F&y",
        "Content-Length: 3",
        "X-Amz-Meta-My_Key: 1",
        "X-Amz-Meta-My_Key: 2",
    )
    assert (await said(port, request + b"abc")).endswith(b"\r\n\r\nfine")
    [scope] = asgi.scopes
    expected = {
        "type": "http",
        "method": "PUT",
        "path": "/bucket/a/b cé",
        "raw_path": b"/bucket/a%2Fb%20c%C3%A9",
        "query_string": b"x=%2F&y",
        "body": b"abc",
    }
    assert {name: scope[name] for name in expected} == expected
    assert [value for name, value in scope["headers"] if name == b"x-amz-meta-my_key"] == [b"1", b"2"]


async def test_chunks_become_one_body(asgi: Application, port: int) -> None:
    await said(port, head("POST /", "Transfer-Encoding: chunked") + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    [scope] = asgi.scopes
    assert scope["body"] == b"abc"
    assert b"transfer-encoding" not in dict(scope["headers"])


async def test_a_reply_keeps_its_status_and_headers(asgi: Application, port: int) -> None:
    asgi.headers = [(b"etag", b'"x"'), (b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"connection", b"x")]
    reply = await said(port, head("GET /bucket/key"))
    assert reply.startswith(b"HTTP/1.1 206 ")
    assert b'etag: "x"\r\n' in reply.lower()
    assert reply.lower().count(b"set-cookie") == 2
    assert b"connection: x" not in reply.lower()


async def test_a_reply_in_pieces_is_sent_as_it_comes(asgi: Application, port: int) -> None:
    asgi.pieces = [b"one", b"two", b""]
    reply = await said(port, head("GET /"))
    assert b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" in reply


async def test_an_application_that_fails_is_a_500_and_the_next_request_is_answered(
    asgi: Application, port: int
) -> None:
    asgi.fault = ZeroDivisionError()
    assert (await said(port, head("GET /"))).startswith(b"HTTP/1.1 500 ")
    asgi.fault = None
    assert (await said(port, head("GET /"))).endswith(b"fine")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (head("PUT /", f"Content-Length: {BODY_BYTES_MAX + 1}"), b"413"),
        (head("PUT /", "Transfer-Encoding: chunked") + b"20000\r\n" + bytes(0x20000), b"413"),
        (head("PUT /", "Transfer-Encoding: chunked") + b"FFFFFFFFFFFFFFFFF\r\nx", b"400"),
        (head("GET /\xc3\xa9"), b"400"),
        (head("GET http://169.254.169.254/"), b"400"),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"400"),
        (head("GET /", "x: " + "a" * 9000), b"400"),
        (head("POST /", "X-Amz-Target: a", "Content-Length: 2000") + b"[" * 2000, b"400"),
    ],
    ids=[
        "too long",
        "long chunks",
        "a bad chunk",
        "not ASCII",
        "for a proxy",
        "no Host",
        "a long header",
        "deep",
    ],
)
async def test_what_is_too_large_or_malformed_never_comes_to_the_application(
    asgi: Application, port: int, request_bytes: bytes, status: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes)
    assert (await reader.readline()).split()[1] == status
    writer.close()
    assert asgi.scopes == []
