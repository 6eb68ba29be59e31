"""Owns what silence and numbers may cost an HTTP server: deadlines and bounds of its connections.

Knows no application. aiohttp alone waits an hour for a request that does not come, and for ever for the rest
of one; its connections are as many as the process may open files, and then nobody is accepted.
"""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from aiohttp import web

from tidemill_awsapi.body_budget import BodyAccount, BodyBudget

_Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_FILES_OF_OTHERS: Final = 128
_SWEEP_S: Final = 1.0
# Closes what it answers, for the rest of the request may still come.
TIMED_OUT: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_SMALL_CHUNKS: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
# Each chunk costs time, whatever it holds. 64 KiB of framing are some 10,000 chunks; from there on the
# framing may be an eighth of the content, which chunks of 64 bytes stay below.
_FRAMING_BYTES: Final = 64 * 1024
_CONTENT_PER_FRAMING: Final = 8
_PARSED_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one server grants its clients."""

    # From the accept, or from a later request's first byte, to the end of its headers.
    head_s: float = 10.0
    # In each such time a body that is not complete brings body_bytes_min, and a reply is read on.
    body_s: float = 30.0
    body_bytes_min: int = 1024
    # SDKs keep connections in a pool, and must not meet a close while they send.
    keep_alive_s: float = 600.0
    # Connections without one complete request: the longest silent makes room for a new one.
    waiting_max: int = 256
    # All connections; beyond it the longest idle makes room.
    connections_max: int = 4096
    # All bodies that are being read or worked on, beyond small ones: else 503.
    bodies_bytes_max: int = 512 * 1024 * 1024


class Connection(Protocol):
    """One client's connection, as the table sees it."""

    heard_s: float

    def is_idle(self) -> bool:
        """Whether no complete request is in work."""

    def end(self) -> None:
        """Close it now."""

    def end_if_overdue(self, now_s: float) -> None:
        """Close it if one of its deadlines has passed."""


class ConnectionTable:
    """All connections of one server."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.bodies = BodyBudget(limits.bodies_bytes_max)
        self._most = min(limits.connections_max, _connections_by_files())
        self._all: set[Connection] = set()
        self._waiting: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: Connection) -> None:
        """Take a new connection in; if there are too many, another one or this one ends."""
        self._all.add(connection)
        self._waiting.add(connection)
        if len(self._waiting) > min(self.limits.waiting_max, self._most // 2):
            self._end_longest_silent(self._waiting, connection)
        if len(self._all) > self._most:
            idle = {one for one in self._all if one.is_idle()}
            self._end_longest_silent(idle, connection)

    def completed(self, connection: Connection) -> None:
        """Note that a whole request came: the connection is no longer one of the waiting."""
        self._waiting.discard(connection)

    def discard(self, connection: Connection) -> None:
        """Forget a connection."""
        self._all.discard(connection)
        self._waiting.discard(connection)

    def start_sweeping(self) -> None:
        """From now on end connections whose deadlines have passed."""
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep)

    def stop_sweeping(self) -> None:
        """Watch no deadline any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        now_s = self._loop.time()
        for connection in list(self._all):
            connection.end_if_overdue(now_s)
        self.start_sweeping()

    def _end_longest_silent(self, candidates: set[Connection], newcomer: Connection) -> None:
        victim = min(candidates - {newcomer}, key=lambda one: one.heard_s, default=newcomer)
        self.discard(victim)
        victim.end()


class BoundedConnection(web.RequestHandler):
    """aiohttp's connection with deadlines for heads, bodies, replies and idleness."""

    __slots__ = (
        "_fed_bytes",
        "_has_begun",
        "_head_s",
        "_payload",
        "_table",
        "_unread_bytes",
        "_window_bytes",
        "_window_s",
        "body",
        "heard_s",
    )

    def __init__(self, table: ConnectionTable, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        handle = manager.request_handler
        self._request_handler = partial(_answer_if_text, handle)
        self._table = table
        self.body = BodyAccount(table.bodies)
        self._payload: Any = None  # of the request that came last
        self._fed_bytes = 0  # since its head, framing included
        self.heard_s = self._loop.time()
        self._head_s: float | None = self.heard_s  # when the head began that is not complete
        self._has_begun = False
        self._window_s = self.heard_s
        self._window_bytes = 0
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection into the table."""
        super().connection_made(transport)
        self._table.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take it out again."""
        self._table.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, in steps in which small chunks are noticed."""
        if len(data) <= _PARSED_BYTES:
            self._parse(data)
            return
        for start in range(0, len(data), _PARSED_BYTES):
            self._parse(data[start : start + _PARSED_BYTES])

    def _parse(self, data: bytes) -> None:
        """Parse, and note how far the request is."""
        requests = self._request_count
        super().data_received(data)
        if data:
            self.heard_s, self._has_begun = self._loop.time(), True
            self._window_bytes += len(data)
        if self._request_count != requests and self._messages:
            self._payload = self._messages[-1][1]
            self._fed_bytes = 0
            self._head_s = None
            self._begin_window(self.heard_s)
        if not self._is_complete():
            self._fed_bytes += len(data)
            if self._is_mostly_framing():
                self._refuse(_SMALL_CHUNKS)
            return
        self._table.completed(self)
        if self._request_count == requests and self._head_s is None and data:
            self._head_s = self.heard_s

    def is_idle(self) -> bool:
        """Whether no complete request is in work."""
        return self._waiter is not None or not self._is_complete()

    def end(self) -> None:
        """Close it now."""
        self.force_close()

    def end_if_overdue(self, now_s: float) -> None:
        """Close it if one of its deadlines has passed; whoever began a request gets 408."""
        limits = self._table.limits
        if self._payload is not None and not self._payload.is_eof():
            if self._body_is_overdue(now_s, limits):
                self._time_out()
        elif self._waiter is None and self._payload is not None:
            self._end_if_unread(now_s, limits)
            if self._head_s is not None:
                self._head_s = now_s  # a pipelined request waits its turn
        elif self._head_s is not None:
            if now_s - self._head_s > limits.head_s:
                self._time_out()
        elif now_s - self.heard_s > limits.keep_alive_s:
            self.force_close()

    def _is_complete(self) -> bool:
        return self._payload is not None and bool(self._payload.is_eof())

    def _is_mostly_framing(self) -> bool:
        """Whether the body comes in chunks too small for their cost; not asked while the parser waits."""
        if self._payload is None or self._reading_paused or self._buffer_paused:
            return False
        content_bytes = self._payload.total_bytes
        framing_bytes = self._fed_bytes - content_bytes
        return bool(framing_bytes > _FRAMING_BYTES + content_bytes // _CONTENT_PER_FRAMING)

    def _begin_window(self, now_s: float) -> None:
        self._window_s, self._window_bytes = now_s, 0

    def _body_is_overdue(self, now_s: float, limits: ConnectionLimits) -> bool:
        if self._reading_paused or self._buffer_paused:
            self._begin_window(now_s)  # it is we who do not read
            return False
        if now_s - self._window_s <= limits.body_s:
            return False
        is_overdue = self._window_bytes < limits.body_bytes_min
        self._begin_window(now_s)
        return is_overdue

    def _end_if_unread(self, now_s: float, limits: ConnectionLimits) -> None:
        """Abort the connection of a client that does not read its reply."""
        transport = self.transport
        unread_bytes = transport.get_write_buffer_size() if transport is not None else 0
        if transport is None or unread_bytes == 0 or unread_bytes != self._unread_bytes:
            self._unread_bytes = unread_bytes
            self._begin_window(now_s)
        elif now_s - self._window_s > limits.body_s:
            transport.abort()

    def _time_out(self) -> None:
        self._refuse(TIMED_OUT)

    def _refuse(self, reply: bytes) -> None:
        """Answer a request that is not complete, unless it is answered, and close."""
        request = self._current_request
        is_answered = request is not None and request.writer.output_size > 0
        if self.transport is not None and self._has_begun and not is_answered:
            self.transport.write(reply)
        self.force_close()


async def _answer_if_text(handle: _Handle, request: web.BaseRequest) -> web.StreamResponse:
    """Answer a request whose line and headers are text.

    aiohttp decodes other bytes to surrogates, which can be written into no reply, request or file.
    """
    text = request.raw_path + "".join(request.headers.values())
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return web.Response(status=400, text="The request line and the headers must be UTF-8.\n")
    try:
        return await handle(request)
    finally:
        if isinstance(request.protocol, BoundedConnection):
            request.protocol.body.release()


class HttpServer:
    """Makes connections of one application; ``table`` may hold connections of other protocols too."""

    def __init__(self, manager: web.Server, limits: ConnectionLimits) -> None:
        self._manager = manager
        self._loop = asyncio.get_running_loop()
        self.table = ConnectionTable(limits)

    def __call__(self) -> BoundedConnection:
        """Make the protocol of one connection, for ``loop.create_server``."""
        return BoundedConnection(
            self.table, self._manager, loop=self._loop, access_log=None, auto_decompress=False
        )


DEFAULT_LIMITS: Final = ConnectionLimits()


@asynccontextmanager
async def http_server(
    application: web.Application, *, drain_s: float, limits: ConnectionLimits = DEFAULT_LIMITS
) -> AsyncIterator[HttpServer]:
    """Serve an application on the sockets that the caller opens; they must be closed before this ends.

    Requests in work get ``drain_s`` at the end. Bodies reach the application as they were sent: read_body
    inflates them.
    """
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=drain_s)
    await runner.setup()
    assert runner.server is not None
    server = HttpServer(runner.server, limits)
    server.table.start_sweeping()
    try:
        yield server
    finally:
        server.table.stop_sweeping()
        await runner.cleanup()


def allow_many_files() -> None:
    """Take as many file descriptors as the system lets us: each connection needs one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _connections_by_files() -> int:
    """Half of the descriptors: a gateway's connection needs another one behind it."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return DEFAULT_LIMITS.connections_max
    return max(2, (files - _FILES_OF_OTHERS) // 2)
