"""Owns the reading of a request's body: how large it may be, also once it is inflated.

Inflates in steps between which others are served, and stops as soon as the limit is passed; aiohttp inflates
all of it first. gzip and deflate are read; another coding is 415.
"""

import asyncio
import zlib
from collections.abc import Iterator
from typing import Final

from aiohttp import web

from tidemill_awsapi.body_budget import RETRY_AFTER_S
from tidemill_awsapi.connections import BoundedConnection
from tidemill_awsapi.errors import ApiError

_FED_BYTES: Final = 64 * 1024
_STEP_BYTES: Final = 1024 * 1024
# Lambda's largest documents are one long text, the code, and a few hundred values.
_VALUES_MAX: Final = 100_000
# zlib's names for the formats: the window's size, and 16 more for gzip's header; negative without a header.
_GZIP: Final = 16 + zlib.MAX_WBITS
_DEFLATE: Final = zlib.MAX_WBITS
_BARE_DEFLATE: Final = -zlib.MAX_WBITS


class OverBudget(Exception):
    """All bodies together would be too large: 503."""


async def read_as_sent(request: web.Request) -> bytes:
    """Return the whole body as it was sent.

    Raises HTTPRequestEntityTooLarge beyond the application's ``client_max_size``, OverBudget beyond what the
    server keeps of all bodies, RequestPayloadError or ConnectionError if it is malformed or cut short.
    """
    _check_size(request, request.content_length or 0)
    pieces: list[bytes] = []
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
        _check_size(request, size)
        pieces.append(piece)
    return b"".join(pieces)


def _check_size(request: web.Request, size: int, *, beside_bytes: int = 0) -> None:
    """Check a body's size so far; the budget counts what is kept beside it too."""
    limit = request.client_max_size
    if size > limit:
        raise web.HTTPRequestEntityTooLarge(limit, size)
    connection = request.protocol
    if isinstance(connection, BoundedConnection) and not connection.body.hold(size + beside_bytes):
        raise OverBudget


async def read_body(request: web.Request) -> bytes:
    """Return the whole body, inflated.

    Raises HTTPRequestEntityTooLarge beyond the application's ``client_max_size``, ApiError if it is
    malformed, cut short, in an unknown coding, or one too many.
    """
    codings = [
        coding
        for value in request.headers.getall("Content-Encoding", [])
        for text in value.split(",")
        if (coding := text.strip().lower()) not in ("", "identity")
    ]
    if len(codings) > 1 or not {"gzip", "x-gzip", "deflate"}.issuperset(codings):
        raise ApiError(
            "UnsupportedMediaTypeException", "Content-Encoding must be gzip, deflate or absent.", status=415
        )
    try:
        body = await read_as_sent(request)
        return await _inflated(request, body, codings[0]) if codings and body else body
    except (web.RequestPayloadError, ConnectionError):
        # Of a client that is gone nobody reads this.
        raise ApiError("SerializationException", "The request body is malformed or was cut short.") from None
    except OverBudget:
        raise ApiError(
            "ServiceUnavailableException",
            "Too many large requests at once; retry it.",
            status=503,
            headers={"Retry-After": str(RETRY_AFTER_S)},
        ) from None


async def check_values(body: bytes) -> None:
    """Check that a JSON document does not hold so many values that reading it holds others up.

    Counts what may begin a value, inside of texts too. Raises ApiError.
    """
    values = 0
    for start in range(0, len(body), _STEP_BYTES):
        values += sum(body.count(mark, start, start + _STEP_BYTES) for mark in (b",", b"[", b"{"))
        if values > _VALUES_MAX:
            raise ApiError("SerializationException", f"The request has more than {_VALUES_MAX} values.")
        await asyncio.sleep(0)


async def _inflated(request: web.Request, body: bytes, coding: str) -> bytes:
    """Inflate one member; nothing may follow it."""
    whole = bytearray()
    try:
        for piece in _pieces(body, _window(body, coding)):
            whole += piece
            _check_size(request, len(whole), beside_bytes=len(body))
            await asyncio.sleep(0)
    except zlib.error:
        raise ApiError("SerializationException", f"The request body is not valid {coding}.") from None
    return bytes(whole)


def _window(body: bytes, coding: str) -> int:
    if coding != "deflate":
        return _GZIP
    # RFC 9110 means zlib's format; some clients send bare deflate, and its first byte tells.
    return _DEFLATE if body[0] & 0xF == zlib.DEFLATED else _BARE_DEFLATE


def _pieces(body: bytes, window: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(window)
    view = memoryview(body)
    for start in range(0, len(body), _FED_BYTES):
        if inflater.eof:
            raise zlib.error
        fed: bytes | memoryview = view[start : start + _FED_BYTES]
        while fed:
            yield inflater.decompress(fed, _STEP_BYTES)
            fed = inflater.unconsumed_tail
    # What zlib held back for want of room.
    while not inflater.eof and (rest := inflater.decompress(b"", _STEP_BYTES)):
        yield rest
    if not inflater.eof or inflater.unused_data:
        raise zlib.error
