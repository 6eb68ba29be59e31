"""Batches as a fetch brings them, sound and damaged, against the poller's own reader."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Sequence

import pytest
import zstandard

from tests.fakes import record_batches
from tests.fakes.record_batches import CODECS, Record, batch, compress, encoded, sealed, zigzag
from tidemill_poller import event
from tidemill_poller.event import UndeliverableRecord
from tidemill_poller.source.record_batches import FetchReader

MIB = 1 << 20


def at(offset: int, data: bytes) -> bytes:
    """The batch with another base offset, which no CRC covers."""
    return struct.pack(">q", offset) + data[8:]


def reader(*batches: bytes, offset: int = 0, aborted: Sequence[tuple[int, int]] = ()) -> FetchReader:
    return FetchReader(
        "t", 0, b"".join(batches), offset=offset, end=10**6, aborted=aborted, read_committed=True
    )


def read(fetched: FetchReader, *, records_max: int = 2000) -> list[event.Record]:
    found: list[event.Record] = []
    while not fetched.done:
        found += fetched.read(records_max=records_max, bytes_max=10 * MIB, large=True)
    return found


def shown(records: Sequence[event.Record]) -> list[tuple[int, object]]:
    """Offsets with values, or with what stands for a record that cannot be delivered."""
    return [
        (r.offset, (r.last_offset, r.condition) if isinstance(r, UndeliverableRecord) else r.value)
        for r in records
    ]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [10, 300_000], ids=["small", "large"])
def test_every_codec_is_read_whole_and_in_turns(codec: str, size: int) -> None:
    values = [random.Random(n).randbytes(5) * (size // 5) for n in range(12)]
    fetched = reader(batch([Record(value=value, headers=[("h", b"v")]) for value in values], codec=codec))
    assert shown(read(fetched, records_max=3)) == list(enumerate(values))
    assert fetched.next_fetch_offset == 12


def test_what_waits_is_counted_with_the_window_of_its_inflater() -> None:
    values = [bytes(3 * MIB)] * 30
    fetched = reader(wide_batch(values), at(30, batch([Record()])))
    assert fetched.held_bytes == len(wide_batch(values)) + len(batch([Record()]))
    while not fetched.wide:
        fetched.read(records_max=1, bytes_max=1)
    assert fetched.held_bytes > 128 * MIB


def test_a_wide_inflater_is_not_kept_and_its_batch_is_read_on_where_it_was() -> None:
    """128 MiB for each partition that waits would be more than the budget of all."""
    values = [random.Random(n).randbytes(9) * 300_000 for n in range(5)]
    fetched = reader(wide_batch(values), at(5, batch([Record(value=b"behind")])))
    found: list[event.Record] = []
    while not fetched.done:
        while not (some := fetched.read(records_max=1, bytes_max=1, large=True)) and fetched.large:
            pass
        found += some
        fetched.rest()
        assert fetched.held_bytes < 4 * MIB
    assert shown(found) == [*enumerate(values), (5, b"behind")]


def wide_batch(values: Sequence[bytes]) -> bytes:
    """A batch in zstd with a window of 128 MiB, the largest that Java's consumer accepts."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    records = [Record(value=value) for value in values]
    packing = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    payload = packing.compress(encoded(records)) + packing.flush()
    return batch([Record()] * len(values), codec="zstd", payload=payload)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_payload_that_cannot_be_inflated_is_one_batch_and_the_next_one_is_read(codec: str) -> None:
    damaged = batch([Record()] * 5, codec=codec, payload=b"\x00junk" * 9)
    assert shown(read(reader(damaged, at(5, batch([Record()]))))) == [
        (0, (4, "BatchUnreadable")),
        (5, b"value"),
    ]


@pytest.mark.parametrize("codec", CODECS[1:])
def test_records_before_the_place_where_a_payload_is_cut_off_are_delivered(codec: str) -> None:
    whole = compress(codec, encoded([Record(value=random.Random(n).randbytes(200_000)) for n in range(8)]))
    found = shown(read(reader(batch([Record()] * 8, codec=codec, payload=whole[: len(whole) * 3 // 4]))))
    assert found[-1][1] == (7, "BatchUnreadable")


def test_a_crc_that_does_not_match_is_one_batch() -> None:
    data = bytearray(batch([Record()] * 3))
    data[-1] ^= 1
    assert shown(read(reader(bytes(data), at(3, batch())))) == [(0, (2, "BatchUnreadable")), (3, b"value")]


def test_header_names_are_decoded_as_java_does() -> None:
    body = b"\0\0\0" + zigzag(-1) + zigzag(1) + b"v" + zigzag(1) + zigzag(2) + b"\xff\xfe" + zigzag(1) + b"x"
    (found,) = read(reader(batch([Record()], payload=zigzag(len(body)) + body)))
    assert (found.value, found.headers) == (b"v", [("��", b"x")])


def test_a_record_that_cannot_be_read_stands_alone() -> None:
    records = [Record(value=b"a"), Record(value=b"b"), Record(value=b"c")]
    bad = b"\0\0" + zigzag(1) + zigzag(-1) + zigzag(99) + b"short"
    ends = [encoded(records[:n]) for n in range(4)]
    payload = ends[1] + zigzag(len(bad)) + bad + encoded(records)[len(ends[2]) :]
    found = read(reader(batch(records, payload=payload)))
    assert shown(found) == [(0, b"a"), (1, (1, "RecordUnreadable")), (2, b"c")]
    assert isinstance(found[1], UndeliverableRecord)
    assert found[1].raw == bad


@pytest.mark.parametrize("codec", CODECS)
def test_a_record_larger_than_any_event_is_skipped_as_it_inflates(codec: str) -> None:
    payload = compress(
        codec, encoded([Record(value=b"a"), Record(value=bytes(30 * MIB)), Record(value=b"c")])
    )
    data = batch([Record()] * 3, codec=codec, payload=payload)
    tracemalloc.start()
    found = read(reader(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shown(found) == [(0, b"a"), (1, (1, "MaximumPayloadSizeExceeded")), (2, b"c")]
    if codec not in ("none", "snappy"):
        assert peak < len(data) + 8 * MIB


def test_a_million_headers_never_become_json() -> None:
    count = 1_000_000
    body = b"\0\0\0" + zigzag(-1) + zigzag(-1) + zigzag(count) + b"\0\0" * count
    found = read(reader(batch([Record()], payload=zigzag(len(body)) + body)))
    assert shown(found) == [(0, (0, "MaximumPayloadSizeExceeded"))]


def test_nothing_is_inflated_in_the_event_loop_that_is_large() -> None:
    fetched = reader(batch([Record(value=bytes(2 * MIB))], codec="zstd"))
    assert fetched.read(records_max=10, bytes_max=MIB) == []
    assert fetched.large
    assert len(fetched.read(records_max=10, bytes_max=MIB, large=True)) == 1


def test_a_read_takes_no_more_bytes_than_there_is_room_for() -> None:
    fetched = reader(batch([Record(value=bytes(10_000))] * 50))
    assert len(fetched.read(records_max=2000, bytes_max=100_000)) == 4
    assert len(fetched.read(records_max=2000, bytes_max=1)) == 1


@pytest.mark.parametrize("length", [-1000, -12, 0, 3, 2**31 - 1])
def test_a_batch_length_that_is_nonsense_blocks_one_offset_only(length: int) -> None:
    data = batch()
    data = data[:8] + struct.pack(">i", length) + data[12:]
    fetched = reader(data, offset=7)
    assert shown(read(fetched)) == [(7, (7, "BatchUnreadable"))]
    assert fetched.next_fetch_offset == 8


def test_offsets_beyond_the_batch_never_move_the_position_there() -> None:
    body = b"\0\0" + zigzag(10**6) + zigzag(-1) + zigzag(-1) + zigzag(0)
    fetched = reader(batch([Record()] * 2, payload=(zigzag(len(body)) + body) * 2), at(2, batch()))
    assert shown(read(fetched)) == [(0, (1, "BatchUnreadable")), (2, b"value")]


def test_control_batches_and_aborted_transactions_are_passed_over() -> None:
    transactional = record_batches.TRANSACTIONAL
    aborted = batch([Record(value=b"no")] * 2, producer=(9, 0, 0), attributes=transactional)
    marker = batch(
        [Record(key=struct.pack(">hh", 0, 0), value=b"\0" * 6)],
        producer=(9, 0, -1),
        attributes=transactional | record_batches.CONTROL,
    )
    later = batch([Record(value=b"yes")], producer=(9, 0, 2), attributes=transactional)
    fetched = reader(aborted, at(2, marker), at(3, later), aborted=[(9, 0)])
    assert shown(read(fetched)) == [(3, b"yes")]


def test_a_fetch_that_begins_inside_a_batch_gives_the_rest_of_it() -> None:
    assert shown(read(reader(batch([Record()] * 4), offset=2))) == [(2, b"value"), (3, b"value")]


@pytest.mark.parametrize("codec", CODECS)
def test_no_damage_raises_or_stops_the_reading_or_loses_the_next_batch(codec: str) -> None:
    """Damage anywhere behind the CRC, which is made to match: what a foreign broker may have taken."""
    rng = random.Random(codec)
    sound = batch([Record(value=rng.randbytes(40), headers=[("n", b"v")]) for _ in range(6)], codec=codec)
    for _ in range(300):
        checked = bytearray(sound[21:])
        for _ in range(rng.randint(1, 4)):
            checked[rng.randrange(40, len(checked))] = rng.randrange(256)
        fetched = reader(sealed(bytes(checked)), at(6, batch()))
        found = read(fetched)
        offsets = [record.offset for record in found]
        assert offsets == sorted(set(offsets))
        assert shown(found)[-1] == (6, b"value")
        assert fetched.next_fetch_offset == 7
