"""Log lines become events, and events requests, within PutLogEvents' limits."""

from __future__ import annotations

from tidemill_functions.reporting.log_events import EVENT_BYTES_MAX, LogEvent, Records, requests


def taken(records: Records, *chunks: bytes, is_ours: bool = False) -> list[str]:
    return [event.message for chunk in chunks for event in records.take(1, chunk, is_ours=is_ours)]


def test_a_line_that_comes_in_parts_is_one_event() -> None:
    assert taken(Records(), b"a\nb", b"c\n\n", b"d\r\n") == ["a", "bc", "d"]


def test_a_cr_joins_the_lines_of_one_record() -> None:
    assert taken(Records(), b"[ERROR] x\r  at y\r  at z\n") == ["[ERROR] x\n  at y\n  at z"]


def test_a_line_of_lambdas_own_ends_what_nobody_ended() -> None:
    records = Records()
    assert taken(records, b"no end") == []
    assert taken(records, b"END\nREPORT\n", is_ours=True) == ["no end", "END", "REPORT"]


def test_a_line_without_end_is_cut_at_the_limit() -> None:
    records = Records()
    assert [len(message) for message in taken(records, b"x" * (2 * EVENT_BYTES_MAX + 1))] == [
        EVENT_BYTES_MAX,
        EVENT_BYTES_MAX,
        1,
    ]
    assert taken(records, b"y\n") == ["y"]


def test_bytes_that_are_no_text_do_not_stop_a_log() -> None:
    assert taken(Records(), b"\xff\xfe\n") == ["\N{REPLACEMENT CHARACTER}" * 2]


def test_a_request_has_a_megabyte_and_ten_thousand_events_at_most() -> None:
    small = [LogEvent(1, "x")] * 10_001
    assert [len(part) for part in requests(small)] == [10_000, 1]
    large = [LogEvent(1, "é" * 50_000)] * 11
    assert [len(part) for part in requests(large)] == [10, 1]
    assert list(requests([])) == []
