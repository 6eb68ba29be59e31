"""Whatever a fetch brings, the poller's reader ends, keeps the order, and loses no sound batch behind it."""

from __future__ import annotations

import os
import random
import struct

import pytest

from tests.fakes.record_batches import CODECS, Record, batch, compress, encoded, sealed
from tidemill_poller.event import Record as PolledRecord
from tidemill_poller.event import UndeliverableRecord, event_source, records_json
from tidemill_poller.source.record_batches import FetchReader

SEED = int(os.environ.get("TIDEMILL_FUZZ_SEED", "20131231"))
BATCHES = int(os.environ.get("TIDEMILL_FUZZ_BATCHES", "7500")) // 15  # of each of the fifteen kinds
_NUMBERS = (b"\xff\xff\xff\xff\x0f", bytes(5), b"\x7f\xff\xff\xff")
SOURCE = event_source("t", 0, bootstrap_servers=("b:1",), event_source_arn=None)


def mutated(generator: random.Random, data: bytes) -> bytes:
    """Bytes flipped, cut out, put in or written over."""
    changed = bytearray(data)
    for _ in range(generator.randrange(1, 4)):
        at = generator.randrange(len(changed) + 1)
        kind = generator.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del changed[at : at + generator.randrange(1, 9)]
        elif kind == 2:
            changed[at:at] = generator.randbytes(generator.randrange(1, 9))
        else:
            changed[at : at + 5] = generator.choice(_NUMBERS)
    return bytes(changed)


def read(data: bytes) -> list[PolledRecord]:
    fetched = FetchReader("t", 0, data, offset=0, end=7, aborted=(), read_committed=True)
    found: list[PolledRecord] = []
    for _ in range(1000):
        if fetched.done:
            return found
        found += fetched.read(records_max=100, bytes_max=1 << 20, large=True)
    raise AssertionError("the reader does not come to an end")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("what", ["payload", "records", "batch"])
def test_damage_stays_in_its_batch(codec: str, what: str) -> None:
    generator = random.Random(f"{SEED} {codec} {what}")
    records = [Record(value=generator.randbytes(30), headers=[("name", b"v")]) for _ in range(6)]
    payload = encoded(records)
    last = struct.pack(">q", 6) + batch()[8:]
    for _ in range(BATCHES):
        if what == "payload":
            data = batch(records, codec=codec, payload=mutated(generator, compress(codec, payload)))
        elif what == "records":
            data = batch(records, codec=codec, payload=compress(codec, mutated(generator, payload)))
        else:
            data = sealed(mutated(generator, batch(records, codec=codec)[21:]))
        found = read(data + last)
        offsets = [record.offset for record in found]
        assert offsets == sorted(set(offsets))
        assert found[-1].offset == 6
        assert not isinstance(found[-1], UndeliverableRecord)
        assert all(records_json([record]) for record in found)
