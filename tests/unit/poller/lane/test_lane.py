"""One partition's pipeline in virtual time: what is invoked, when, and what may be committed."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.fakes import virtual_time
from tests.fakes.poller import (
    AWAY,
    BROKEN,
    OK,
    THROTTLED,
    LaneWorld,
    RecordingDestination,
    ScriptedFunction,
    failing,
    lane_dependencies,
    poison,
    records,
    until,
)
from tests.fakes.virtual_time import now_ms, now_s
from tidemill_poller.batch import ByteBudget
from tidemill_poller.errors import SkipRejected
from tidemill_poller.event import Record, UndeliverableRecord
from tidemill_poller.filters import compile_filters
from tidemill_poller.offsets import CommitPoint, Pending, encode
from tidemill_poller.retry import Attempts, Outcome


def delivered(
    function: ScriptedFunction, *offsets: int, destination: RecordingDestination | None = None, **setup: Any
) -> LaneWorld:
    """Deliver these offsets in one poll, to the end."""

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function, destination=destination, **setup))
        await world.deliver(records(*offsets))
        return world

    return virtual_time.run(scenario())


# Batching


def test_a_poll_goes_at_once_without_a_window() -> None:
    function = ScriptedFunction()
    delivered(function, 0, 1, 2)
    assert function.batches == [[0, 1, 2]]
    assert function.calls[0].at_s == virtual_time.START_S


def test_a_poll_of_many_records_becomes_batches_of_the_size() -> None:
    function = ScriptedFunction()
    delivered(function, *range(250), records=100)
    assert [len(batch) for batch in function.batches] == [100, 100, 50]


def test_a_window_waits_for_more_records() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        world = LaneWorld(lane_dependencies(function, window_s=10.0))
        task = asyncio.ensure_future(world.run_until(lambda: world.committed.offset == 3))
        world.lane.feed(records(0))
        await asyncio.sleep(4)
        world.lane.feed(records(1, 2))
        await task

    virtual_time.run(scenario())
    assert function.batches == [[0, 1, 2]]
    assert function.calls[0].at_s == pytest.approx(virtual_time.START_S + 10)


def test_a_full_batch_does_not_wait_for_its_window() -> None:
    function = ScriptedFunction()
    delivered(function, *range(100), records=100, window_s=300.0)
    assert function.calls[0].at_s == virtual_time.START_S


@pytest.mark.parametrize(("overlap", "second_at_s"), [(False, 18.0), (True, 13.0)])
def test_the_next_window_opens_after_the_invocation_or_when_provisioned_with_the_last_batch(
    overlap: bool,  # noqa: FBT001 - a table
    second_at_s: float,
) -> None:
    function = ScriptedFunction(takes_s=5.0)

    async def scenario() -> None:
        world = LaneWorld(lane_dependencies(function, window_s=3.0, overlap_window=overlap))
        task = asyncio.ensure_future(world.run_until(lambda: world.committed.offset == 2))
        await asyncio.sleep(7)
        world.lane.feed(records(0))  # goes at 10, is done at 15
        await asyncio.sleep(3.5)
        world.lane.feed(records(1))  # came at 10.5
        await task

    virtual_time.run(scenario())
    first, second = (call.at_s - virtual_time.START_S for call in function.calls)
    assert first == pytest.approx(10.0)
    assert second == pytest.approx(max(15.0, second_at_s), abs=0.01)


def test_one_invocation_is_in_flight_at_a_time() -> None:
    function = ScriptedFunction(takes_s=1.0)
    delivered(function, *range(10), records=1)
    assert function.running_max == 1
    assert function.batches == [[i] for i in range(10)]


def test_records_that_the_filter_rejects_commit_without_an_invocation() -> None:
    function = ScriptedFunction()
    wanted = compile_filters(['{"value":{"kind":["buy"]}}'])

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function, filter=wanted))
        sell, buy = b'{"kind":"sell"}', b'{"kind":"buy"}'
        await world.deliver([*records(0, value=sell), *records(1, 2, value=sell)])
        assert function.calls == []
        world = LaneWorld(world.setup, committed=world.committed)
        await world.deliver([*records(3, value=sell), *records(4, value=buy), *records(5, value=sell)])
        return world

    world = virtual_time.run(scenario())
    assert function.batches == [[4]]
    assert world.committed == CommitPoint(6)


def test_a_filtered_record_behind_a_failing_one_is_not_committed_past_it() -> None:
    wanted = compile_filters(['{"value":{"kind":["buy"]}}'])
    function = ScriptedFunction(answer=lambda *_: BROKEN)

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function, filter=wanted))
        world.lane.feed([*records(0, value=b'{"kind":"buy"}'), *records(1, value=b'{"kind":"sell"}')])
        await world.run_until(lambda: len(function.calls) == 3)
        return world

    assert virtual_time.run(scenario()).committed.offset == 0


# Outcomes


def test_a_function_error_is_retried_with_growing_waits() -> None:
    function = ScriptedFunction(answer=lambda _, number: BROKEN if number < 4 else OK, takes_s=0.0)
    world = delivered(function, 0, 1)
    assert function.batches == [[0, 1]] * 4
    at = [call.at_s for call in function.calls]
    waits = [later - sooner for sooner, later in pairwise(at)]
    assert [round(wait) for wait in waits] == [1, 2, 4]
    assert world.committed == CommitPoint(2)


def test_n_retries_are_n_plus_one_invocations_then_the_destination() -> None:
    function, destination = ScriptedFunction(answer=lambda *_: BROKEN), RecordingDestination()
    world = delivered(function, 0, 1, destination=destination, retry_attempts=3)
    assert len(function.calls) == 4
    (record,) = destination.sent
    assert record.condition == "RetryAttemptsExhausted"
    assert record.approximate_invoke_count == 4
    assert (record.first_offset, record.last_offset, record.batch_size) == (0, 1, 2)
    assert record.response is not None
    assert record.response.function_error == "Unhandled"
    assert record.request_id == BROKEN.request_id
    assert record.payload_bytes == len(record.payload)
    assert world.committed == CommitPoint(2)


def test_without_a_destination_what_is_given_up_is_dropped_and_counted() -> None:
    function = ScriptedFunction(answer=poison(1))
    world = delivered(function, 0, 1, 2, retry_attempts=0, bisect=True)
    assert world.telemetry.metrics.of(world.setup.mapping.uuid)["esm.events.dropped"] == 1
    assert world.committed == CommitPoint(3)


@pytest.mark.parametrize("outcome", [THROTTLED, AWAY], ids=["throttled", "unreachable"])
def test_what_never_reached_the_function_uses_up_no_retry(outcome: Outcome) -> None:
    function = ScriptedFunction(answer=lambda _, number: outcome if number <= 50 else OK)
    destination = RecordingDestination()
    world = delivered(function, 0, destination=destination, retry_attempts=1)
    assert len(function.calls) == 51
    assert destination.sent == []
    assert world.committed == CommitPoint(1)


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (BROKEN, "PROBLEM: Function call failed"),
        (THROTTLED, "PROBLEM: Function call throttled. Rate Exceeded."),
        (AWAY, "PROBLEM: Function could not be called. connection refused"),
    ],
    ids=["function error", "throttled", "unreachable"],
)
def test_three_outcomes_have_three_results_and_the_status_says_what_blocks(
    outcome: Outcome, problem: str
) -> None:
    function = ScriptedFunction(answer=lambda *_: outcome)

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function))
        world.lane.feed(records(40, 41))
        await world.run_until(lambda: world.status.state == "retrying")
        return world

    status = virtual_time.run(scenario()).status
    assert status.problem == problem
    assert (status.blocked_by, status.state) == (40, "retrying")
    assert status.reason
    assert status.retry_at_ms is not None


def test_a_retry_in_flight_is_shown_even_after_a_restart() -> None:
    function = ScriptedFunction(answer=lambda *_: BROKEN, takes_s=60.0)

    async def scenario() -> LaneWorld:
        pending = [Pending(runs=[(10, 11)], attempts=Attempts(failed=2))]
        world = LaneWorld(lane_dependencies(function), committed=CommitPoint(10, encode(10, pending)))
        world.lane.feed(records(10, 11))
        task = asyncio.ensure_future(world.lane.run())
        await until(lambda: function.running == 1)
        status = world.status
        assert (status.state, status.attempt, status.blocked_by) == ("retrying", 3, 10)
        assert status.retry_at_ms is None
        world.lane.close()
        await task
        world.lane.revoke()
        return world

    virtual_time.run(scenario())


def test_the_next_success_clears_the_problem() -> None:
    function = ScriptedFunction(answer=lambda _, number: BROKEN if number == 1 else OK)
    status = delivered(function, 0).status
    assert (status.problem, status.state, status.blocked_by) == (None, "polling", None)


# Poison pills


@pytest.mark.parametrize("bad", range(8))
def test_a_poison_pill_at_any_place_is_found_by_halving_and_only_it_goes_to_the_destination(bad: int) -> None:
    function, destination = ScriptedFunction(answer=poison(bad)), RecordingDestination()
    world = delivered(function, *range(8), destination=destination, retry_attempts=2, bisect=True)
    assert destination.offsets == [(bad, bad)]
    assert destination.sent[0].approximate_invoke_count == 3
    ok = [offset for call in function.calls if call.outcome is OK for offset in call.offsets]
    assert ok == [offset for offset in range(8) if offset != bad]
    # 8, 4, 2 once each, then the record itself three times, and the three good halves
    assert len(function.calls) == 3 + 3 + 3
    assert world.committed == CommitPoint(8)


def test_every_resolved_half_is_committed_before_the_next_is_tried() -> None:
    """brod#568: a batch of 5,000 that fails near its end must not replay 5,000."""
    function = ScriptedFunction(answer=poison(7))

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function, bisect=True))
        world.lane.feed(records(*range(8)))
        await world.run_until(lambda: len(function.calls) >= 10)
        return world

    world = virtual_time.run(scenario())
    assert [point.offset for point in world.commits if point.offset] == sorted(
        point.offset for point in world.commits if point.offset
    )
    assert {4, 6, 7} <= {point.offset for point in world.commits}
    assert world.committed.offset == 7


def test_two_poison_pills_are_two_failure_records() -> None:
    function, destination = ScriptedFunction(answer=poison(2, 5)), RecordingDestination()
    delivered(function, *range(8), destination=destination, retry_attempts=0, bisect=True)
    assert destination.offsets == [(2, 2), (5, 5)]


def test_a_poison_pill_without_a_way_out_blocks_its_partition_for_ever() -> None:
    """faststream#1980: a failed record must not be skipped silently because a later one commits."""
    function = ScriptedFunction(answer=poison(3))

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function, bisect=True))
        world.lane.feed(records(*range(8)))
        await world.run_until(lambda: len(function.calls) > 100, within_s=1e6)
        return world

    world = virtual_time.run(scenario())
    assert world.committed.offset == 3
    assert world.status.blocked_by == 3


# Partial batch responses


def test_only_the_failed_records_are_retried_and_the_commit_waits_for_the_lowest() -> None:
    answers = [failing(2, 4), failing(4), OK]
    function = ScriptedFunction(answer=lambda _, number: answers[number - 1])
    world = delivered(function, *range(6), report_batch_item_failures=True)
    assert function.batches == [[0, 1, 2, 3, 4, 5], [2, 4], [4]]
    assert [point.offset for point in world.commits] == [2, 4, 6]


def test_partial_rounds_count_and_the_rest_goes_to_the_destination() -> None:
    function, destination = ScriptedFunction(answer=lambda *_: failing(1, 3)), RecordingDestination()
    delivered(
        function,
        *range(5),
        destination=destination,
        report_batch_item_failures=True,
        retry_attempts=3,
    )
    assert function.batches == [[0, 1, 2, 3, 4], [1, 3], [1, 3], [1, 3]]
    (record,) = destination.sent
    assert record.approximate_invoke_count == 4
    assert record.response is not None
    assert record.response.function_error is None
    assert (record.first_offset, record.last_offset, record.batch_size) == (1, 3, 2)


def test_an_identifier_that_was_not_in_the_event_fails_the_whole_batch() -> None:
    function = ScriptedFunction(answer=lambda _, number: failing(1, 77) if number == 1 else OK)
    delivered(function, 0, 1, 2, report_batch_item_failures=True)
    assert function.batches == [[0, 1, 2], [0, 1, 2]]


def test_a_partial_failure_then_an_error_bisects_what_is_left() -> None:
    answers = {1: failing(1, 2, 5)}
    function = ScriptedFunction(answer=lambda batch, number: answers.get(number) or poison(5)(batch, number))
    destination = RecordingDestination()
    delivered(
        function,
        *range(6),
        destination=destination,
        report_batch_item_failures=True,
        bisect=True,
        retry_attempts=1,
    )
    assert destination.offsets == [(5, 5)]
    assert function.batches[:2] == [[0, 1, 2, 3, 4, 5], [1, 2, 5]]


# Age and size


def test_what_is_too_old_at_first_sight_is_discarded_and_the_rest_is_delivered() -> None:
    function, destination = ScriptedFunction(), RecordingDestination()

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function, destination=destination, age_ms_max=60_000))
        old, young = now_ms() - 60_001, now_ms()
        await world.deliver([*records(0, 1, timestamp=old), *records(2, timestamp=young)])
        return world

    assert virtual_time.run(scenario()).committed == CommitPoint(3)
    assert function.batches == [[2]]
    (record,) = destination.sent
    assert (record.condition, record.approximate_invoke_count) == ("RecordAgeExceeded", 1)
    assert record.response is None
    assert (record.first_offset, record.last_offset) == (0, 1)


def test_a_batch_grows_too_old_while_it_is_retried() -> None:
    function, destination = ScriptedFunction(answer=lambda *_: BROKEN), RecordingDestination()

    async def scenario() -> None:
        world = LaneWorld(lane_dependencies(function, destination=destination, age_ms_max=60_000))
        await world.deliver(records(0, 1, timestamp=now_ms()))

    virtual_time.run(scenario())
    # 1, 2, 4, 8, 16, 32 s: the seventh try would come after 63 s
    assert len(function.calls) == 6
    assert destination.sent[0].condition == "RecordAgeExceeded"
    assert destination.sent[0].approximate_invoke_count == 6


def test_age_ends_what_is_throttled_for_ever() -> None:
    function, destination = ScriptedFunction(answer=lambda *_: THROTTLED), RecordingDestination()

    async def scenario() -> None:
        world = LaneWorld(lane_dependencies(function, destination=destination, age_ms_max=600_000))
        await world.deliver(records(0, timestamp=now_ms()))

    virtual_time.run(scenario())
    assert destination.sent[0].condition == "RecordAgeExceeded"


def test_a_record_beyond_six_megabytes_is_never_invoked() -> None:
    function, destination = ScriptedFunction(), RecordingDestination()

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function, destination=destination))
        await world.deliver([*records(0), *records(1, value=b"x" * 4_800_000), *records(2)])
        return world

    assert virtual_time.run(scenario()).committed == CommitPoint(3)
    assert function.batches == [[0], [2]]
    (record,) = destination.sent
    assert (record.condition, record.response) == ("MaximumPayloadSizeExceeded", None)
    assert record.first_offset == 1


# Destination


def test_a_destination_that_is_away_holds_the_partition_and_says_so() -> None:
    function, destination = ScriptedFunction(answer=poison(0)), RecordingDestination(away=10_000)

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function, destination=destination, retry_attempts=0, records=1))
        world.lane.feed(records(0, 1))
        await world.run_until(lambda: destination.tried > 5)
        return world

    world = virtual_time.run(scenario())
    assert world.committed.offset == 0
    assert function.batches == [[0]]
    assert (world.status.state, world.status.blocked_by) == ("holding", 0)
    assert world.status.reason == "the queue does not answer"
    assert world.status.problem == (
        "PROBLEM: OnFailure destination cannot be reached. the queue does not answer"
    )


def test_a_destination_that_never_answers_gets_a_copy_a_minute_at_most() -> None:
    """Each may have arrived; one that is away gets its attempts with the growing back-off."""
    destination = RecordingDestination(silent=True)

    async def scenario() -> None:
        function = ScriptedFunction(answer=poison(0))
        world = LaneWorld(lane_dependencies(function, destination=destination, retry_attempts=0, records=1))
        world.lane.feed(records(0))
        started_s = now_s()
        await world.run_until(lambda: now_s() >= started_s + 599)

    virtual_time.run(scenario())
    assert len(destination.sent) == 10


def test_a_destination_that_comes_back_gets_the_record_once_and_the_lane_goes_on() -> None:
    function, destination = ScriptedFunction(answer=poison(0)), RecordingDestination(away=3)
    world = delivered(function, 0, 1, destination=destination, retry_attempts=0, records=1)
    assert destination.offsets == [(0, 0)]
    assert function.batches == [[0], [1]]
    assert world.committed == CommitPoint(2)


def test_a_destination_that_came_back_is_a_problem_no_more() -> None:
    function, destination = ScriptedFunction(answer=poison(0)), RecordingDestination(away=3)
    world = delivered(function, 0, destination=destination, retry_attempts=0)
    assert destination.offsets == [(0, 0)]
    assert world.status.problem == "PROBLEM: Function call failed"


def test_awss_way_drops_what_the_destination_does_not_take() -> None:
    function, destination = ScriptedFunction(answer=poison(0)), RecordingDestination(away=1)
    world = delivered(
        function, 0, 1, destination=destination, retry_attempts=0, records=1, drop_undeliverable=True
    )
    assert destination.tried == 1
    counts = world.telemetry.metrics.of(world.setup.mapping.uuid)
    assert (counts["esm.events.dropped"], counts["esm.errors.destination"]) == (1, 1)
    assert world.committed == CommitPoint(2)


def test_what_was_given_up_before_a_restart_goes_to_the_destination_without_another_invocation() -> None:
    function, destination = ScriptedFunction(answer=poison(0)), RecordingDestination(away=10_000)

    async def scenario() -> None:
        setup = lane_dependencies(function, destination=destination, retry_attempts=2)
        world = LaneWorld(setup)
        world.lane.feed(records(0))
        await world.run_until(lambda: destination.tried > 2)
        destination.away = 0
        world = LaneWorld(setup, committed=world.committed)
        await world.deliver(records(0, 1))

    virtual_time.run(scenario())
    assert function.batches == [[0], [0], [0], [1]]
    assert destination.offsets == [(0, 0)]
    assert destination.sent[0].approximate_invoke_count == 3


# Closing, revoking, restarting


def test_a_closed_lane_settles_what_is_in_flight_and_takes_nothing_more() -> None:
    function = ScriptedFunction(takes_s=5.0)

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function, records=1))
        world.lane.feed(records(0, 1))
        await world.run_until(lambda: function.running == 1)
        return world

    world = virtual_time.run(scenario())
    assert function.batches == [[0]]
    assert world.committed == CommitPoint(1)


def test_a_closed_lane_leaves_the_halves_to_the_next_owner() -> None:
    """Or a rebalance amid a bisect would wait for one invocation after another."""
    function = ScriptedFunction(answer=poison(0, 3), takes_s=5.0)

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function, bisect=True))
        world.lane.feed(records(0, 1, 2, 3))
        await world.run_until(lambda: function.running == 1)
        return world

    world = virtual_time.run(scenario())
    assert function.batches == [[0, 1, 2, 3]]
    assert world.committed == CommitPoint(
        0,
        encode(0, [Pending(runs=[(0, 1)], attempts=Attempts()), Pending(runs=[(2, 3)], attempts=Attempts())]),
    )


def test_a_closed_lane_does_not_wait_out_its_back_off() -> None:
    function = ScriptedFunction(answer=lambda *_: BROKEN, takes_s=0.0)

    async def scenario() -> float:
        world = LaneWorld(lane_dependencies(function, backoff_base_s=50.0))
        world.lane.feed(records(0))
        await world.run_until(lambda: world.status.state == "retrying")
        return now_s()

    assert virtual_time.run(scenario()) < virtual_time.START_S + 1


def test_a_revoked_lane_commits_nothing() -> None:
    function = ScriptedFunction(takes_s=5.0)

    async def scenario() -> LaneWorld:
        world = LaneWorld(lane_dependencies(function))
        task = asyncio.ensure_future(world.lane.run())
        world.lane.feed(records(0))
        await until(lambda: function.running == 1)
        world.lane.revoke()
        await task  # the invocation ends well, and late
        assert function.calls[0].outcome is OK
        assert world.lane.offsets.due() is None
        return world

    assert virtual_time.run(scenario()).commits == []


def test_three_retries_never_become_more_because_the_group_kept_rebalancing() -> None:
    """knative/eventing-kafka-broker#3746: retry 3, yet 184 deliveries and never dead-lettered."""
    function, destination = ScriptedFunction(answer=lambda *_: BROKEN), RecordingDestination()

    async def scenario() -> None:
        setup = lane_dependencies(function, destination=destination, retry_attempts=3, backoff_base_s=10.0)
        committed = CommitPoint(0)
        while not destination.sent:
            world = LaneWorld(setup, committed=committed)
            world.lane.feed(records(0, 1))
            calls = len(function.calls)
            await world.run_until(lambda now=calls: len(function.calls) > now or bool(destination.sent))  # type: ignore[misc]  # mypy cannot see a lambda's default
            committed = world.committed
        assert committed == CommitPoint(2)

    virtual_time.run(scenario())
    assert len(function.calls) == 4
    assert destination.sent[0].approximate_invoke_count == 4


def test_a_restart_keeps_the_halves_apart_and_their_tries() -> None:
    function = ScriptedFunction()

    async def scenario() -> LaneWorld:
        pending = [
            Pending(runs=[(10, 11)], attempts=Attempts(failed=2)),
            Pending(runs=[(12, 12), (14, 15)], attempts=Attempts()),
        ]
        world = LaneWorld(lane_dependencies(function), committed=CommitPoint(10, encode(10, pending)))
        await world.deliver(records(10, 11, 12), records(13, 14, 15, 16, 17))
        return world

    world = virtual_time.run(scenario())
    # 13 was settled before; 16 and 17 are a batch of their own
    assert function.batches == [[10, 11], [12, 14, 15], [16, 17]]
    assert world.committed == CommitPoint(18)


def test_a_restored_part_whose_records_are_gone_is_not_waited_for() -> None:
    function = ScriptedFunction()

    async def scenario() -> LaneWorld:
        pending = [
            Pending(runs=[(10, 20)], attempts=Attempts(failed=1)),
            Pending(runs=[(21, 30)], attempts=Attempts()),
        ]
        world = LaneWorld(lane_dependencies(function), committed=CommitPoint(10, encode(10, pending)))
        await world.deliver(records(40, 41))  # retention, or compaction, took the rest
        return world

    virtual_time.run(scenario())
    assert function.batches == [[40, 41]]


def test_a_restored_part_that_never_becomes_whole_goes_as_it_is() -> None:
    function = ScriptedFunction()

    async def scenario() -> LaneWorld:
        pending = [Pending(runs=[(10, 20)], attempts=Attempts(failed=1))]
        world = LaneWorld(lane_dependencies(function), committed=CommitPoint(10, encode(10, pending)))
        world.lane.feed(records(10, 11))  # the log was cut after 11
        await world.run_until(lambda: world.committed.offset == 12)
        return world

    virtual_time.run(scenario())
    assert function.batches == [[10, 11]]


def test_a_stuck_batch_is_cut_to_a_batch_size_that_was_lowered() -> None:
    """What a user does about a batch that takes too long; the old batch must not come back whole."""
    function = ScriptedFunction()

    async def scenario() -> LaneWorld:
        pending = [Pending(runs=[(10, 14)], attempts=Attempts(failed=7))]
        world = LaneWorld(
            lane_dependencies(function, records=2), committed=CommitPoint(10, encode(10, pending))
        )
        await world.deliver(records(10, 11, 12, 13, 14, 15))
        return world

    world = virtual_time.run(scenario())
    assert function.batches == [[10, 11], [12, 13], [14], [15]]
    assert world.committed == CommitPoint(16)


def test_a_stuck_batch_is_bisected_by_the_rules_of_an_update_and_not_discarded_whole() -> None:
    """Bisect and a destination are what a user adds to get rid of one poison pill after many failures."""
    function, destination = ScriptedFunction(answer=poison(12)), RecordingDestination()

    async def scenario() -> LaneWorld:
        pending = [Pending(runs=[(10, 13)], attempts=Attempts(failed=57))]
        setup = lane_dependencies(function, destination=destination, retry_attempts=2, bisect=True)
        world = LaneWorld(setup, committed=CommitPoint(10, encode(10, pending)))
        await world.deliver(records(10, 11, 12, 13))
        return world

    virtual_time.run(scenario())
    assert destination.offsets == [(12, 12)]
    assert destination.sent[0].approximate_invoke_count == 3
    assert [10, 11] in function.batches


def test_kill_nine_in_an_invocation_redelivers_the_batch_and_loses_nothing() -> None:
    function = ScriptedFunction(takes_s=5.0)

    async def scenario() -> None:
        world = LaneWorld(lane_dependencies(function))
        task = asyncio.ensure_future(world.lane.run())
        world.lane.feed(records(0, 1))
        await until(lambda: function.running == 1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        world = LaneWorld(world.setup, committed=world.committed)
        await world.deliver(records(0, 1))

    virtual_time.run(scenario())
    assert function.batches == [[0, 1], [0, 1]]


# Bytes


def wants(world: LaneWorld) -> bool:
    return world.lane.wants_records


def test_a_lane_that_holds_its_share_wants_no_more_until_it_has_delivered() -> None:
    function = ScriptedFunction(takes_s=5.0)

    async def scenario() -> None:
        world = LaneWorld(lane_dependencies(function, buffer_bytes=10_000))
        assert wants(world)
        world.lane.feed(records(*range(50)))
        assert not wants(world)
        assert world.status.fetch_paused
        assert world.status.buffered_bytes > 10_000
        await world.run_until(lambda: world.committed.offset == 50)

    virtual_time.run(scenario())


def test_a_spent_budget_stops_every_lane_that_holds_something_but_no_empty_one() -> None:
    """parallel-consumer#582: buffers full of one failing partition's records must not starve the others."""

    async def scenario() -> None:
        budget = ByteBudget(5_000)
        stuck = LaneWorld(lane_dependencies(ScriptedFunction(answer=lambda *_: BROKEN), budget=budget))
        stuck.lane.feed(records(*range(50)))
        other = LaneWorld(lane_dependencies(ScriptedFunction(), budget=budget, window_s=300.0))
        assert budget.spent
        assert not wants(stuck)
        assert wants(other)
        other.lane.feed(records(0))
        assert not wants(other)
        # and what it holds goes at once: waiting for its window would be idle
        await other.run_until(lambda: other.committed.offset == 1)
        assert now_s() < virtual_time.START_S + 1
        stuck.lane.revoke()
        assert budget.used_bytes == 0

    virtual_time.run(scenario())


def test_every_byte_is_given_back() -> None:
    function, destination = ScriptedFunction(answer=poison(3)), RecordingDestination()
    budget = ByteBudget(1 << 30)
    setup = lane_dependencies(function, destination=destination, retry_attempts=0, bisect=True)
    setup = replace(setup, budget=budget)

    async def scenario() -> None:
        world = LaneWorld(setup)
        await world.deliver(records(*range(8)), records(8, 9))
        world = LaneWorld(setup, committed=CommitPoint(10))
        world.lane.feed(records(10, 11))
        world.lane.revoke()

    virtual_time.run(scenario())
    assert budget.used_bytes == 0


# What no function can be given


def undeliverable(first: int, last: int) -> UndeliverableRecord:
    return UndeliverableRecord(
        topic="orders",
        partition=0,
        offset=first,
        last_offset=last,
        timestamp=-1,
        condition="BatchUnreadable",
        error="DecompressionError: junk",
        size_bytes=77,
        raw=b"\x00\xff",
    )


def test_what_cannot_be_read_goes_to_the_destination_alone_and_is_committed() -> None:
    function, destination = ScriptedFunction(), RecordingDestination()
    polled: list[Record] = [*records(0, 1), undeliverable(2, 5), undeliverable(6, 6), *records(7)]

    async def scenario() -> LaneWorld:
        world = LaneWorld(
            lane_dependencies(function, destination=destination, filter=compile_filters(['{"value":["v0"]}']))
        )
        world.lane.feed(polled)
        await world.run_until(lambda: world.committed.offset == 8)
        return world

    virtual_time.run(scenario())
    assert function.batches == [[0]]
    assert destination.offsets == [(2, 5), (6, 6)]
    first = destination.sent[0]
    assert (first.condition, first.payload_bytes, first.batch_size) == ("BatchUnreadable", 77, 1)
    assert b'"raw":"AP8="' in first.payload


def test_what_cannot_be_read_is_given_up_under_every_policy_and_never_bisected() -> None:
    function, destination = ScriptedFunction(), RecordingDestination(away=2)

    async def scenario() -> None:
        world = LaneWorld(lane_dependencies(function, destination=destination, window_s=300.0))
        world.lane.feed([undeliverable(0, 9)])
        await world.run_until(lambda: world.committed.offset == 10)

    virtual_time.run(scenario())
    assert function.calls == []
    assert destination.offsets == [(0, 9)]


def test_pending_work_behind_the_end_of_the_log_is_nobodys() -> None:
    """Any tool can write such metadata; every batch waited five seconds for records that never come."""
    function = ScriptedFunction()

    async def scenario() -> float:
        foreign = '{"tidemill":1,"pending":[[0,0,1000000000000000]]}'
        world = LaneWorld(lane_dependencies(function, records=10), committed=CommitPoint(0, foreign), end=50)
        for at in range(0, 50, 5):
            world.lane.feed(records(*range(at, at + 5)))
        await world.run_until(lambda: world.committed.offset == 50)
        return now_s() - virtual_time.START_S

    assert virtual_time.run(scenario()) < 1


def test_pending_work_that_is_larger_than_a_batch_waits_for_no_more_than_one() -> None:
    function = ScriptedFunction()

    async def scenario() -> float:
        foreign = '{"tidemill":1,"pending":[[0,0,999999]]}'
        world = LaneWorld(
            lane_dependencies(function, records=10), committed=CommitPoint(0, foreign), end=1_000_000
        )
        world.lane.feed(records(*range(40)))
        await world.run_until(lambda: world.committed.offset == 40)
        return now_s() - virtual_time.START_S

    assert virtual_time.run(scenario()) < 1


# Retrying and skipping by hand


def test_a_retry_by_hand_ends_the_wait_and_counts_as_an_attempt() -> None:
    function = ScriptedFunction(answer=poison(0))

    async def scenario() -> None:
        world = LaneWorld(lane_dependencies(function))
        assert not world.lane.retry()
        world.lane.feed(records(0))
        task = asyncio.ensure_future(world.run_until(lambda: len(function.calls) > 5))
        await until(lambda: world.status.state == "retrying" and len(function.calls) == 5)
        before_s = asyncio.get_running_loop().time()
        assert world.lane.retry()
        await task
        assert asyncio.get_running_loop().time() - before_s < 2  # of the 8 s or more that it would wait

    virtual_time.run(scenario())


def test_a_skip_gives_up_the_first_record_and_the_rest_is_delivered() -> None:
    function, destination = ScriptedFunction(answer=poison(0)), RecordingDestination()

    async def scenario() -> None:
        world = LaneWorld(lane_dependencies(function, destination=destination))
        assert world.lane.skip() is None
        world.lane.feed(records(0, 1, 2))
        task = asyncio.ensure_future(world.run_until(lambda: world.committed.offset == 3))
        await until(lambda: world.status.state == "retrying")
        assert world.lane.skip() == 0
        await task

    virtual_time.run(scenario())
    assert [(r.condition, r.first_offset, r.last_offset) for r in destination.sent] == [
        ("SkippedByOperator", 0, 0)
    ]
    assert function.batches[-1] == [1, 2]


def test_a_record_that_its_destination_does_not_take_is_not_skipped() -> None:
    """It would be nowhere; once the destination is back it goes there."""
    function, destination = ScriptedFunction(answer=poison(0)), RecordingDestination(away=5)

    async def scenario() -> None:
        world = LaneWorld(lane_dependencies(function, destination=destination))
        world.lane.feed(records(0, 1))
        task = asyncio.ensure_future(world.run_until(lambda: world.committed.offset == 2))
        await until(lambda: world.status.state == "retrying")
        assert world.lane.skip() == 0
        await until(lambda: world.status.state == "holding")
        with pytest.raises(SkipRejected, match="offset 0 waits for its failure destination"):
            world.lane.skip()
        await task
        assert world.lane.skip() is None

    virtual_time.run(scenario())
    assert [(r.condition, r.first_offset) for r in destination.sent] == [("SkippedByOperator", 0)]
    assert function.batches[-1] == [1]
