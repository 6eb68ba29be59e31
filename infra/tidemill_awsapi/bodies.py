"""Owns the reading of a request's body: how large it may be, also once it is inflated.

Inflates in steps between which others are served, and stops as soon as the limit is passed; aiohttp inflates
all of it first. gzip and deflate are read; another coding is 415.
"""

import asyncio
import zlib
from collections.abc import Iterator
from typing import Final

from aiohttp import web

from tidemill_awsapi.errors import ApiError

_FED_BYTES: Final = 64 * 1024
_STEP_BYTES: Final = 1024 * 1024
# zlib's names for the formats: the window's size, and 16 more for gzip's header; negative without a header.
_GZIP: Final = 16 + zlib.MAX_WBITS
_DEFLATE: Final = zlib.MAX_WBITS
_BARE_DEFLATE: Final = -zlib.MAX_WBITS


async def read_body(request: web.Request) -> bytes:
    """Return the whole body, inflated.

    Raises HTTPRequestEntityTooLarge beyond the application's ``client_max_size``, ApiError if it is
    malformed, cut short or in an unknown coding.
    """
    limit = request.client_max_size
    if request.content_length is not None and request.content_length > limit:
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length)
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
        body = await request.read()
    except (web.RequestPayloadError, ConnectionError):
        # Of a client that is gone nobody reads this.
        raise ApiError("SerializationException", "The request body is malformed or was cut short.") from None
    return await _inflated(body, codings[0], limit) if codings and body else body


async def _inflated(body: bytes, coding: str, limit: int) -> bytes:
    """Inflate one member; nothing may follow it."""
    whole = bytearray()
    try:
        for piece in _pieces(body, _window(body, coding)):
            whole += piece
            if len(whole) > limit:
                raise web.HTTPRequestEntityTooLarge(limit, len(whole))
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
