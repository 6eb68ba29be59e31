"""Events on the disk: whole, with their attempts, or set aside by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tidemill_functions.runtime.event_store import Event, EventStore

EVENT = Event(
    key="orders:1", qualifier="live", arn="a", request_id="r", trace_id="t", payload='{"x":"å\\n"}\n'.encode()
)


def test_an_event_is_read_as_it_was_put_with_its_attempts(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    store.put(EVENT)
    store.put(changed := dataclasses.replace(EVENT, attempts=1, retry_at_ms=7))
    assert EventStore(tmp_path).load() == [changed]


def test_events_come_back_in_the_order_in_which_they_were_accepted(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    events = [_event(str(number)) for number in range(20)]
    for event in reversed(events):
        store.put(event)
    assert store.load() == events


def test_what_is_removed_does_not_come_back(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    store.put(EVENT)
    store.remove(EVENT)
    store.remove(EVENT)
    assert EventStore(tmp_path).load() == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no newline", "another shape"])
def test_a_damaged_file_is_set_aside_and_named_and_the_others_load(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = EventStore(tmp_path)
    store.put(EVENT)
    (path,) = tmp_path.glob("*.event")
    content = path.read_bytes()
    damaged = {
        "cut": content[:-1],
        "flipped": content[:-1] + b"!",
        "empty": b"",
        "no newline": content.partition(b"\n")[0],
        "another shape": b"[]\n",
    }
    path.write_bytes(damaged[damage])
    store.put(other := _event())
    assert store.load() == [other]
    aside = tmp_path / "damaged" / path.name
    assert aside.read_bytes() == damaged[damage]
    assert str(aside) in caplog.text
    assert EventStore(tmp_path).load() == [other]


def test_a_draft_that_a_crash_left_is_no_event(tmp_path: Path) -> None:
    (tmp_path / "1.event.tmp").write_bytes(b"{")
    assert EventStore(tmp_path).load() == []
    assert list(tmp_path.iterdir()) == []


def _event(request_id: str = "r") -> Event:
    return Event(key="orders", qualifier="", arn="a", request_id=request_id, trace_id="t", payload=b"{}")
