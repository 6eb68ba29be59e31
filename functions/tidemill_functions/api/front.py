"""The listening side: answers plain Invoke requests itself, gives every other connection to aiohttp.

Invoke is the hot path, and a general HTTP server costs more than all the rest of it. So one request form is
read here, the one that SDKs and the poller send: RequestResponse to a function that exists, with a
Content-Length and without anything unusual. The first request on a connection that is not of this form, or
that would be refused, is handed over with all its bytes, and the connection is aiohttp's from then on: there
tidemill_awsapi answers it in Lambda's words. Nothing is decided here that is decided differently there.

See docs/decisions/0401.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import unquote_to_bytes

from tidemill_awsapi import OVER_BUDGET, TIMED_OUT, ApiError, BodyAccount, ConnectionTable, is_public_name
from tidemill_functions.api.invoke import REQUEST_BYTES_MAX, accepted_trace_id, check_json
from tidemill_functions.api.lookup import find_function, invoked_arn
from tidemill_functions.code.registry import Registry
from tidemill_functions.errors import TooManyInvocations
from tidemill_functions.runtime.environment import Invocation, Result
from tidemill_functions.runtime.pool import Pool

MakeConnection = Callable[[], asyncio.Protocol]

_REQUEST_LINE: Final = re.compile(rb"POST /2015-03-31/functions/([^/?\s]+)/invocations HTTP/1\.1\r\n")
_START: Final = b"POST /2015-03-31/functions/"
_NAME: Final = re.compile(rb"[!#-'*+.^-z|~0-9-]+")  # RFC 9110's token, in lower case
_HEAD_BYTES_MAX: Final = 16 * 1024
_LENGTH_DIGITS_MAX: Final = 20  # int() raises for thousands of them
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Amz-Executed-Version: %s\r\n"
# A request with one of these is aiohttp's: other framing, other semantics, or a browser's.
_UNUSUAL: Final = frozenset(
    {
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"origin",
        b"sec-fetch-site",
        b"content-encoding",
        b"x-amz-client-context",
        b"x-amz-tenant-id",
        b"x-amz-durable-execution-name",
    }
)


class Front:
    """What all connections share, and their end."""

    def __init__(
        self, registry: Registry, pool: Pool, general: MakeConnection, connections: ConnectionTable
    ) -> None:
        self.registry = registry
        self.pool = pool
        self.general = general  # makes aiohttp's protocol for one connection
        self.table = connections
        self.connections: set[FrontConnection] = set()
        self.is_stopping = False

    def stop(self) -> None:
        """Close idle connections now and busy ones after their reply."""
        self.is_stopping = True
        for connection in list(self.connections):
            connection.close_if_idle()


class FrontConnection(asyncio.Protocol):
    """One client's connection, as long as it sends nothing but plain Invoke requests."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        # A request stays here until it is answered, so that it can still be handed over.
        self._received = bytearray()
        self._body = BodyAccount(front.table.bodies)
        self.heard_s = self._loop.time()
        # When the request began that is not whole; a connection without one yet began with the accept.
        self._begun_s: float | None = self.heard_s
        self._window_bytes = 0
        self._is_busy = False
        self._is_clogged = False  # the client does not read
        self._unread_bytes, self._unread_s = 0, self.heard_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self._front.connections.add(self)
        self._front.table.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget a client that has gone; what it invoked runs to its end."""
        self._transport = None
        self._leave()
        if not self._is_busy:
            self._body.release()

    def pause_writing(self) -> None:
        """Begin nothing more for a client that does not read what it got."""
        self._is_clogged = True

    def resume_writing(self) -> None:
        """Go on with what came meanwhile."""
        self._is_clogged = False
        if self._received and not self._is_busy:
            self._read_request()

    def data_received(self, data: bytes) -> None:
        """Collect a request; answer it, or hand the connection over."""
        self._received += data
        if not self._body.hold(len(self._received)):
            self._refuse(OVER_BUDGET)
            return
        self.heard_s = self._loop.time()
        self._window_bytes += len(data)
        if self._begun_s is None:
            self._begun_s, self._window_bytes = self.heard_s, len(data)
        if not (self._is_busy or self._is_clogged):
            self._read_request()
        elif len(self._received) > 2 * REQUEST_BYTES_MAX:
            self._close()  # pipelines without end

    def is_idle(self) -> bool:
        """Whether no invocation runs."""
        return not self._is_busy

    def end(self) -> None:
        """Close it now."""
        self._close()

    def end_if_overdue(self, now_s: float) -> None:
        """Close it when idle for long, or when a request does not go on; aiohttp's deadlines are the same."""
        limits = self._front.table.limits
        if self._is_busy:
            return
        if self._is_clogged:
            self._end_if_unread(now_s)
        elif self._begun_s is None:
            if now_s - self.heard_s > limits.keep_alive_s:
                self._close()
        elif b"\r\n\r\n" not in self._received:
            if now_s - self._begun_s > limits.head_s:
                self._time_out()
        elif now_s - self._begun_s > limits.body_s:
            if self._window_bytes < limits.body_bytes_min:
                self._time_out()
            self._begun_s, self._window_bytes = now_s, 0

    def close_if_idle(self) -> None:
        """Close unless an invocation runs."""
        if not self._is_busy:
            self._close()

    def _read_request(self) -> None:
        received = self._received
        head_end = received.find(b"\r\n\r\n", 0, _HEAD_BYTES_MAX)
        if head_end < 0:
            # What cannot become an Invoke is not waited for.
            if len(received) >= _HEAD_BYTES_MAX or not received.startswith(_START[: len(received)]):
                self._hand_over()
            return
        head = _read_head(bytes(received[: head_end + 2]))
        if head is None:
            self._hand_over()
            return
        end = head_end + 4 + head.length
        if len(received) >= end and not self._start(head, bytes(received[head_end + 4 : end]), end):
            self._hand_over()

    def _start(self, head: _Head, payload: bytes, end: int) -> bool:
        """Begin the invocation; False if it would be refused."""
        try:
            reference = unquote_to_bytes(head.function).decode()
            function = find_function(self._front.registry, reference)
            if payload:
                check_json(payload)
        except (ApiError, ValueError):
            return False
        invocation = Invocation(
            payload=payload or b"{}",
            finish=lambda result: self._reply(invocation, result, end, function.version),
            arn=invoked_arn(self._front.registry, function, reference, None) if ":" in reference else "",
            trace_id=accepted_trace_id(head.trace_id),
            caller_trace=head.trace_id,
            wants_log=head.wants_log,
        )
        self._is_busy, self._begun_s = True, None
        self._front.table.completed(self)
        try:
            self._front.pool.submit(function, invocation)
        except TooManyInvocations:
            self._is_busy = False
        return self._is_busy

    def _reply(self, invocation: Invocation, result: Result | None, end: int, version: str) -> None:
        self._is_busy = False
        if self._transport is None:
            self._body.release()
            return
        if result is None:  # deleted meanwhile: tidemill_awsapi says so
            self._hand_over()
            return
        self._transport.write(_response(invocation, result, version))
        del self._received[:end]
        self._body.hold(len(self._received))
        if self._front.is_stopping:
            self._close()
        elif self._received:
            self._begun_s, self._window_bytes = self._loop.time(), 0
            if not self._is_clogged:
                self._read_request()
        else:
            self._begun_s = None

    def _hand_over(self) -> None:
        """Give the connection to aiohttp, with all that is not answered."""
        transport, protocol = self._transport, self._front.general()
        if transport is None:
            return
        self._leave()
        self._body.release()
        self._transport = None
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        protocol.data_received(bytes(self._received))

    def _end_if_unread(self, now_s: float) -> None:
        assert self._transport is not None, "the table forgets a connection that is lost"
        unread_bytes = self._transport.get_write_buffer_size()
        if unread_bytes != self._unread_bytes:
            self._unread_bytes, self._unread_s = unread_bytes, now_s
        elif now_s - self._unread_s > self._front.table.limits.body_s:
            self._transport.abort()

    def _time_out(self) -> None:
        self._refuse(TIMED_OUT)

    def _refuse(self, reply: bytes) -> None:
        """Answer a request that is not complete, if one was begun and none is in work, and close."""
        if self._transport is not None and self._received and not self._is_busy:
            self._transport.write(reply)
        self._close()

    def _leave(self) -> None:
        self._front.connections.discard(self)
        self._front.table.discard(self)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What a plain Invoke request says before its payload."""

    function: bytes  # as in the path, escapes and all
    length: int
    trace_id: str
    wants_log: bool


def _read_head(head: bytes) -> _Head | None:
    """Read a request line and headers, CRLF included; None if they are not those of a plain Invoke."""
    line = _REQUEST_LINE.match(head)
    if line is None or b"\0" in head:
        return None
    if not head.count(b"\n") == head.count(b"\r") == head.count(b"\r\n"):
        return None
    headers: dict[bytes, bytes] = {}
    for field in head[line.end() : -2].split(b"\r\n"):
        name, colon, value = field.partition(b":")
        name = name.lower()
        if not colon or not _NAME.fullmatch(name) or name in _UNUSUAL or name in headers:
            return None
        headers[name] = value.strip(b" \t")
    length = headers.get(b"content-length", b"")
    is_plain = (
        length.isdigit()
        and len(length) <= _LENGTH_DIGITS_MAX
        and int(length) <= REQUEST_BYTES_MAX
        and b"host" in headers
        and not is_public_name(headers[b"host"].decode("latin-1"))
        and headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        and headers.get(b"x-amz-invocation-type", b"RequestResponse") == b"RequestResponse"
        and headers.get(b"x-amz-log-type", b"None") in (b"None", b"Tail")
    )
    if not is_plain:
        return None
    return _Head(
        function=line[1],
        length=int(length),
        trace_id=headers.get(b"x-amzn-trace-id", b"").decode("latin-1"),
        wants_log=headers.get(b"x-amz-log-type") == b"Tail",
    )


def _response(invocation: Invocation, result: Result, version: str) -> bytes:
    error = b"X-Amz-Function-Error: Unhandled\r\n" if result.failed else b""
    log = b"X-Amz-Log-Result: %s\r\n" % base64.b64encode(result.log_tail) if invocation.wants_log else b""
    request_id = invocation.request_id.encode()
    ending = b"x-amzn-RequestId: %s\r\nContent-Length: %d\r\n\r\n" % (request_id, len(result.payload))
    return b"".join((_OK % version.encode(), error, log, ending, result.payload))
