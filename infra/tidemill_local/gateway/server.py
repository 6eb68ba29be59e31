"""Owns the one endpoint: every request is streamed to the program that answers it, untouched.

Started by the launcher as a process of its own, on a socket that the launcher keeps: a gateway that is
started again has the same port, and callers wait meanwhile. Adds no work to bodies; keeps raw paths and
headers, for SigV4 signs them, Host included.

See docs/decisions/0801.
"""

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import aiohttp
from aiohttp import HttpVersion11, web
from multidict import CIMultiDict
from yarl import URL

from tidemill_awsapi import credential_scope, keep_bytes_out_of_logs, refuse_foreign_pages
from tidemill_local.aws_errors import reply_of, unavailable
from tidemill_local.gateway import localstack
from tidemill_local.gateway.routes import Upstream, upstream_of

logger = logging.getLogger(__name__)

# An Invoke answers within 15 minutes; a minute more for queueing.
INVOKE_TIMEOUT_S: Final = 16 * 60
CONNECT_TIMEOUT_S: Final = 5
CONNECTIONS_MAX: Final = 1024
HEALTH_TIMEOUT_S: Final = 2
# RFC 9110 section 7.6.1: these are about one connection only. The server has answered Expect itself.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# What aiohttp's client would add to a request by itself.
_NEVER_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_NO_BODY_STATUSES = frozenset({204, 304})


class Gateway:
    """Forwards each request to one of the upstreams by name."""

    def __init__(self, upstreams: Mapping[Upstream, URL]) -> None:
        self._upstreams = upstreams
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """The aiohttp application; serve it by ``http_server``, which inflates no bodies."""
        keep_bytes_out_of_logs(logger)
        application = web.Application(middlewares=[refuse_foreign_pages])
        application.router.add_get("/_tidemill/health", self._health)
        for path in (*localstack.PATHS, "/health"):
            application.router.add_get(path, self._localstack)
        application.router.add_route("*", "/{path:.*}", self._forward)
        application.cleanup_ctx.append(self._client)
        return application

    async def _client(self, _application: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=INVOKE_TIMEOUT_S
        )
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NEVER_ADDED,
        ) as self._session:
            yield

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        if not request.raw_path.startswith("/"):
            # An absolute or authority form is for proxies; put behind an upstream's address it names another.
            raise web.HTTPBadRequest(text="This is not a proxy: request a path, such as GET /bucket.\n")
        raw_path, _, query_string = request.raw_path.partition("?")
        upstream = upstream_of(raw_path, query_string, request.headers)
        if upstream is None:
            raise web.HTTPNotFound(text=f"Tidemill has no route {raw_path}.\n")
        target = str(self._upstreams[upstream]).rstrip("/") + request.raw_path
        try:
            async with self._session.request(
                request.method,
                URL(target, encoded=True),
                headers=_forwarded(request.headers),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            ) as answer:
                return await _stream_back(request, answer)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            if request.content.exception() is not None:
                raise web.HTTPBadRequest(text="The body is malformed or was cut short.\n") from None
            logger.warning("no answer upstream=%s path=%s error=%s", upstream, raw_path, type(error).__name__)
            return _no_answer(request, upstream, query_string)

    async def _health(self, _request: web.Request) -> web.Response:
        """Whether each upstream takes connections; 200 only when all do."""
        states = await self._states()
        return _document({"programs": states}, states)

    async def _localstack(self, request: web.Request) -> web.StreamResponse:
        """What LocalStack says of itself; a signed request means a bucket or a service that is called so."""
        raw_path, _, query_string = request.raw_path.partition("?")
        if credential_scope(request.headers, query_string) is not None:
            return await self._forward(request)
        states = await self._states()
        found = localstack.document(raw_path, states)
        if found is None:
            raise web.HTTPNotFound(text=f"Tidemill has no route {raw_path}.\n")
        return _document(found, states)

    async def _states(self) -> Mapping[str, str]:
        names = list(self._upstreams)
        async with asyncio.TaskGroup() as group:
            probes = [group.create_task(_takes_connections(self._upstreams[name])) for name in names]
        return {name: "up" if probe.result() else "down" for name, probe in zip(names, probes, strict=True)}


def _document(content: Mapping[str, Any], states: Mapping[str, str]) -> web.Response:
    status = 200 if all(state == "up" for state in states.values()) else 503
    return web.Response(status=status, text=json.dumps(content), content_type="application/json")


async def _stream_back(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    reply = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_forwarded(answer.headers))
    has_length = "Content-Length" in answer.headers or answer.status in _NO_BODY_STATUSES
    # HTTP/1.0 knows no chunks: there the end of the connection ends the body.
    if not has_length and request.version >= HttpVersion11:
        reply.enable_chunked_encoding()
    try:
        await reply.prepare(request)
        async for chunk in answer.content.iter_any():
            await reply.write(chunk)
        await reply.write_eof()
    except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, TimeoutError) as error:
        # The head is out: all that is left to say is that the rest will not come.
        logger.warning("reply cut short path=%s error=%s", request.path, type(error).__name__)
        if request.transport is not None:
            request.transport.abort()
    return reply


def _forwarded(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers without those of the connection; repeated ones stay repeated."""
    listed = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    dropped = _HOP_BY_HOP | listed
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


def _no_answer(request: web.Request, upstream: Upstream, query_string: str) -> web.Response:
    message = f"The {upstream} program behind this endpoint does not answer; it is started again. Retry soon."
    reply = reply_of(unavailable(message), request.headers, query_string, str(uuid.uuid4()))
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


async def _takes_connections(url: URL) -> bool:
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            _, writer = await asyncio.open_connection(url.host, url.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
