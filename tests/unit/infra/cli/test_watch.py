"""`tidemill mapping watch` says what the mapping's state is, and why its pollers stand still."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from tidemill_cli.watch import Look, _drawing


def shown(**status: Any) -> str:
    drawn = Console(file=io.StringIO(), width=200, color_system=None)
    drawn.print(_drawing(Look(status={"partitions": [], "pollers": [], **status}, deliveries=[])))
    assert isinstance(drawn.file, io.StringIO)
    return drawn.file.getvalue()


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
