"""What a lane tells its tracer is the tree: batch, attempts, halves, poison, destination, commit."""

from __future__ import annotations

from typing import Any

from tests.fakes import virtual_time
from tests.fakes.poller import (
    MAPPING,
    LaneWorld,
    RecordingDestination,
    ScriptedFunction,
    failing,
    lane_dependencies,
    poison,
    records,
    telemetry,
)
from tidemill_poller.reporting.tracing import open_tracing
from tidemill_poller.reporting.tracing.tree import render_tree


def tree_of(function: ScriptedFunction, destination: RecordingDestination | None, **setup: Any) -> str:
    tracing = open_tracing({}, recent_deliveries=10)
    lanes = lane_dependencies(function, destination=destination, **setup)

    async def scenario() -> None:
        await LaneWorld(lanes, telemetry(tracing)).deliver(records(100, 101, 102, 103))

    virtual_time.run(scenario())
    assert tracing.recent is not None
    (delivery,) = tracing.recent.deliveries(MAPPING.uuid)
    return render_tree(delivery["spans"])


def lines(tree: str) -> list[str]:
    return [line.strip(" │├└─") for line in tree.splitlines()]


def test_a_poison_record_is_found_in_the_tree_by_its_offset() -> None:
    tree = tree_of(
        ScriptedFunction(answer=poison(102)), RecordingDestination(), bisect=True, retry_attempts=1
    )
    shown = lines(tree)
    starts = [
        "orders-0 [100-103]",
        "half [100-101]",
        "half [102-103]",
        "half [102]",
        "half [103]",
        "commit 104",
    ]
    places = [[start in line for line in shown].index(True) for start in starts]
    assert places == sorted(places), tree
    assert "RetryAttemptsExhausted" in tree
    assert "POISON" in shown[places[3]], tree


def test_a_partial_failure_shows_the_records_that_were_retried() -> None:
    answers = [failing(101, 103), failing(103)]
    function = ScriptedFunction(answer=lambda _, number: answers.pop(0) if answers else failing())
    tree = tree_of(function, None, report_batch_item_failures=True)
    shown = lines(tree)
    assert any("rest [101-103]" in line for line in shown), tree
    assert any("rest [103]" in line for line in shown), tree
