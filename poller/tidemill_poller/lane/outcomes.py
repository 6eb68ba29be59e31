"""Outcomes of invocations in the plain values that are reported."""

from __future__ import annotations

from typing import assert_never

from tidemill_poller.reporting import Failure
from tidemill_poller.retry import Delivered, FunctionError, Outcome, Throttled, Unreachable


def failure_of(outcome: Outcome | None) -> Failure | None:
    """Return how an invocation that was not all accepted failed; None when there was no invocation."""
    match outcome:
        case None:
            return None
        case Delivered():
            return Failure(
                kind="partial",
                error_type="BatchItemFailures",
                message="the function reported batchItemFailures",
            )
        case FunctionError():
            return Failure(
                kind="function_error",
                error_type=outcome.error_type or outcome.function_error,
                message=outcome.message,
            )
        case Throttled():
            return Failure(kind="throttled", error_type="throttle", message=outcome.reason)
        case Unreachable():
            return Failure(kind="unreachable", error_type=outcome.error_type, message=outcome.reason)
        case _:
            assert_never(outcome)


def request_id_of(outcome: Outcome) -> str:
    """Return AWS's request id of an invocation that the function received, else an empty string."""
    return outcome.request_id if isinstance(outcome, Delivered | FunctionError) else ""
