"""What follows an invocation: outcomes in, a decision out.

Owns the retry rules of event source mappings for Kafka (AWS: "Configure error handling controls for
Kafka event sources"). Pure: it never sleeps, never sends and reads no clock; the lane acts.

    Delivered ─────── every record accepted ────────────────────────────> Commit
        └──────────── some named in batchItemFailures ── retries left ──> RetryRest, else GiveUp of those
        └──────────── a reply that names records not sent ──────────────> RetryIn, else GiveUp
    FunctionError ─── bisect is on, more than one record ───────────────> Bisect, no retry used up
        └──────────── retries left ─────────────────────────────────────> RetryIn, else GiveUp
    Throttled, Unreachable ── the function never saw the batch ─────────> RetryIn, never counted
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import orjson
from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_exponential_jitter

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded", "MaximumPayloadSizeExceeded"]

# What a Lambda endpoint answers (413) to an event that is too large for it; no time can mend that.
_TOO_LARGE = frozenset({"RequestTooLargeException", "RequestEntityTooLargeException"})


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """What a mapping allows; `retry_attempts` excludes the first invocation, None is for ever."""

    retry_attempts: int | None
    bisect: bool
    report_batch_item_failures: bool
    backoff_base_s: float
    backoff_max_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """How often a part was tried: `failed` counts against the quota, `refused` only lengthens the waits."""

    failed: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """Every record is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryIn:
    """Invoke the same records again after a wait."""

    delay_s: float
    tries: Tries


@dataclass(frozen=True, slots=True)
class Bisect:
    """Try each half by itself, in order and at once; the halves keep the tries of the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRest:
    """Invoke only the records at these indices after a wait; the others are done."""

    indices: Sequence[int]
    delay_s: float
    tries: Tries


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Hand the records at these indices to the destination, or drop them; the others are done."""

    indices: Sequence[int]
    condition: Condition


Decision = Commit | RetryIn | Bisect | RetryRest | GiveUp


def decide(
    outcome: Outcome, *, policy: RetryPolicy, tries: Tries, partition_key: str, offsets: Sequence[int]
) -> Decision:
    """Say what follows the outcome of invoking with these offsets of one partition; `tries` came before it.

    Age is not judged here: the lane asks `expired` before every invocation.
    """
    match outcome:
        case Delivered():
            return _answered(outcome, policy, tries, partition_key, offsets)
        case FunctionError():
            if policy.bisect and len(offsets) > 1:
                return Bisect()
            return _again(policy, tries, None, len(offsets))
        case Throttled():
            return _refused(policy, tries, outcome.retry_after_s or 0.0)
        case Unreachable(error_type=error_type) if error_type in _TOO_LARGE:
            return _too_large(len(offsets))
        case Unreachable():
            return _refused(policy, tries, 0.0)
        case _:
            assert_never(outcome)


def exhausted(policy: RetryPolicy, tries: Tries) -> bool:
    """Say whether no invocation is left: it was given up before, by whoever held the partition then."""
    return policy.retry_attempts is not None and tries.failed > policy.retry_attempts


def resumed(policy: RetryPolicy, tries: Tries) -> Tries:
    """Give the tries that a part goes on with which another owner, or another policy, left behind.

    More failures than the policy allows were never given up under it: the mapping was updated since. Such a
    part gets one invocation by the new rules, or enabling bisect would discard the good records with the bad.
    """
    if policy.retry_attempts is not None and tries.failed > policy.retry_attempts + 1:
        return Tries(failed=policy.retry_attempts)
    return tries


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
    """Read a partial batch response: which records failed, [] for none, None when the reply is at fault.

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


def backoff_s(policy: RetryPolicy, attempt: int) -> float:
    """Give the wait after the `attempt`-th failure: exponential up to the policy's most, with jitter."""
    if not policy.backoff_base_s:
        return 0.0
    wait = wait_exponential_jitter(
        multiplier=policy.backoff_base_s, max=policy.backoff_max_s, jitter=policy.backoff_base_s / 4
    )
    # Tenacity's strategies ask only for the number; an exponent beyond 64 overflows nothing but patience.
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = min(attempt, 64)
    return float(wait(state))


def _answered(
    outcome: Delivered, policy: RetryPolicy, tries: Tries, partition_key: str, offsets: Sequence[int]
) -> Decision:
    if not policy.report_batch_item_failures:
        return Commit()
    failed = failed_indices(outcome.body, partition_key=partition_key, offsets=offsets)
    return Commit() if failed == [] else _again(policy, tries, failed, len(offsets))


def _refused(policy: RetryPolicy, tries: Tries, delay_s_min: float) -> Decision:
    refused = Tries(failed=tries.failed, refused=tries.refused + 1)
    return RetryIn(delay_s=max(backoff_s(policy, refused.refused), delay_s_min), tries=refused)


def _too_large(count: int) -> Decision:
    if count > 1:
        return Bisect()
    return GiveUp(indices=range(count), condition="MaximumPayloadSizeExceeded")


def _again(policy: RetryPolicy, tries: Tries, failed: Sequence[int] | None, count: int) -> Decision:
    """Retry what failed (None: all `count` records), or give it up when this was the last attempt allowed."""
    now = Tries(failed=tries.failed + 1)
    if exhausted(policy, now):
        given_up = range(count) if failed is None else failed
        return GiveUp(indices=given_up, condition="RetryAttemptsExhausted")
    delay_s = backoff_s(policy, now.failed)
    if failed is None:
        return RetryIn(delay_s=delay_s, tries=now)
    return RetryRest(indices=failed, delay_s=delay_s, tries=now)


_NOT_JSON = object()


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
