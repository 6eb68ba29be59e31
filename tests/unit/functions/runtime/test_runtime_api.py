"""The Runtime API as awslambdaric speaks it, and what it makes of anything else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill_functions.runtime.runtime_api import RESPONSE_BYTES_MAX, RuntimeConnection

NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def post(path: str, body: bytes) -> bytes:
    return f"POST /2018-06-01/runtime/{path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborts = 0

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def writelines(self, list_of_data: Any) -> None:
        self.written += b"".join(list_of_data)

    def is_closing(self) -> bool:
        return self.aborts > 0

    def abort(self) -> None:
        self.aborts += 1


class Heard:
    """Keeps what the process told; one invocation, `known`, is in flight."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def next_asked(self, connection: RuntimeConnection) -> None:
        self.told.append(("next",))

    def expects(self, request_id: str) -> bool:
        return request_id == "known"

    def answered(self, body: bytes, *, failed: bool) -> None:
        self.told.append(("answered", body, failed))

    def answer_too_large(self) -> None:
        self.told.append(("too large",))

    def init_failed(self, body: bytes) -> None:
        self.told.append(("init failed", body))


def connect() -> tuple[RuntimeConnection, Wire, Heard]:
    heard, wire = Heard(), Wire()
    connection = RuntimeConnection(heard)
    connection.connection_made(wire)
    return connection, wire, heard


def test_next_waits_and_is_answered_with_headers_and_payload() -> None:
    connection, wire, heard = connect()
    connection.data_received(NEXT)
    assert (heard.told, wire.written) == ([("next",)], b"")
    assert connection.deliver(b"Lambda-Runtime-Aws-Request-Id: r\r\n", b'{"a":1}')
    assert wire.written == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: r\r\n"
        b'Content-Length: 7\r\n\r\n{"a":1}'
    )


def test_nothing_is_delivered_to_a_process_that_hung_up() -> None:
    connection, _, _ = connect()
    connection.data_received(NEXT)
    connection.connection_lost(None)
    assert not connection.deliver(b"", b"{}")


@pytest.mark.parametrize(
    ("request_bytes", "told", "status"),
    [
        (post("invocation/known/response", b'"x"'), ("answered", b'"x"', False), b"202"),
        (post("invocation/known/error", b"{}"), ("answered", b"{}", True), b"202"),
        (post("init/error", b'{"errorType":"E"}'), ("init failed", b'{"errorType":"E"}'), b"202"),
        (post("invocation/known/response", b"x" * (RESPONSE_BYTES_MAX + 1)), ("too large",), b"413"),
    ],
)
def test_what_the_process_tells_is_passed_on(
    request_bytes: bytes, told: tuple[object, ...], status: bytes
) -> None:
    connection, wire, heard = connect()
    connection.data_received(request_bytes)
    assert heard.told == [told]
    assert wire.written.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post("invocation/another/response", b"{}"), b"400"),
        (post("invocation/known/stream", b"{}"), b"404"),
        (post("restore/error", b"{}"), b"404"),
        (b"GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n\r\n", b"404"),
        (b"DELETE /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n", b"404"),
    ],
)
def test_what_is_not_its_to_tell_is_rejected(request_bytes: bytes, status: bytes) -> None:
    connection, wire, heard = connect()
    connection.data_received(request_bytes)
    assert heard.told == []
    assert wire.written.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_what_is_no_runtime_api_closes_the_connection(request_bytes: bytes) -> None:
    connection, wire, heard = connect()
    connection.data_received(request_bytes)
    assert wire.aborts == 1
    assert heard.told == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        NEXT.replace(b"Host: 127.0.0.1", b"Host: 127.0.0.1\r\nOrigin: https://evil.example"),
        NEXT.replace(b"Host: 127.0.0.1", b"Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site"),
        NEXT.replace(b"Host: 127.0.0.1", b"Host: 127.0.0.1.evil.example:40000"),
        NEXT.replace(b"Host: 127.0.0.1", b"Host: 127.0.0.1:40000.evil.example"),
        post("init/error", b"{}").replace(b"\r\n", b"\r\nOrigin: null\r\n", 1),
    ],
)
def test_a_web_page_that_finds_the_port_takes_no_invocation(request_bytes: bytes) -> None:
    connection, wire, heard = connect()
    connection.data_received(request_bytes)
    assert heard.told == []
    assert wire.aborts == 1
    assert wire.written == b""


def test_headers_without_end_close_the_connection() -> None:
    connection, wire, _ = connect()
    connection.data_received(b"GET / HTTP/1.1\r\n")
    for _ in range(20):
        connection.data_received(b"X-More: " + b"x" * 65_536 + b"\r\n")
    assert wire.aborts > 0


@given(
    st.lists(
        st.one_of(st.binary(max_size=80), st.sampled_from([NEXT, post("init/error", b"{}")])), max_size=6
    )
)
@settings(max_examples=300, deadline=None)
def test_whatever_a_process_sends_nothing_is_raised(pieces: list[bytes]) -> None:
    connection, wire, _ = connect()
    for piece in pieces:
        if not wire.aborts:
            connection.data_received(piece)


@pytest.mark.parametrize("path", ["/2020-01-01/extension/register", "/2022-07-01/telemetry"])
async def test_extensions_are_rejected_by_name(path: str) -> None:
    heard, wire = Heard(), Wire()
    connection = RuntimeConnection(heard)
    connection.connection_made(wire)
    connection.data_received(f"POST {path} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode())
    assert wire.written.startswith(b"HTTP/1.1 501 Not Implemented\r\n")
    assert b"Extensions and the Telemetry API are not built in Tidemill" in wire.written
    assert heard.told == []
