"""What a failed invocation leads to: outcomes in, a decision out.

Owns the retry rules of event source mappings for Kafka. Pure: it never sleeps, never sends, reads no clock;
the lane acts on what is decided here. The AWS pages behind each rule are named where the rule stands.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The function returned; whether it accepted every record is in the body (partial batch responses)."""

    status_code: int
    executed_version: str
    request_id: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionError:
    """The function raised, crashed or timed out: the only outcome that counts as an attempt."""

    status_code: int
    executed_version: str
    request_id: str
    function_error: str
    error_type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """Lambda refused for now (429): the function never saw the batch."""

    request_id: str
    reason: str
    retry_after_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """The function could not be asked: network fault, 5xx, missing function, missing permission."""

    reason: str
    error_type: str


Outcome = Delivered | FunctionError | Throttled | Unreachable
