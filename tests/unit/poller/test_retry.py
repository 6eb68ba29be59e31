"""Retry decisions: every row of AWS's rules, without a clock."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.poller import AWAY, BROKEN, OK, THROTTLED, failing
from tidemill_poller.retry import (
    Attempts,
    Bisect,
    Commit,
    Decision,
    GiveUp,
    Outcome,
    RetryIn,
    RetryPolicy,
    RetryRest,
    backoff_s,
    decide,
    exhausted,
    expired,
    failed_indices,
    resumed,
)

OFFSETS = [100, 101, 105]
NEW = Attempts()
POLICY = RetryPolicy(
    retry_attempts=2,
    bisect=False,
    report_batch_item_failures=False,
    backoff_base_s=1.0,
    backoff_max_s=60.0,
)
PARTIAL = replace(POLICY, report_batch_item_failures=True)


def decided(
    outcome: Outcome,
    policy: RetryPolicy = POLICY,
    attempts: Attempts = NEW,
    offsets: list[int] = OFFSETS,
    random: float = 0.5,
) -> Decision:
    return decide(
        outcome, policy=policy, attempts=attempts, partition_key="orders-0", offsets=offsets, random=random
    )


def test_a_function_that_returns_commits() -> None:
    assert decided(OK) == Commit()


def test_batch_item_failures_are_ignored_unless_configured() -> None:
    assert decided(failing(100)) == Commit()


@pytest.mark.parametrize(("failed", "given_up"), [(0, False), (1, False), (2, True), (9, True)])
def test_n_retries_allow_n_plus_one_invocations(failed: int, given_up: bool) -> None:  # noqa: FBT001 - a table
    decision = decided(BROKEN, attempts=Attempts(failed=failed))
    assert isinstance(decision, GiveUp if given_up else RetryIn)


def test_no_retries_give_up_after_the_first_invocation() -> None:
    decision = decided(BROKEN, replace(POLICY, retry_attempts=0))
    assert isinstance(decision, GiveUp)
    assert list(decision.indices) == [0, 1, 2]
    assert decision.condition == "RetryAttemptsExhausted"


def test_infinite_retries_never_give_up() -> None:
    policy = replace(POLICY, retry_attempts=None)
    assert isinstance(decided(BROKEN, policy, Attempts(failed=100_000)), RetryIn)
    assert not exhausted(policy, Attempts(failed=100_000))


@pytest.mark.parametrize("outcome", [THROTTLED, AWAY], ids=["throttled", "unreachable"])
def test_what_never_reached_the_function_is_no_attempt_and_never_given_up(outcome: Outcome) -> None:
    decision = decided(outcome, attempts=Attempts(failed=2, throttled=500))
    assert isinstance(decision, RetryIn)
    assert decision.attempts == Attempts(failed=2, throttled=501)


@pytest.mark.parametrize("outcome", [THROTTLED, AWAY], ids=["throttled", "unreachable"])
def test_what_never_reached_the_function_does_not_bisect(outcome: Outcome) -> None:
    assert isinstance(decided(outcome, replace(POLICY, bisect=True)), RetryIn)


def test_a_throttle_waits_at_least_as_long_as_it_was_told() -> None:
    decision = decided(replace(THROTTLED, retry_after_s=30.0))
    assert isinstance(decision, RetryIn)
    assert decision.delay_s == 30.0


def test_an_event_too_large_for_the_endpoint_is_halved_and_at_last_given_up() -> None:
    too_large = replace(AWAY, error_type="RequestTooLargeException")
    assert decided(too_large) == Bisect()
    decision = decided(too_large, offsets=[100])
    assert isinstance(decision, GiveUp)
    assert decision.condition == "MaximumPayloadSizeExceeded"


def test_bisecting_uses_up_no_retry() -> None:
    bisecting = replace(POLICY, retry_attempts=0, bisect=True)
    assert decided(BROKEN, bisecting) == Bisect()


def test_a_single_record_is_not_bisected_but_retried() -> None:
    assert isinstance(decided(BROKEN, replace(POLICY, bisect=True), offsets=[100]), RetryIn)


def test_a_partial_failure_retries_only_what_failed() -> None:
    decision = decided(failing(105, 101), PARTIAL)
    assert isinstance(decision, RetryRest)
    assert list(decision.indices) == [1, 2]
    assert decision.attempts == Attempts(failed=1)


def test_each_round_of_partial_failures_counts_and_the_last_gives_up_what_failed() -> None:
    decision = decided(failing(101), PARTIAL, Attempts(failed=2))
    assert isinstance(decision, GiveUp)
    assert list(decision.indices) == [1]


def test_a_reply_that_names_a_foreign_record_fails_the_whole_batch() -> None:
    decision = decided(failing(101, 999), PARTIAL)
    assert isinstance(decision, RetryIn)
    assert decision.attempts == Attempts(failed=1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b'""',
        b"[]",
        b'{"batchItemFailures":[]}',
        b'{"batchItemFailures":null}',
        b'{"other":1}',
        b'"done"',
        b"17",
    ],
)
def test_replies_that_name_nothing_are_success(body: bytes) -> None:
    assert failed_indices(body, partition_key="orders-0", offsets=OFFSETS) == []


def item(identifier: Any) -> bytes:
    return json.dumps({"batchItemFailures": [{"itemIdentifier": identifier}]}).encode()


@pytest.mark.parametrize(
    "body",
    [
        item({"partition": "orders-1", "offset": 100}),
        item({"partition": "orders-0", "offset": 102}),
        item({"partition": "orders-0", "offset": "100"}),
        item({"partition": "orders-0", "offset": 100.5}),
        item({"partition": "orders-0", "offset": True}),
        item({"partition": "orders-0"}),
        item({"offset": 100}),
        item("orders-0"),
        item(""),
        item(None),
        b'{"batchItemFailures":[{"itemidentifier":{}}]}',
        b'{"batchItemFailures":[7]}',
        b'{"batchItemFailures":"all"}',
        b"not json",
        b"\xff",
    ],
)
def test_replies_that_name_no_record_of_the_event_are_at_fault(body: bytes) -> None:
    assert failed_indices(body, partition_key="orders-0", offsets=OFFSETS) is None


def test_a_record_named_twice_failed_once() -> None:
    body = failing(100, 100).body
    assert failed_indices(body, partition_key="orders-0", offsets=OFFSETS) == [0]


def test_back_off_doubles_up_to_its_most_with_a_quarter_of_jitter() -> None:
    for failures, most in ((1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (1_000_000, 60.0)):
        assert backoff_s(POLICY, failures, random=0.0) == most
        assert backoff_s(POLICY, failures, random=1.0) == pytest.approx(most * 0.75)


def test_partitions_that_have_failed_longest_do_not_retry_in_step() -> None:
    """All wait the longest there is; only the jitter keeps them apart."""
    for_ever = replace(POLICY, retry_attempts=None)
    decisions = [decided(BROKEN, for_ever, Attempts(failed=50), random=n / 10) for n in range(10)]
    assert len({decision.delay_s for decision in decisions if isinstance(decision, RetryIn)}) == 10


def test_the_same_random_number_gives_the_same_decision() -> None:
    assert decided(BROKEN, random=0.3) == decided(BROKEN, random=0.3)


def test_no_back_off_base_means_no_wait() -> None:
    assert backoff_s(replace(POLICY, backoff_base_s=0.0), 50, random=0.5) == 0.0


@pytest.mark.parametrize(
    ("ages_ms", "limit_ms", "count"),
    [
        ([61_000, 60_001, 60_000], 60_000, 2),
        ([60_000, 61_000], 60_000, 0),
        ([70_000, 70_000], 60_000, 2),
        ([70_000, 70_000], None, 0),
        ([], 60_000, 0),
    ],
)
def test_only_the_expired_head_of_a_batch_is_discarded(
    ages_ms: list[int], limit_ms: int | None, count: int
) -> None:
    now_ms = 10_000_000
    timestamps = [now_ms - age for age in ages_ms]
    assert expired(timestamps, now_ms=now_ms, age_ms_max=limit_ms) == count


def test_a_record_without_a_timestamp_never_grows_too_old() -> None:
    """-1 is what clients older than message format v1 leave; all they send would be discarded else."""
    assert expired([-1, -1], now_ms=10_000_000, age_ms_max=60_000) == 0


@pytest.mark.parametrize(("failed", "goes_on_with"), [(0, 0), (2, 2), (3, 3), (4, 2), (57, 2)])
def test_what_failed_more_often_than_an_update_allows_gets_one_more_invocation(
    failed: int, goes_on_with: int
) -> None:
    policy = replace(POLICY, retry_attempts=2)
    assert resumed(policy, Attempts(failed=failed)).failed == goes_on_with
    assert resumed(replace(POLICY, retry_attempts=None), Attempts(failed=failed)).failed == failed
