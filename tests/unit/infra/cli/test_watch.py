"""`tidemill mapping watch` says what the mapping's state is, and why its partitions stand still."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from tidemill_cli.watch import Look, drawing

TRACEBACK = (
    "RuntimeError: Traceback (most recent call last):\n"
    '  File "/usr/lib/python3.11/site-packages/x.py", line 3, in run\n    call()\n'
    '  File "/home/me/app.py", line 7, in handler\n    total / 0\n'
    "ZeroDivisionError: division by zero\n"
)


def shown(width: int = 200, deliveries: list[dict[str, Any]] | None = None, **status: Any) -> str:
    drawn = Console(file=io.StringIO(), width=width, color_system=None)
    seen = Look(status={"partitions": [], "pollers": [], **status}, deliveries=deliveries or [])
    drawn.print(drawing(seen, width))
    assert isinstance(drawn.file, io.StringIO)
    return drawn.file.getvalue()


def partition(number: int, **fields: Any) -> dict[str, Any]:
    standing = {"state": "polling", "committed": 4, "end": 4, "lag": 0, "attempt": 0}
    return {"topic": "parcels", "partition": number, **standing, **fields}


def delivery(message: str) -> dict[str, Any]:
    """One delivery whose first attempt failed with this message."""
    root: dict[str, Any] = {
        "span_id": "a",
        "parent_id": None,
        "name": "process parcels",
        "start_ns": 0,
        "end_ns": 2_000_000,
        "status": "OK",
        "status_message": "",
        "events": [],
        "attributes": {
            "messaging.destination.name": "parcels",
            "messaging.destination.partition.id": 0,
            "messaging.batch.message_count": 3,
            "esm.offset.first": 0,
            "esm.offset.last": 2,
            "faas.invoked_name": "parcels",
            "esm.dropped": 1,
        },
    }
    attempt = {
        **root,
        "span_id": "b",
        "parent_id": "a",
        "status": "ERROR",
        "status_message": message,
        "attributes": {
            "esm.attempt": 1,
            "esm.offset.first": 0,
            "esm.offset.last": 2,
            "error.type": "RuntimeError",
        },
    }
    return {"spans": [root, attempt]}


def test_the_state_and_each_poller_s_reason_are_shown() -> None:
    text = shown(
        state="Enabled",
        result="PROBLEM: SASL authentication failed.",
        pollers=[
            {"number": 0, "state": "failed", "reason": "b-1:9096: login by SCRAM-SHA-512: [Error 58]"},
            {"number": 1, "state": "connecting", "reason": ""},
        ],
    )
    assert text.splitlines()[:3] == [
        "Enabled: PROBLEM: SASL authentication failed.",
        "poller 0 failed: b-1:9096: login by SCRAM-SHA-512: [Error 58]",
        "poller 1 connecting",
    ]


def test_a_poller_that_is_well_takes_no_line() -> None:
    text = shown(state="Enabled", result=None, pollers=[{"number": 0, "state": "polling", "reason": ""}])
    assert text.splitlines()[0] == "Enabled: No records processed"
    assert "poller" not in text


def test_a_traceback_keeps_the_table_s_shape_and_shows_its_cause_within_80_columns() -> None:
    rows = [partition(0, state="retrying", blocked_by=3, reason=TRACEBACK), partition(1)]
    lines = shown(width=80, state="Enabled", partitions=rows).rstrip().splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["partition", "parcels-0", "parcels-1"]
    assert lines[4:] == ["parcels-0: ZeroDivisionError: division by zero (app.py:7 in handler) · RuntimeE…"]
    assert max(map(len, lines)) <= 80


def test_a_tree_shows_the_cause_of_an_error_and_loses_nothing_at_80_columns() -> None:
    text = shown(width=80, state="Enabled", deliveries=[delivery(TRACEBACK.partition(" ")[2])])
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.replace("│", " ").split())
    assert "RuntimeError: ZeroDivisionError: division by zero (app.py:7 in handler)" in flat
    assert "1 record DROPPED, in no destination" in flat


def test_a_function_s_error_does_not_control_the_terminal() -> None:
    evil = "boom \x1b]0;title\x07 \x9b2J \u202etxt.exe"
    text = shown(
        state="Enabled",
        result=f"PROBLEM: {evil}",
        pollers=[{"number": 0, "state": "failed", "reason": evil}],
        partitions=[partition(0, reason=evil)],
        deliveries=[delivery(evil)],
    )
    assert not set("\x1b\x07\x9b\u202e") & set(text)
    assert text.count(r"\x1b]0;title\x07 \x9b2J \u202etxt.exe") == 4
