"""The front answers a plain Invoke by itself and hands everything else over, with all its bytes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill_awsapi import ConnectionLimits, ConnectionTable
from tidemill_functions.api.front import Front, FrontConnection
from tidemill_functions.code.registry import Function, LocalCode, Registry
from tidemill_functions.errors import TooManyInvocations
from tidemill_functions.runtime.environment import Invocation, Result

LINE = b"POST /2015-03-31/functions/orders/invocations HTTP/1.1\r\n"
LIMITS = ConnectionLimits()
PLAIN = LINE + b"Host: h\r\nContent-Length: 2\r\n\r\n{}"


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closings = 0
        self.abortions = 0
        self.protocol: object = None

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closings += 1

    def abort(self) -> None:
        self.abortions += 1

    def get_write_buffer_size(self) -> int:
        return 1

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol


class General(asyncio.Protocol):
    """Stands where aiohttp's protocol stands."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


class Places:
    """A pool that keeps the invocations, or has no place."""

    def __init__(self) -> None:
        self.invocations: list[Invocation] = []
        self.is_full = False

    def submit(self, function: Function, invocation: Invocation) -> None:
        if self.is_full:
            raise TooManyInvocations(function.name)
        self.invocations.append(invocation)


class Scene:
    """One connection to a front with one function, `orders`."""

    def __init__(self, registry: Registry) -> None:
        self.places = Places()
        self.general = General()
        self.wire = Wire()
        self.table = ConnectionTable(LIMITS)
        self.front = Front(registry, self.places, lambda: self.general, self.table)  # type: ignore[arg-type]  # all that it uses
        self.connection = FrontConnection(self.front)
        self.connection.connection_made(self.wire)

    @property
    def handed_over(self) -> bytes:
        return self.general.received

    def finish(self, payload: bytes = b'{"ok":1}', *, failed: bool = False, log: bytes = b"") -> None:
        self.places.invocations[-1].finish(Result(payload=payload, failed=failed, log_tail=log))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    made = Registry(tmp_path_factory.mktemp("data"), region="us-east-1", account_id="123456789012")
    made.create("orders", handler="app.handler", code=LocalCode(folder=str(Path.cwd())))
    return made


@pytest.fixture
async def scene(registry: Registry) -> Scene:
    return Scene(registry)


async def test_a_plain_invoke_is_answered_here(scene: Scene) -> None:
    scene.connection.data_received(PLAIN)
    scene.finish()
    head, _, body = scene.wire.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-Amz-Executed-Version: $LATEST" in head
    assert b"X-Amz-Function-Error" not in head
    assert b"x-amzn-RequestId: " + scene.places.invocations[0].request_id.encode() in head
    assert body == b'{"ok":1}'
    assert scene.handed_over == b""


async def test_an_error_and_the_log_travel_in_headers(scene: Scene) -> None:
    scene.connection.data_received(LINE + b"Host: h\r\nX-Amz-Log-Type: Tail\r\nContent-Length: 0\r\n\r\n")
    assert scene.places.invocations[0].payload == b"{}"
    assert scene.places.invocations[0].wants_log
    scene.finish(b"{}", failed=True, log=b"hello")
    assert b"X-Amz-Function-Error: Unhandled\r\n" in scene.wire.written
    assert b"X-Amz-Log-Result: aGVsbG8=\r\n" in scene.wire.written


async def test_the_trace_header_is_taken_or_made(scene: Scene) -> None:
    scene.connection.data_received(
        LINE + b"Host: h\r\nX-Amzn-Trace-Id: Root=1\r\nContent-Length: 2\r\n\r\n{}"
    )
    scene.finish()
    scene.connection.data_received(PLAIN)
    given_one, made_one = (invocation.trace_id for invocation in scene.places.invocations)
    assert given_one == "Root=1"
    assert made_one.startswith("Root=1-")


async def test_a_trace_header_that_handlers_could_not_get_is_replaced(scene: Scene) -> None:
    scene.connection.data_received(PLAIN.replace(b"Host: h", b"Host: h\r\nX-Amzn-Trace-Id: \xff\xfe"))
    assert scene.places.invocations[0].trace_id.startswith("Root=1-")


async def test_a_second_request_waits_for_the_first_reply(scene: Scene) -> None:
    scene.connection.data_received(PLAIN + PLAIN[:30])
    scene.connection.data_received(PLAIN[30:])
    assert len(scene.places.invocations) == 1
    scene.finish()
    assert len(scene.places.invocations) == 2
    scene.finish()
    assert scene.wire.written.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /_tidemill/health HTTP/1.1\r\n",
        b"PUT /2015-03-31/functions/orders/code HTTP/1.1\r\n\r\n",
        b"POST /2015-03-31/functions HTTP/1.1\r\nHost: h\r\n\r\n",
        PLAIN.replace(b"orders", b"nothing"),
        PLAIN.replace(b"invocations", b"invocations?Qualifier=1"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN.replace(b"{}", b"{!"),
        PLAIN.replace(b"Host: h\r\n", b""),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 2"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: +2"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length : 2"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 99999999"),
        PLAIN.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"Host: h", b"Host: h\r\n folded: x"),
        PLAIN.replace(b"Host: h", b"Host: h\nInjected: x"),
        PLAIN.replace(b"Host: h", b"Host: h\r\nX-Amzn-Trace-Id: a\rInjected: x"),
        PLAIN.replace(b"Host: h", b"Host: evil.example:4582"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: " + b"2" * 5_000),
        PLAIN.replace(b"Host: h", b"Host: h\r\nExpect: 100-continue"),
        PLAIN.replace(b"Host: h", b"Host: h\r\nConnection: close"),
        PLAIN.replace(b"Host: h", b"Host: h\r\nOrigin: https://evil.example"),
        PLAIN.replace(b"Host: h", b"Host: h\r\nX-Amz-Invocation-Type: Event"),
        PLAIN.replace(b"Host: h", b"Host: h\r\nX-Amz-Log-Type: Head"),
        PLAIN.replace(b"Host: h", b"Host: h\r\nX-Amz-Client-Context: e30="),
        PLAIN.replace(b"Host: h", b"Host: h\r\nX-Long: " + b"x" * 20_000),
    ],
)
async def test_anything_else_is_handed_over_with_all_its_bytes(scene: Scene, request_bytes: bytes) -> None:
    scene.connection.data_received(request_bytes)
    assert scene.handed_over == request_bytes
    assert scene.wire.protocol is scene.general
    assert scene.wire.written == b""


async def test_a_throttled_request_is_handed_over(scene: Scene) -> None:
    scene.places.is_full = True
    scene.connection.data_received(PLAIN)
    assert scene.handed_over == PLAIN


async def test_a_function_deleted_meanwhile_hands_over_what_is_not_answered(scene: Scene) -> None:
    scene.connection.data_received(PLAIN + PLAIN)
    scene.places.invocations[0].finish(None)
    assert scene.handed_over == PLAIN + PLAIN


async def test_a_stopping_server_closes_idle_connections_now_and_busy_ones_later(scene: Scene) -> None:
    scene.connection.data_received(PLAIN)
    scene.front.stop()
    assert scene.wire.closings == 0
    scene.finish()
    assert scene.wire.closings == 1
    idle = FrontConnection(scene.front)
    idle.connection_made(wire := Wire())
    scene.front.stop()
    assert wire.closings == 1


async def test_a_client_that_went_away_disturbs_nothing(scene: Scene) -> None:
    scene.connection.data_received(PLAIN)
    scene.connection.connection_lost(None)
    scene.finish()
    assert scene.wire.written == b""


@pytest.mark.parametrize(
    ("sent", "deadline_s"), [(PLAIN[:40], LIMITS.head_s), (PLAIN[:-1], LIMITS.body_s)], ids=["head", "body"]
)
async def test_a_request_that_stops_half_way_gets_408(scene: Scene, sent: bytes, deadline_s: float) -> None:
    scene.connection.data_received(sent)
    now_s = asyncio.get_running_loop().time()
    scene.connection.end_if_overdue(now_s + deadline_s - 1)
    assert scene.wire.closings == 0
    scene.connection.end_if_overdue(now_s + deadline_s + 1)
    assert scene.wire.written.startswith(b"HTTP/1.1 408 ")
    assert scene.wire.closings == 1


async def test_an_idle_connection_is_closed_without_a_word_in_the_end(scene: Scene) -> None:
    scene.connection.data_received(PLAIN)
    scene.finish()
    answered = len(scene.wire.written)
    now_s = asyncio.get_running_loop().time()
    scene.connection.end_if_overdue(now_s + LIMITS.keep_alive_s - 1)
    assert scene.wire.closings == 0
    scene.connection.end_if_overdue(now_s + LIMITS.keep_alive_s + 1)
    assert scene.wire.closings == 1
    assert len(scene.wire.written) == answered


async def test_a_client_that_does_not_read_gets_no_more_replies_and_is_aborted(scene: Scene) -> None:
    """Its replies, of 6 MB each, would pile up in memory."""
    scene.connection.data_received(PLAIN)
    scene.connection.pause_writing()
    scene.finish()
    scene.connection.data_received(PLAIN)
    assert len(scene.places.invocations) == 1
    now_s = asyncio.get_running_loop().time()
    scene.connection.end_if_overdue(now_s + 1)
    scene.connection.end_if_overdue(now_s + LIMITS.body_s + 2)
    assert scene.wire.abortions == 1


async def test_a_client_that_reads_on_is_served_on(scene: Scene) -> None:
    scene.connection.data_received(PLAIN)
    scene.connection.pause_writing()
    scene.finish()
    scene.connection.data_received(PLAIN)
    scene.connection.resume_writing()
    assert len(scene.places.invocations) == 2


@given(
    pieces=st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([PLAIN, LINE, b"\r\n"])), max_size=8)
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_sent_is_answered_or_handed_over(registry: Registry, pieces: list[bytes]) -> None:
    """Nothing is raised, and no byte is lost between the two servers."""

    async def send() -> None:
        scene = Scene(registry)
        for piece in pieces:
            if scene.wire.protocol is None:
                scene.connection.data_received(piece)
                if scene.wire.protocol is None and scene.connection._is_busy:
                    scene.finish()
            else:
                scene.general.data_received(piece)
        answered = b"".join([PLAIN] * scene.wire.written.count(b"HTTP/1.1 200"))
        waiting = b"" if scene.wire.protocol else bytes(scene.connection._received)
        assert len(answered) + len(scene.handed_over) + len(waiting) == len(b"".join(pieces))

    asyncio.run(send())


async def test_payloads_count_among_the_bodies_of_all_connections(registry: Registry) -> None:
    """Thousands of connections may send 6 MB each; what has no room is told to come again."""
    scene = Scene(registry)
    scene.table.bodies.bytes_max = 1_000_000
    large = LINE + b"Host: h\r\nContent-Length: 900000\r\n\r\n" + b"{" * 899_999
    scene.connection.data_received(large)
    other = Scene(registry)
    late = FrontConnection(scene.front)
    late.connection_made(other.wire)
    late.data_received(large)
    assert other.wire.written.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in other.wire.written
    assert other.wire.closings == 1
    late.connection_lost(None)
    scene.connection.connection_lost(None)
    assert scene.table.bodies.held_bytes == 0


async def test_a_payload_counts_until_its_invocation_is_done(scene: Scene) -> None:
    """Also when its client has gone."""
    scene.connection.data_received(
        LINE + b"Host: h\r\nContent-Length: 100000\r\n\r\n" + b" " * 99_998 + b"{}"
    )
    scene.connection.connection_lost(None)
    assert scene.table.bodies.held_bytes > 100_000
    scene.finish()
    assert scene.table.bodies.held_bytes == 0


@pytest.mark.parametrize(
    ("payload", "invocations"),
    [(b"[" + b"[]," * 400_000 + b"]", 1), (b"{" * 2_000_000, 1), (b'"' + b"," * 100_000, 0)],
    ids=["many values", "nothing but openings", "few values"],
)
async def test_a_payload_of_very_many_values_is_left_to_the_function(
    scene: Scene, payload: bytes, invocations: int
) -> None:
    """Reading two million values holds every other invocation up; none of these is JSON."""
    scene.connection.data_received(LINE + b"Host: h\r\nContent-Length: %d\r\n\r\n" % len(payload) + payload)
    assert len(scene.places.invocations) == invocations
