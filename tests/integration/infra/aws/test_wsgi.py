"""A WSGI application behind the server of the embedded AWS: what it is given, and what clients get back."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from tests.integration.infra.aws.raw_http import head, said
from tidemill_awsapi import http_server
from tidemill_local.aws.wsgi import application

BODY_BYTES_MAX = 100_000


class Application:
    """Keeps the environments, with their bodies, and answers by what the test sets."""

    def __init__(self) -> None:
        self.environs: list[dict[str, Any]] = []
        self.answer: Callable[[Any], Iterable[bytes]] = lambda start: (start("200 OK", []), [b"fine"])[1]

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        environ["body"] = environ["wsgi.input"].read()
        self.environs.append(environ)
        return self.answer(start_response)


@pytest.fixture
def wsgi() -> Application:
    return Application()


@pytest.fixture
async def port(wsgi: Application) -> AsyncIterator[int]:
    async with http_server(application(wsgi, body_bytes_max=BODY_BYTES_MAX), drain_s=0.1) as server:
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        yield int(listener.sockets[0].getsockname()[1])
        listener.close()


async def test_a_request_is_carried_over_whole(wsgi: Application, port: int) -> None:
    request = head(
        "PUT /bucket/a%2Fb%20c%C3%A9?x=%2F&y",
        "Content-Length: 3",
        "Content-Type: text/plain",
        "X-Amz-Meta-A: 1",
        "X-Amz-Meta-A: 2",
    )
    assert (await said(port, request + b"abc")).endswith(b"\r\n\r\nfine")
    [environ] = wsgi.environs
    expected = {
        "REQUEST_METHOD": "PUT",
        "PATH_INFO": "/bucket/a/b c\u00c3\u00a9",
        "QUERY_STRING": "x=%2F&y",
        "REQUEST_URI": "/bucket/a%2Fb%20c%C3%A9?x=%2F&y",
        "RAW_URI": "/bucket/a%2Fb%20c%C3%A9?x=%2F&y",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "HTTP_HOST": "127.0.0.1:5000",
        "HTTP_X_AMZ_META_A": "1,2",
        "body": b"abc",
    }
    assert {name: environ[name] for name in expected} == expected


async def test_chunks_become_a_length(wsgi: Application, port: int) -> None:
    """Else what looks at the form of a call of IAM finds none."""
    request = head("POST /", "Transfer-Encoding: chunked") + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    await said(port, request)
    [environ] = wsgi.environs
    assert (environ["CONTENT_LENGTH"], environ["body"]) == ("3", b"abc")
    assert "HTTP_TRANSFER_ENCODING" not in environ


async def test_a_header_with_an_underscore_passes_for_no_other(wsgi: Application, port: int) -> None:
    """S3's metadata keep their spelling, as moto's own server gives it to moto."""
    metadata = ("x-amz-meta-my_key: 1", "x-amz-meta-a-b: 2", "x-amz-meta-a_b: 3")
    await said(port, head("GET /", "X_Amz_Target: no", *metadata))
    [environ] = wsgi.environs
    assert "HTTP_X_AMZ_TARGET" not in environ
    assert (environ["HTTP_X_AMZ_META_MY_KEY"], environ["HTTP_X_AMZ_META_A_B"]) == ("1", "2")
    assert environ["moto.preserved_header_names"] == {"HTTP_X_AMZ_META_MY_KEY": "x-amz-meta-my_key"}


async def test_a_reply_keeps_its_status_headers_and_length(wsgi: Application, port: int) -> None:
    headers = [("Content-Length", "12345"), ("ETag", '"x"'), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
    wsgi.answer = lambda start: (start("206 Partial Content", [*headers, ("Connection", "x")]), [])[1]
    reply = await said(port, head("HEAD /bucket/key"))
    assert reply.startswith(b"HTTP/1.1 206 Partial Content\r\n")
    assert b"Content-Length: 12345\r\n" in reply
    assert reply.count(b"Set-Cookie") == 2
    assert b"Connection: x" not in reply
    assert reply.endswith(b"\r\n\r\n")


async def test_an_application_that_fails_is_a_500_and_the_next_request_is_answered(
    wsgi: Application, port: int
) -> None:
    fine = wsgi.answer

    def fail(_start: Any) -> Iterable[bytes]:
        raise ZeroDivisionError

    wsgi.answer = fail
    assert (await said(port, head("GET /"))).startswith(b"HTTP/1.1 500 ")
    wsgi.answer = fine
    assert (await said(port, head("GET /"))).endswith(b"fine")


async def test_a_long_poll_holds_no_other_request_up(wsgi: Application, port: int) -> None:
    fine, released = wsgi.answer, threading.Event()
    wsgi.answer = lambda start: (released.wait(10), fine(start))[1]
    polls = [asyncio.create_task(said(port, head("GET /poll"))) for _ in range(60)]
    while len(wsgi.environs) < 60:  # noqa: ASYNC110 - they come in threads
        await asyncio.sleep(0.01)
    wsgi.answer = fine
    assert (await said(port, head("GET /"))).endswith(b"fine")
    released.set()
    for poll in polls:
        assert (await poll).endswith(b"fine")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (head("PUT /", f"Content-Length: {BODY_BYTES_MAX + 1}"), 413),
        (head("PUT /", "Content-Length: 1000000000000"), 413),
        (head("PUT /", "Transfer-Encoding: chunked") + b"20000\r\n" + bytes(0x20000), 413),
        (head("PUT /", "Transfer-Encoding: chunked") + b"FFFFFFFFFFFFFFFFF\r\nx", 400),
        (head("GET http://169.254.169.254/"), 400),
        (head("OPTIONS *"), 404),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (head("GET /", "x: " + "a" * 9000), 400),
        (head("GET /", *["x: y"] * 200), 400),
        (head("GET /", "x: \xff"), 400),
    ],
    ids=[
        "too long by one",
        "a terabyte",
        "chunks that are too long",
        "a chunk beyond 64 bits",
        "for a proxy",
        "no path",
        "no Host",
        "a long header",
        "many headers",
        "not UTF-8",
    ],
)
async def test_what_is_too_large_or_malformed_never_comes_to_the_application(
    wsgi: Application, port: int, request_bytes: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes)
    assert (await reader.readline()).split()[1] == str(status).encode()
    writer.close()
    assert wsgi.environs == []
