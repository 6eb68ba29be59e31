"""The payload of a compressed record batch, inflated in steps of about a megabyte.

Owns the framing of Kafka's four codecs as its clients write them. Pure. aiokafka inflates a batch in
one piece: 8 KB of zstd are 250 MB then, before anybody could count them. Each step releases the GIL.
See docs/decisions/0605.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Final

import cramjam
import lz4.frame
import zstandard

STEP_BYTES: Final = 1 << 20
_WINDOW_BYTES_MAX: Final = 1 << 27  # what zstd-jni, and so Java's consumer, accepts
_ZSTD: Final = 4
_OTHER_WINDOWS_BYTES: Final = 1 << 20  # the other codecs look back 64 KiB at most; lz4 inflates in blocks
_SNAPPY_BLOCK_BYTES_MAX: Final = 64 << 20  # a block is inflated in one piece; snappy-java writes 32 KB
_XERIAL: Final = b"\x82SNAPPY\0"
_XERIAL_BYTES: Final = 16
_GZIP: Final = 31  # zlib's wbits: a gzip header, the largest window


class PayloadDamaged(ValueError):
    """The payload is not what its codec writes."""


def inflated(codec: int, payload: bytes) -> Iterator[bytes]:
    """Yield the payload, inflated. Raises PayloadDamaged, and what the libraries of the codecs raise."""
    if codec not in _CODECS:
        raise PayloadDamaged(f"unknown compression codec {codec}")
    return _CODECS[codec](payload)


def window_bytes(codec: int, payload: bytes) -> int:
    """Return about how much an inflater holds between two steps; a fault is left to `inflated`."""
    if codec != _ZSTD:
        return _OTHER_WINDOWS_BYTES
    try:
        window = zstandard.get_frame_parameters(payload).window_size
    except zstandard.ZstdError:
        return _OTHER_WINDOWS_BYTES
    return int(min(window, _WINDOW_BYTES_MAX)) + _OTHER_WINDOWS_BYTES


def _stored(payload: bytes) -> Iterator[bytes]:
    yield payload


def _gzip(payload: bytes) -> Iterator[bytes]:
    rest = payload
    while rest:
        member = zlib.decompressobj(wbits=_GZIP)
        while not member.eof:
            step = member.decompress(rest, STEP_BYTES)
            rest = member.unconsumed_tail
            if step:
                yield step
            elif not rest and not member.eof:
                raise PayloadDamaged("the gzip member is cut off")
        rest = member.unused_data


def _snappy(payload: bytes) -> Iterator[bytes]:
    if not payload.startswith(_XERIAL):
        yield _snappy_block(payload)
        return
    at = _XERIAL_BYTES
    while at < len(payload):
        if payload.startswith(_XERIAL, at):  # streams in a row
            at += _XERIAL_BYTES
            continue
        size = int.from_bytes(payload[at : at + 4], "big")
        block = payload[at + 4 : at + 4 + size]
        if len(block) < size:
            raise PayloadDamaged("a snappy block is cut off")
        yield _snappy_block(block)
        at += 4 + size


def _snappy_block(block: bytes) -> bytes:
    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a varint
            break
    if size > _SNAPPY_BLOCK_BYTES_MAX:
        raise PayloadDamaged(f"a snappy block of {size} bytes, the limit is {_SNAPPY_BLOCK_BYTES_MAX}")
    return bytes(cramjam.snappy.decompress_raw(block))


def _lz4(payload: bytes) -> Iterator[bytes]:
    rest = payload
    while rest:
        frame = lz4.frame.LZ4FrameDecompressor()
        step = frame.decompress(rest, max_length=STEP_BYTES)
        while True:
            if step:
                yield step
            if frame.eof:
                break
            if frame.needs_input:
                raise PayloadDamaged("the lz4 frame is cut off")
            step = frame.decompress(b"", max_length=STEP_BYTES)
        rest = frame.unused_data or b""


def _zstd(payload: bytes) -> Iterator[bytes]:
    inflating = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
    with inflating.stream_reader(payload, read_across_frames=True) as frames:
        while step := frames.read(STEP_BYTES):
            yield step


_CODECS: Final[dict[int, Callable[[bytes], Iterator[bytes]]]] = {
    0: _stored,
    1: _gzip,
    2: _snappy,
    3: _lz4,
    4: _zstd,
}
