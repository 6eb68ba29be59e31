"""Speaks Lambda's Runtime API to one handler process: bytes of HTTP in, calls on its `Client` out.

Knows the five routes that awslambdaric uses and their limits; nothing of processes, time-outs and logs, which
are its caller's (environment.py). Each environment listens on a port of its own: awslambdaric's init/error
goes through http.client, which takes no path in AWS_LAMBDA_RUNTIME_API, so a path cannot tell slots apart.
Who else finds the port is known by the user that the kernel names for the connection.
Authority: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and awslambdaric's bootstrap.py.

See docs/decisions/0400 and 0406.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final, Protocol, cast

import httptools

from tidemill_functions.runtime.peers import peer_uid

logger = logging.getLogger(__name__)

# Lambda's limit for a response (peers.md 4.2): 6 MB and 100 bytes.
RESPONSE_BYTES_MAX: Final = 6_291_556

_ROOT: Final = b"/2018-06-01/runtime/"
_EXTENSIONS: Final = b"/2020-01-01/extension/"
_TELEMETRY: Final = b"/2022-07-01/telemetry"
_INVOCATION: Final = _ROOT + b"invocation/"
# As in AWS_LAMBDA_RUNTIME_API; another name is a page's that resolves to here.
_HOST: Final = re.compile(rb"127\.0\.0\.1(:[0-9]{1,5})?")
_PAGES_HEADERS: Final = frozenset({b"origin", b"sec-fetch-site"})
_HEAD_BYTES_MAX: Final = 1024 * 1024 + 64 * 1024  # awslambdaric's X-Ray cause header alone may be 1 MB


class Client(Protocol):
    """What a handler process asks and tells. Called on the event loop; must not block and must not raise."""

    def next_asked(self, connection: RuntimeConnection) -> None:
        """Take note that the process waits for an invocation: `connection.deliver` sends it, now or later."""

    def expects(self, request_id: str) -> bool:
        """Return whether this is the invocation in flight."""

    def answered(self, body: bytes, *, failed: bool) -> None:
        """Take the response or the error of the invocation in flight."""

    def answer_too_large(self) -> None:
        """Take note that the response in flight was above the limit, and was rejected."""

    def init_failed(self, body: bytes) -> None:
        """Take note that the handler could not be loaded; the body is the error document."""


class RuntimeConnection(asyncio.Protocol):
    """One connection of a handler process."""

    def __init__(self, client: Client, uid: int | None = None) -> None:
        self._client = client
        self._uid = uid  # the only user that may speak here; None for every user of the machine
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._is_page = False
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    def deliver(self, head: bytes, payload: bytes) -> bool:
        """Answer the pending `next` with these header lines and payload; False if the process hung up."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        transport.writelines(
            (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
                head,
                b"Content-Length: %d\r\n\r\n" % len(payload),
                payload,
            )
        )
        return True

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back, and hang up on another environment's process."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        if self._uid is not None:
            own, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
            found = None if own is None or peer is None else peer_uid(own, peer)
            if found != self._uid:
                logger.warning("runtime api connection rejected uid=%s expected=%d", found, self._uid)
                self._close()

    def data_received(self, data: bytes) -> None:
        """Parse; what is no HTTP, or has no end, ends this connection and nothing else."""
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._close()
        if self._head_bytes > _HEAD_BYTES_MAX:
            self._close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget the connection; the operating system reports the exit."""
        self._transport = None

    # httptools' callbacks

    def on_url(self, url: bytes) -> None:
        """Collect the URL, which may come in parts."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Look for a browser: any page can reach this port, and must not take invocations from handlers."""
        name = name.lower()
        self._is_page |= name in _PAGES_HEADERS or (name == b"host" and not _HOST.fullmatch(value))

    def on_body(self, data: bytes) -> None:
        """Keep a body up to the limit; count the rest."""
        self._head_bytes -= len(data)
        self._body_bytes += len(data)
        if self._body_bytes <= RESPONSE_BYTES_MAX:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """Route a request that is complete."""
        url, body, too_large = self._url, b"".join(self._body), self._body_bytes > RESPONSE_BYTES_MAX
        self._url, self._body, self._body_bytes, self._head_bytes = b"", [], 0, 0
        method = self._parser.get_method()
        if self._is_page:
            self._close()
        elif method == b"GET" and url == _INVOCATION + b"next":
            self._client.next_asked(self)
        elif method == b"POST" and url.startswith(_INVOCATION):
            self._take_answer(url, body, too_large=too_large)
        elif method == b"POST" and url == _ROOT + b"init/error":
            self._client.init_failed(body)
            self._accept()
        elif url.startswith((_EXTENSIONS, _TELEMETRY)):
            message = b"Extensions and the Telemetry API are not built in Tidemill: run without them."
            self._refuse(b"501 Not Implemented", message, b"Extension.NotBuilt")
        else:
            self._refuse(b"404 Not Found", b"No such route of the Runtime API", b"InvalidRoute")

    def _take_answer(self, url: bytes, body: bytes, *, too_large: bool) -> None:
        request_id, _, kind = url[len(_INVOCATION) :].decode("ascii", "replace").partition("/")
        if kind not in ("response", "error"):
            self._refuse(b"404 Not Found", b"No such route of the Runtime API", b"InvalidRoute")
        elif not self._client.expects(request_id):
            self._refuse(b"400 Bad Request", b"Invalid request ID", b"InvalidRequestID")
        elif too_large:
            message = b"Exceeded maximum allowed payload size (%d bytes)." % RESPONSE_BYTES_MAX
            self._refuse(b"413 Payload Too Large", message, b"RequestEntityTooLarge")
            self._client.answer_too_large()
        else:
            # First, for the process needs longer to ask for the next invocation than a caller to send it.
            self._accept()
            self._client.answered(body, failed=kind == "error")

    def _accept(self) -> None:
        self._write(
            b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
            b'{"status":"OK"}\n'
        )

    def _refuse(self, status: bytes, message: bytes, error_type: bytes) -> None:
        body = b'{"errorMessage":"%s","errorType":"%s"}\n' % (message, error_type)
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._write(head % (status, len(body)) + body)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
