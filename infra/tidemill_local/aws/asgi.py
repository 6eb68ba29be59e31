"""Serves an ASGI application from aiohttp's server: requests come in whole, replies go out as they are made.

Knows no ministack. Authority: the ASGI specification, HTTP & WebSocket 2.4. The connections' bounds are
tidemill_awsapi's.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from aiohttp import web
from multidict import CIMultiDict

from tidemill_awsapi import RETRY_AFTER_S, OverBudget, keep_bytes_out_of_logs, read_as_sent
from tidemill_local.aws.documents import rejection
from tidemill_local.aws_errors import AwsError, reply_of, unavailable

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
AsgiApplication = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
# Reading a document takes about 10 ms a megabyte, and the loop serves others meanwhile.
_READ_IN_THREAD_BYTES: Final = 128 * 1024
# About one connection only, or written by aiohttp.
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "trailer"})
# The body is whole: nothing of it is chunked any more.
_CHUNKED: Final = frozenset({b"transfer-encoding"})


# Called around each request: at its begin, and with what that returned before the reply is sent.
Around = tuple[Callable[[], Any], Callable[[Any], AwsError | None]]
NOTHING_AROUND: Final[Around] = (lambda: None, lambda _begun: None)


def asgi_handler(
    asgi: AsgiApplication, around: Around = NOTHING_AROUND
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the aiohttp handler that answers every request by an ASGI application.

    An error that ``around`` returns is the reply.
    """
    begin, end = around
    keep_bytes_out_of_logs(logger)

    async def answer(request: web.Request) -> web.StreamResponse:
        if "Host" not in request.headers or not request.raw_path.startswith("/"):
            raise web.HTTPBadRequest(text="Give a Host header, and request a path, such as GET /bucket.\n")
        try:
            body = await read_as_sent(request)
        except (web.RequestPayloadError, ConnectionError):
            raise web.HTTPBadRequest(text="The body is malformed or was cut short.\n") from None
        except OverBudget:
            message = "Too many large requests at once; retry it."
            return _rejected(request, unavailable(message, retry_after_s=RETRY_AFTER_S))
        error = await _checked(request, body)
        if error is not None:
            return _rejected(request, error)
        begun = begin()
        reply = await _Exchange(request, body).run(asgi)
        error = end(begun)
        return reply if error is None or reply.prepared else _rejected(request, error)

    return answer


async def _checked(request: web.Request, body: bytes) -> AwsError | None:
    arguments = (request.method, request.raw_path.partition("?")[2], request.headers, body)
    if len(body) < _READ_IN_THREAD_BYTES:
        return rejection(*arguments)
    return await asyncio.to_thread(rejection, *arguments)


class _Exchange:
    """One request and its reply: whole if the application sends it in one piece, else as it comes."""

    def __init__(self, request: web.Request, body: bytes) -> None:
        self._request = request
        self._body: bytes | None = body
        self._start: Message | None = None
        self._reply: web.StreamResponse | None = None
        self._is_over = asyncio.Event()

    async def run(self, asgi: AsgiApplication) -> web.StreamResponse:
        """Answer the request; 500 if the application fails before it answered."""
        try:
            await asgi(_scope(self._request), self._receive, self._send)
        except Exception:
            logger.exception("request failed method=%s", self._request.method)
        if self._reply is None:
            return web.Response(status=500, text="The embedded AWS failed; its log says why.\n")
        return self._reply

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        # Who is gone cancels this request's task, and with it the application.
        await self._is_over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        assert self._start is not None
        piece, is_last = message.get("body", b""), not message.get("more_body", False)
        if self._reply is None and is_last:
            self._reply = _whole(self._start, piece)
        else:
            await self._stream(self._start, piece, is_last=is_last)
        if is_last:
            self._is_over.set()

    async def _stream(self, start: Message, piece: bytes, *, is_last: bool) -> None:
        if self._reply is None:
            self._reply = web.StreamResponse(status=start["status"], headers=_headers(start))
            await self._reply.prepare(self._request)
        if piece:
            await self._reply.write(piece)
        if is_last:
            await self._reply.write_eof()


def _whole(start: Message, body: bytes) -> web.Response:
    return web.Response(status=start["status"], headers=_headers(start), body=body)


def _rejected(request: web.Request, error: AwsError) -> web.Response:
    query_string = request.raw_path.partition("?")[2]
    reply = reply_of(error, request.headers, query_string, str(uuid.uuid4()))
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


def _scope(request: web.Request) -> Message:
    # aiohttp's parser has let ASCII through only.
    path, _, query = request.raw_path.encode().partition(b"?")
    transport = request.transport
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [
            (name.lower(), value) for name, value in request.raw_headers if name.lower() not in _CHUNKED
        ],
        "client": transport and transport.get_extra_info("peername")[:2],
        "server": transport and transport.get_extra_info("sockname")[:2],
    }


def _headers(start: Message) -> CIMultiDict[str]:
    return CIMultiDict(
        (name.decode("latin-1"), value.decode("utf-8", "replace"))
        for name, value in start["headers"]
        if name.decode("latin-1").lower() not in _HOP_BY_HOP
    )
