"""Serves a WSGI application from the event loop: requests come in whole, and each is answered in a thread.

Knows no moto. Authority: PEP 3333. The connections' bounds are tidemill_awsapi's; a length or a chunk is
believed only as far as its bytes have come.
"""

import asyncio
import io
import logging
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from aiohttp import web
from multidict import CIMultiDict

from tidemill_awsapi import RETRY_AFTER_S, OverBudget, keep_bytes_out_of_logs, read_as_sent
from tidemill_local.aws.documents import rejection
from tidemill_local.aws_errors import AwsError, reply_of, unavailable

logger = logging.getLogger(__name__)

# S3 takes 5 GB in one PUT, and all of it lies in memory here: SDKs send large objects in parts of 8 MB.
BODY_BYTES_MAX: Final = 512 * 1024 * 1024
# A long poll of SQS keeps one for up to 20 s.
_THREADS_MAX: Final = 256
# About one connection only, or written by aiohttp.
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "trailer"})


def application(wsgi: WSGIApplication, *, body_bytes_max: int = BODY_BYTES_MAX) -> web.Application:
    """The aiohttp application that answers every request by a WSGI application."""
    keep_bytes_out_of_logs(logger)
    made = web.Application(client_max_size=body_bytes_max)
    made.router.add_route("*", "/{path:.*}", _Bridge(wsgi).answer)
    return made


class _Bridge:
    """Carries requests and replies between the event loop and threads."""

    def __init__(self, wsgi: WSGIApplication) -> None:
        self._wsgi = wsgi
        self._threads = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="request")

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        if "Host" not in request.headers or not request.raw_path.startswith("/"):
            raise web.HTTPBadRequest(text="Give a Host header, and request a path, such as GET /bucket.\n")
        try:
            body = await read_as_sent(request)
        except (web.RequestPayloadError, ConnectionError):
            raise web.HTTPBadRequest(text="The body is malformed or was cut short.\n") from None
        except OverBudget:
            message = "Too many large requests at once; retry it."
            return _rejected(request, unavailable(message, retry_after_s=RETRY_AFTER_S))
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._work, request, body)

    def _work(self, request: web.Request, body: bytes) -> web.Response:
        """Answer a whole request, in a thread."""
        error = rejection(request.method, request.raw_path.partition("?")[2], request.headers, body)
        return self._run(_environ(request, body)) if error is None else _rejected(request, error)

    def _run(self, environ: WSGIEnvironment) -> web.Response:
        """Call the application."""
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        written: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
            begun.append((status, headers))
            return written.append

        try:
            chunks = self._wsgi(environ, start_response)
            try:
                written.extend(chunks)
            finally:
                if hasattr(chunks, "close"):
                    chunks.close()
            # A later call replaces what an earlier one said.
            return _reply(*begun[-1], b"".join(written))
        except Exception:
            logger.exception("request failed method=%s", environ["REQUEST_METHOD"])
            return web.Response(status=500, text="The embedded AWS failed; its log says why.\n")


def _rejected(request: web.Request, error: AwsError) -> web.Response:
    query_string = request.raw_path.partition("?")[2]
    reply = reply_of(error, request.headers, query_string, str(uuid.uuid4()))
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


def _environ(request: web.Request, body: bytes) -> WSGIEnvironment:
    path, _, query = request.raw_path.partition("?")
    host, port = request.transport.get_extra_info("sockname")[:2] if request.transport else ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(_bytes(path)).decode("latin-1"),
        "QUERY_STRING": _bytes(query).decode("latin-1"),
        # What moto reads to see %2F in an object's key.
        "REQUEST_URI": _bytes(request.raw_path).decode("latin-1"),
        "RAW_URI": _bytes(request.raw_path).decode("latin-1"),
        "REMOTE_ADDR": request.remote or "",
        "SERVER_NAME": str(host),
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    return environ | _header_variables(request) | {"CONTENT_LENGTH": str(len(body))}


def _header_variables(request: web.Request) -> dict[str, Any]:
    """The headers as WSGI has them; repeated ones joined, those with an underscore left to moto's own names.

    WSGI cannot tell X_Foo from X-Foo, so one could pass for the other. S3's metadata may hold underscores:
    moto finds their spelling where its own server keeps it.
    """
    variables: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    underscored: dict[str, str] = {}
    for raw_name, raw_value in request.raw_headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        key = _variable(name)
        if "_" not in name:
            variables[key] = f"{variables[key]},{value}" if key in variables else value
        elif name.lower().startswith("x-amz-meta-"):
            spelt.setdefault(key, name)
            underscored[key] = f"{underscored[key]},{value}" if key in underscored else value
    # The body is whole: nothing of it is chunked any more.
    variables.pop("HTTP_TRANSFER_ENCODING", None)
    names = {key: name for key, name in spelt.items() if key not in variables}
    return {**underscored, **variables, "moto.preserved_header_names": names}


def _variable(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


def _reply(status: str, headers: list[tuple[str, str]], body: bytes) -> web.Response:
    code, _, reason = status.partition(" ")
    kept = CIMultiDict(
        (name, value.encode("latin-1", "replace").decode("utf-8", "replace"))
        for name, value in headers
        if name.lower() not in _HOP_BY_HOP
    )
    return web.Response(status=int(code), reason=reason or None, headers=kept, body=body)


def _bytes(text: str) -> bytes:
    """What aiohttp read as UTF-8, as it came."""
    return text.encode("utf-8", "surrogateescape")
