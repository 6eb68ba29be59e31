"""What the status board says of a partition that stands still."""

from __future__ import annotations

from typing import Any

import pytest

from tidemill_poller.reporting.status import PartitionStatus, PollerStatus, StatusBoard

UUID = "u"


def partition(**fields: Any) -> PartitionStatus:
    return PartitionStatus(**{"mapping": UUID, "topic": "t", "partition": 0, "committed": 10, **fields})


@pytest.mark.parametrize(
    ("committed", "log_start", "end", "lag"),
    [(10, 0, 25, 15), (10, 20, 25, 5), (10, 0, 10, 0), (10, 0, 5, 0), (10, None, None, None)],
    ids=["behind", "retention took some", "caught up", "truncated", "not known yet"],
)
def test_lag_does_not_count_what_retention_deleted(
    committed: int, log_start: int | None, end: int | None, lag: int | None
) -> None:
    assert partition(committed=committed, log_start=log_start, end=end).lag == lag


def test_a_blocked_partition_says_since_when_by_what_and_until_when() -> None:
    status = partition()
    status.block("retrying", now_ms=1000, offset=42, retry_at_ms=2000, reason="ValueError: x")
    status.block("retrying", now_ms=2000, offset=42, retry_at_ms=4000, reason="ValueError: y")
    assert (status.blocked_by, status.since_ms, status.retry_at_ms) == (42, 1000, 4000)
    assert status.reason == "ValueError: y"
    status.enter("polling", now_ms=5000)
    assert (status.blocked_by, status.since_ms, status.retry_at_ms, status.reason) == (None, 5000, None, "")


def test_a_mapping_has_no_result_before_its_first_delivery() -> None:
    board = StatusBoard()
    board.mapping(UUID).partitions[0] = partition()
    assert board.mapping(UUID).result() is None


def test_one_partition_in_trouble_is_a_problem_of_the_mapping() -> None:
    status = StatusBoard().mapping(UUID)
    status.partitions = {0: partition(deliveries=5), 1: partition(problem="PROBLEM: Function call failed")}
    assert status.result() == "PROBLEM: Function call failed"
    status.partitions[1].problem = None
    assert status.result() == "OK"


def test_a_poller_without_a_connection_is_the_first_problem() -> None:
    status = StatusBoard().mapping(UUID)
    status.partitions = {0: partition(problem="PROBLEM: Function call failed")}
    status.pollers = {0: PollerStatus(number=0, problem="PROBLEM: Connection error.")}
    assert status.result() == "PROBLEM: Connection error."


def test_the_board_is_json_and_forgets_what_stopped() -> None:
    board = StatusBoard()
    board.mapping(UUID).partitions[0] = partition(end=12, log_start=0)
    board.mapping(UUID).pollers[0] = PollerStatus(number=0)
    shown = board.as_json(UUID)
    assert shown["lag"] == 2
    assert shown["partitions"][0]["committed"] == 10
    assert shown["pollers"][0]["state"] == "connecting"
    board.forget(UUID)
    assert board.as_json(UUID)["partitions"] == []
