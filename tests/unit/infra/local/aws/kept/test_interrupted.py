"""Stacks that were at work when the embedded AWS was killed."""

from typing import Any

import pytest

from tidemill_local.aws.kept.interrupted import end_stack


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("CREATE_IN_PROGRESS", "CREATE_FAILED"),
        ("DELETE_IN_PROGRESS", "DELETE_FAILED"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"),
    ],
)
def test_a_stack_at_work_has_failed_and_an_event_says_why(before: str, after: str) -> None:
    stack = {"StackStatus": before, "StackName": "s", "StackId": "arn:s"}
    events: list[Any] = []
    assert end_stack(stack, lambda *event: events.append(event))
    assert stack["StackStatus"] == after
    assert "ended before this was done" in stack["StackStatusReason"]
    assert [event[4] for event in events] == [after]


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE"])
def test_a_stack_at_rest_stays_as_it_is(status: str) -> None:
    stack = {"StackStatus": status}
    assert not end_stack(stack, lambda *_event: None)
    assert stack == {"StackStatus": status}
