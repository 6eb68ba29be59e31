"""Whatever bytes a peer sends, the protocol layer answers with a value or MalformedFrame, nothing else."""

from __future__ import annotations

import random
import struct

from tests.fakes.kafka_frames import random_request, request_frame
from tests.fakes.mutation import mutate
from tidemill_broker.apis import APIS
from tidemill_broker.protocol.errors import MalformedFrame
from tidemill_broker.protocol.frames import decode_request, read_request_header

SEED = 20131231
FRAMES = 10_000
RAW = [api.key for api in APIS.values() if api.raw] or [0, 1]
DECODED = [
    (api.key, version)
    for api in APIS.values()
    if not api.raw
    for version in range(api.min_version, api.max_version + 1)
]


def understood(frame: bytes) -> bool:
    """Whether the layer reads it; any exception but MalformedFrame fails the test."""
    view = memoryview(frame)
    try:
        header = read_request_header(view)
        if header.api_key not in RAW:
            decode_request(header, view)
    except MalformedFrame:
        return False
    return True


def test_random_frames_never_raise_anything_but_malformed_frame() -> None:
    generator = random.Random(SEED)
    read = 0
    for _ in range(FRAMES):
        frame = generator.randbytes(generator.randrange(200))
        if generator.random() < 0.9:  # most begin like a request that exists, so that the bodies are reached
            key, version = generator.choice(DECODED)
            client_id = generator.choice((b"\xff\xff", b"\0\4test"))
            frame = struct.pack(">hhi", key, version, 7) + client_id + b"\0" + frame
        read += understood(frame)
    assert 0 < read < FRAMES


def test_mutated_frames_never_raise_anything_but_malformed_frame() -> None:
    generator = random.Random(SEED)
    read = 0
    for _ in range(FRAMES):
        frame = bytearray(request_frame(random_request(generator, *generator.choice(DECODED))))
        for _ in range(generator.randrange(1, 4)):
            mutate(generator, frame)
        read += understood(bytes(frame))
    assert 0 < read < FRAMES


def test_every_valid_frame_is_read_back_as_it_was_written() -> None:
    generator = random.Random(SEED)
    for key, version in DECODED:
        for _ in range(5):
            entity = random_request(generator, key, version)
            frame = request_frame(entity)
            header = read_request_header(frame)
            assert (header.api_key, header.api_version, header.correlation_id) == (key, version, 7)
            assert decode_request(header, frame) == entity
