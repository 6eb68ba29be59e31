"""What follows an invocation: outcomes in, a decision out.

Owns the retry rules of event source mappings for Kafka (AWS: "Configure error handling controls for
Kafka event sources"). Pure: it never sleeps, never sends and reads no clock; the lane acts.

    Delivered ─────── every record accepted ────────────────────────────> Commit
        └──────────── some named in batchItemFailures ── retries left ──> RetryRest, else GiveUp of those
        └──────────── a reply that names records not sent ──────────────> RetryIn, else GiveUp
    FunctionError ─── bisect is on, more than one record ───────────────> Bisect, no retry used up
        └──────────── retries left ─────────────────────────────────────> RetryIn, else GiveUp
    Throttled, Unreachable ── the function never saw the batch ─────────> RetryIn, never counted

See docs/decisions/0604.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, assert_never

import orjson

Condition = Literal[
    "RetryAttemptsExhausted",
    "RecordAgeExceeded",
    "MaximumPayloadSizeExceeded",
    "BatchUnreadable",  # ours, and so is what follows: AWS documents none
    "RecordUnreadable",
    "SkippedByOperator",
]

# What a Lambda endpoint answers (413) to an event that is too large for it; waiting does not help.
_TOO_LARGE: Final = frozenset({"RequestTooLargeException", "RequestEntityTooLargeException"})
_JITTER: Final = 0.25
_DOUBLINGS_MAX: Final = 64  # beyond it every wait is the longest


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The function returned; whether it accepted every record is in the body (partial batch responses)."""

    status_code: int
    executed_version: str
    request_id: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionError:
    """The function raised, crashed or timed out: it saw the batch, so this counts as an attempt."""

    status_code: int
    executed_version: str
    request_id: str
    function_error: str
    error_type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """Lambda answered 429: the function never received the batch."""

    request_id: str
    reason: str
    retry_after_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """The function was not reached: network fault, 5xx, missing function, missing permission."""

    reason: str
    error_type: str


Outcome = Delivered | FunctionError | Throttled | Unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """What a mapping allows; `retry_attempts` excludes the first invocation, None is for ever."""

    retry_attempts: int | None
    bisect: bool
    report_batch_item_failures: bool
    backoff_base_s: float
    backoff_max_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """How often a batch or sub-batch was invoked, to no success.

    An attempt is an invocation that the function received, numbered from 1; one that is throttled or does not
    reach the function is repeated as the same attempt.
    """

    failed: int = 0  # counts against MaximumRetryAttempts
    throttled: int = 0  # not received since the last failure; only lengthens the waits

    @property
    def number(self) -> int:
        """The number of the coming attempt."""
        return self.failed + 1


@dataclass(frozen=True, slots=True)
class Commit:
    """Every record is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryIn:
    """Invoke the same records again after a wait."""

    delay_s: float
    attempts: Attempts


@dataclass(frozen=True, slots=True)
class Bisect:
    """Invoke each half by itself, in order and at once; the halves keep the attempts of the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRest:
    """Invoke only the records at these indices after a wait; the others are done."""

    indices: Sequence[int]
    delay_s: float
    attempts: Attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Hand the records at these indices to the destination, or drop them; the others are done."""

    indices: Sequence[int]
    condition: Condition


Decision = Commit | RetryIn | Bisect | RetryRest | GiveUp


def decide(
    outcome: Outcome,
    *,
    policy: RetryPolicy,
    attempts: Attempts,
    partition_key: str,
    offsets: Sequence[int],
    random: float,
) -> Decision:
    """Return what follows an invocation with these offsets of one partition; `attempts` came before it.

    `random` is a number from 0 to 1 that spreads the waits. Age is not considered here: the lane calls
    `expired` before every invocation.
    """
    match outcome:
        case Delivered():
            return _answered(outcome, policy, attempts, partition_key, offsets, random)
        case FunctionError():
            if policy.bisect and len(offsets) > 1:
                return Bisect()
            return _again(policy, attempts, None, len(offsets), random)
        case Throttled():
            return _not_received(policy, attempts, outcome.retry_after_s or 0.0, random)
        case Unreachable(error_type=error_type) if error_type in _TOO_LARGE:
            return _too_large(len(offsets))
        case Unreachable():
            return _not_received(policy, attempts, 0.0, random)
        case _:
            assert_never(outcome)


def exhausted(policy: RetryPolicy, attempts: Attempts) -> bool:
    """Return whether no invocation is left: it was given up before, by an earlier owner of the partition."""
    return policy.retry_attempts is not None and attempts.failed > policy.retry_attempts


def resumed(policy: RetryPolicy, attempts: Attempts) -> Attempts:
    """Return the attempts with which a sub-batch goes on that another owner, or another policy, left behind.

    More failures than the policy allows were never given up under it: the mapping was updated since. Such a
    sub-batch gets one invocation by the new rules, or enabling bisect would discard the good records with
    the bad.
    """
    if policy.retry_attempts is not None and attempts.failed > policy.retry_attempts + 1:
        return Attempts(failed=policy.retry_attempts)
    return attempts


def expired(timestamps_ms: Sequence[int], *, now_ms: int, age_ms_max: int | None) -> int:
    """Count the leading records older than the limit: they are not sent (again), the rest of the batch is.

    A record without a timestamp (-1: written by a client older than message format v1) has no age.
    """
    if age_ms_max is None:
        return 0
    oldest_ms = now_ms - age_ms_max
    for count, timestamp_ms in enumerate(timestamps_ms):
        if timestamp_ms >= oldest_ms or timestamp_ms < 0:
            return count
    return len(timestamps_ms)


def failed_indices(body: bytes, *, partition_key: str, offsets: Sequence[int]) -> list[int] | None:
    """Return which records a partial batch response names, [] for none, None when the response is malformed.

    AWS: null, {}, "" and an empty or null list are success; an identifier that was not in the event, or is
    no identifier, fails the whole batch.
    """
    reply = _json(body)
    if not reply:  # null, {}, "", [] and no body at all
        return []
    if not isinstance(reply, dict):
        return None if reply is _NOT_JSON else []
    named = reply.get("batchItemFailures")
    if not named:
        return []
    if not isinstance(named, list):
        return None
    index_of = {offset: index for index, offset in enumerate(offsets)}
    failed = {_index(item, partition_key, index_of) for item in named}
    return None if None in failed else sorted(index for index in failed if index is not None)


def backoff_s(policy: RetryPolicy, failures: int, *, random: float) -> float:
    """Return the wait after so many failures in a row: exponential up to the policy's most, with jitter.

    `random` (0 to 1) takes away up to a quarter, of the longest wait as well: partitions that fail together
    must not go on in step.
    """
    longest_s = min(policy.backoff_base_s * 2.0 ** min(failures - 1, _DOUBLINGS_MAX), policy.backoff_max_s)
    return longest_s * (1 - _JITTER * random)


def _answered(
    outcome: Delivered,
    policy: RetryPolicy,
    attempts: Attempts,
    partition_key: str,
    offsets: Sequence[int],
    random: float,
) -> Decision:
    if not policy.report_batch_item_failures:
        return Commit()
    failed = failed_indices(outcome.body, partition_key=partition_key, offsets=offsets)
    return Commit() if failed == [] else _again(policy, attempts, failed, len(offsets), random)


def _not_received(policy: RetryPolicy, attempts: Attempts, delay_s_min: float, random: float) -> Decision:
    throttled = Attempts(failed=attempts.failed, throttled=attempts.throttled + 1)
    return RetryIn(
        delay_s=max(backoff_s(policy, throttled.throttled, random=random), delay_s_min), attempts=throttled
    )


def _too_large(count: int) -> Decision:
    if count > 1:
        return Bisect()
    return GiveUp(indices=range(count), condition="MaximumPayloadSizeExceeded")


def _again(
    policy: RetryPolicy, attempts: Attempts, failed: Sequence[int] | None, count: int, random: float
) -> Decision:
    """Retry what failed (None: all `count` records), or give it up when this was the last attempt allowed."""
    now = Attempts(failed=attempts.failed + 1)
    if exhausted(policy, now):
        given_up = range(count) if failed is None else failed
        return GiveUp(indices=given_up, condition="RetryAttemptsExhausted")
    delay_s = backoff_s(policy, now.failed, random=random)
    if failed is None:
        return RetryIn(delay_s=delay_s, attempts=now)
    return RetryRest(indices=failed, delay_s=delay_s, attempts=now)


_NOT_JSON: Final = object()


def _json(body: bytes) -> Any:
    if not body.strip():
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _NOT_JSON


def _index(item: Any, partition_key: str, index_of: Mapping[int, int]) -> int | None:
    """Find the record that one item of batchItemFailures names; None if it names none of the event."""
    identifier = item.get("itemIdentifier") if isinstance(item, dict) else None
    if not isinstance(identifier, dict) or identifier.get("partition") != partition_key:
        return None
    offset = identifier.get("offset")
    # bool is an int in Python, not in JSON.
    return index_of.get(offset) if isinstance(offset, int) and not isinstance(offset, bool) else None
