"""A group of pollers in virtual time: joining, rebalances, commits, faults of the cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes import virtual_time
from tests.fakes.kafka import FakeKafka, PollerWorld
from tests.fakes.poller import BROKEN, RecordingDestination, ScriptedFunction, lane_dependencies, until
from tests.fakes.virtual_time import now_ms, now_s
from tidemill_poller.errors import AccessDenied, LoginFailed, SourceUnavailable
from tidemill_poller.mapping import StartingPosition
from tidemill_poller.offsets import CommitPoint
from tidemill_poller.retry import Outcome


def world(function: ScriptedFunction, *, partitions: int = 1, **lanes: Any) -> PollerWorld:
    return PollerWorld(FakeKafka(partition_count=partitions), lane_dependencies(function, **lanes))


def values(count: int) -> list[bytes]:
    return [b"v%d" % i for i in range(count)]


# Where reading begins


@pytest.mark.parametrize(
    ("position", "first"),
    [(StartingPosition.TRIM_HORIZON, 0), (StartingPosition.LATEST, 5), (StartingPosition.AT_TIMESTAMP, 3)],
)
def test_a_group_without_offsets_begins_where_the_mapping_says(
    position: StartingPosition, first: int
) -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.starting_position = position
        w.kafka.produce(0, *values(3))
        await asyncio.sleep(60)
        w.starting_timestamp_ms = now_ms()
        w.kafka.produce(0, *values(2))
        poller = w.start()
        await until(lambda: w.at() == first or w.at() == 5)
        w.kafka.produce(0, b"later")
        await w.caught_up(poller)
        await poller.stop()

    virtual_time.run(scenario())
    assert [offset for batch in function.batches for offset in batch] == list(range(first, 6))


def test_a_time_after_the_last_record_begins_with_the_next_one() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.starting_position, w.starting_timestamp_ms = StartingPosition.AT_TIMESTAMP, now_ms() + 1
        w.kafka.produce(0, *values(3))
        poller = w.start()
        await until(lambda: w.at() == 3)
        await poller.stop()

    virtual_time.run(scenario())
    assert function.calls == []


def test_committed_offsets_overrule_the_starting_position() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.kafka.produce(0, *values(4))
        first = w.start()
        await w.caught_up(first)
        await first.stop()
        w.starting_position = StartingPosition.LATEST
        w.kafka.produce(0, *values(2))
        second = w.start()
        await w.caught_up(second)
        await second.stop()

    virtual_time.run(scenario())
    assert [offset for batch in function.batches for offset in batch] == list(range(6))


def test_latest_is_pinned_at_the_first_join_and_skips_nothing_after_a_kill() -> None:
    """A poller that dies before its first record must not begin again at a later end."""
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.starting_position = StartingPosition.LATEST
        w.kafka.produce(0, *values(3))
        first = w.start()
        await until(lambda: w.at() == 3)
        await first.kill()
        w.kafka.produce(0, *values(2))
        second = w.start()
        await w.caught_up(second)
        await second.stop()

    virtual_time.run(scenario())
    assert [offset for batch in function.batches for offset in batch] == [3, 4]


def test_a_partition_that_is_added_later_is_read_from_its_start() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.starting_position = StartingPosition.LATEST
        poller = w.start()
        await until(lambda: w.at() == 0)
        w.kafka._create(1)
        w.kafka.produce(1, *values(3))
        w.kafka.partition_count = 2
        await w.kafka.rebalance()
        await w.caught_up(poller)
        await poller.stop()

    virtual_time.run(scenario())
    assert function.batches == [[0, 1, 2]]


# Rebalances


def test_a_revoked_partition_settles_what_is_in_flight_commits_it_and_is_handed_over_once() -> None:
    """zio-kafka#1087, vector#12084: partitions are handed over while messages are still running."""
    function = ScriptedFunction(takes_s=3.0)

    async def scenario() -> None:
        w = world(function, partitions=2, records=1)
        for partition in range(2):
            w.kafka.produce(partition, *values(6))
        first = w.start()
        await until(lambda: function.running == 2)
        second = w.start()
        await w.caught_up(first, second)
        await first.stop()
        await second.stop()

    virtual_time.run(scenario())
    delivered = [(call.partition, offset) for call in function.calls for offset in call.offsets]
    assert sorted(delivered) == sorted(set(delivered))
    assert len(delivered) == 12


def test_what_outlives_the_drain_timeout_is_cut_off_and_never_commits_afterwards() -> None:
    function = ScriptedFunction(takes_s=100.0)

    async def scenario() -> PollerWorld:
        w = world(function)
        w.drain_timeout_s = 5.0
        w.kafka.produce(0, *values(2))
        first = w.start()
        await until(lambda: function.running == 1)
        began_s = now_s()
        await w.kafka.rebalance()
        assert now_s() - began_s == pytest.approx(5.0, abs=0.1)
        await until(lambda: len(function.calls) == 2)
        assert w.at() == 0
        function.takes_s = 0.01
        await w.caught_up(first)
        await first.stop()
        return w

    virtual_time.run(scenario())
    assert function.batches[:2] == [[0, 1], [0, 1]]
    assert function.calls[0].outcome is None


def test_a_slow_function_costs_no_rebalance() -> None:
    """aiokafka#848: a long handler must not make the group throw its member out."""
    function = ScriptedFunction(takes_s=840.0)

    async def scenario() -> None:
        w = world(function, partitions=2, records=10)
        w.kafka.produce(0, *values(30))
        w.kafka.produce(1, *values(30))
        poller = w.start()
        await w.caught_up(poller, within_s=100_000)
        assert w.kafka.generation == 1
        await poller.stop()

    virtual_time.run(scenario())
    assert len(function.calls) == 6


def test_tries_survive_real_rebalances() -> None:
    function, destination = ScriptedFunction(answer=lambda *_: BROKEN), RecordingDestination()

    async def scenario() -> None:
        w = world(function, destination=destination, retry_attempts=3, backoff_base_s=8.0)
        w.kafka.produce(0, *values(2))
        poller = w.start()
        while not destination.sent:
            await asyncio.sleep(5)
            await w.kafka.rebalance()
        await w.caught_up(poller)
        await poller.stop()

    virtual_time.run(scenario())
    assert len(function.calls) == 4
    assert [record.approximate_invoke_count for record in destination.sent] == [4]


def test_a_commit_of_an_old_generation_moves_nothing() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.kafka.produce(0, *values(2))
        poller = w.start()
        await w.caught_up(poller)
        poller.client.generation -= 1  # thrown out, and not told yet
        w.kafka.produce(0, *values(2))
        await until(lambda: len(function.calls) == 2)
        await asyncio.sleep(2)
        assert w.at() == 2
        assert not poller.task.done()
        await w.kafka.rebalance()
        await w.caught_up(poller)
        await poller.stop()

    virtual_time.run(scenario())
    assert function.batches == [[0, 1], [2, 3], [2, 3]]


# Partitions are independent


def test_a_failing_partition_blocks_itself_only() -> None:
    """parallel-consumer#582: a failing key stalls everything once the buffers are full of it."""
    function = ScriptedFunction(broken=frozenset({"orders-0"}), takes_s=0.0)

    async def scenario() -> None:
        w = world(function, partitions=3, records=10)
        for partition in range(3):
            w.kafka.produce(partition, *values(500))
        poller = w.start()
        await until(lambda: w.at(1) == 500 and w.at(2) == 500, within_s=60)
        assert w.at(0) == 0
        assert w.board.partitions[0].state == "retrying"
        await poller.stop()

    virtual_time.run(scenario())


def test_lag_is_known_and_a_stop_leaves_nothing_on_the_board() -> None:
    function = ScriptedFunction(answer=lambda *_: BROKEN)

    async def scenario() -> None:
        w = world(function)
        w.kafka.produce(0, *values(10))
        w.kafka.expire(0, 4)
        poller = w.start()
        await until(lambda: w.board.lag() == 6)
        await poller.stop()
        assert w.board.partitions == {}

    virtual_time.run(scenario())


# The cluster's faults


def test_records_that_retention_took_are_skipped_and_the_rest_is_delivered() -> None:
    function = ScriptedFunction(takes_s=1.0)

    async def scenario() -> None:
        w = world(function)
        w.kafka.produce(0, *values(2))
        poller = w.start()
        await w.caught_up(poller)
        await poller.stop()
        w.kafka.produce(0, *values(8))
        w.kafka.expire(0, 7)
        poller = w.start()
        await w.caught_up(poller)
        await poller.stop()

    virtual_time.run(scenario())
    assert [offset for batch in function.batches[1:] for offset in batch] == [7, 8, 9]


def test_with_latest_too_an_expired_offset_goes_on_at_the_start_of_the_log() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.starting_position = StartingPosition.LATEST
        w.kafka.produce(0, *values(2))
        poller = w.start()
        await w.caught_up(poller)
        await poller.stop()
        w.kafka.produce(0, *values(8))
        w.kafka.expire(0, 7)
        poller = w.start()
        await w.caught_up(poller)
        await poller.stop()

    virtual_time.run(scenario())
    assert [offset for batch in function.batches for offset in batch] == [7, 8, 9]


def test_a_topic_that_was_made_anew_is_read_from_its_start() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.kafka.produce(0, *values(5))
        poller = w.start()
        await w.caught_up(poller)
        w.kafka.recreate(0)
        await asyncio.sleep(1)
        w.kafka.produce(0, *values(2))
        await w.caught_up(poller)
        await poller.stop()

    virtual_time.run(scenario())
    assert function.batches[-1] == [0, 1]


def test_a_topic_that_was_made_anew_and_grew_while_nobody_polled_is_read_from_its_start() -> None:
    """The old offset must not be found in the group once the new log has reached it."""
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.kafka.produce(0, *values(5))
        poller = w.start()
        await w.caught_up(poller)
        w.kafka.recreate(0)
        await until(lambda: w.at() == 0)
        await poller.stop()
        w.kafka.produce(0, *values(9))
        poller = w.start()
        await w.caught_up(poller)
        await poller.stop()

    virtual_time.run(scenario())
    assert function.batches == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7, 8]]


def test_a_rebalance_while_a_topic_made_anew_is_noticed_leaves_no_lane_behind() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.kafka.produce(0, *values(5))
        poller = w.start()
        await w.caught_up(poller)
        function.takes_s = 20.0
        w.kafka.produce(0, *values(1))
        await until(lambda: function.running == 1)
        w.kafka.recreate(0)  # noticed now; the lane is drained for as long as the invocation takes
        await asyncio.sleep(5)
        function.takes_s = 0.01
        w.kafka.produce(0, *values(2))
        second = w.start()
        await asyncio.sleep(60)
        await w.caught_up(poller, second)
        await poller.stop()
        await second.stop()
        assert w.lanes.budget.used_bytes == 0

    virtual_time.run(scenario())
    assert function.batches[-1] == [0, 1]


def test_a_topic_that_is_gone_ends_the_source_with_the_reason() -> None:
    async def scenario() -> None:
        w = world(ScriptedFunction())
        poller = w.start()
        await until(lambda: poller.status.state == "polling")
        w.kafka.partition_count = 0
        await w.kafka.rebalance()
        with pytest.raises(SourceUnavailable, match="no topic orders"):
            await poller.task

    virtual_time.run(scenario())


def test_what_cannot_be_read_goes_to_the_destination_and_nothing_else_suffers() -> None:
    function, destination = ScriptedFunction(), RecordingDestination()

    async def scenario() -> None:
        w = world(function, partitions=3, destination=destination)
        w.kafka.unreadable[1] = 2
        for partition in range(3):
            w.kafka.produce(partition, *values(30))
        poller = w.start()
        await w.caught_up(poller, within_s=20)
        await poller.stop()

    virtual_time.run(scenario())
    delivered = sorted((call.partition, offset) for call in function.calls for offset in call.offsets)
    expected = [(f"orders-{p}", o) for p in range(3) for o in range(30) if (p, o) != (1, 2)]
    assert delivered == sorted(expected)
    assert [(r.partition_key, r.first_offset, r.condition) for r in destination.sent] == [
        ("orders-1", 2, "RecordUnreadable")
    ]


def test_metadata_of_a_commit_that_names_work_behind_the_log_slows_nothing() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.kafka.produce(0, *values(100))
        w.kafka.committed[0] = CommitPoint(0, '{"tidemill":1,"pending":[[0,0,1000000000000000]]}')
        poller = w.start()
        await w.caught_up(poller, within_s=4)
        await poller.stop()

    virtual_time.run(scenario())


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_topic_made_anew_and_refilled_is_read_from_the_starting_position(
    running: bool,  # noqa: FBT001 - a table
) -> None:
    """The offsets of the old topic fit the new one: a hundred records were never delivered."""
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.kafka.topic_id = "old"
        w.kafka.produce(0, *values(100))
        poller = w.start()
        await w.caught_up(poller)
        if not running:
            await poller.stop()
        function.calls.clear()
        w.kafka.recreate(0)
        w.kafka.topic_id = "new"
        w.kafka.produce(0, *values(150))
        if running:
            with pytest.raises(SourceUnavailable, match="made anew"):
                await poller.task
        again = w.start()
        await until(lambda: {o for batch in function.batches for o in batch} == set(range(150)))
        await w.caught_up(again)
        # Seen by whoever looks later: the poller itself has been well since.
        assert "was deleted and made anew" in w.board.notice
        assert w.board.notice_ms is not None
        await again.stop()

    virtual_time.run(scenario())


def test_gaps_in_the_log_are_no_reason_to_wait() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.kafka.produce(0, *values(2))
        w.kafka.gap(0, 3)
        w.kafka.produce(0, *values(1))
        poller = w.start()
        await w.caught_up(poller)
        await poller.stop()

    virtual_time.run(scenario())
    assert sorted(offset for batch in function.batches for offset in batch) == [0, 1, 5]


def test_a_lost_connection_is_a_problem_with_a_reason_and_heals_by_itself() -> None:
    function = ScriptedFunction()

    async def scenario() -> None:
        w = world(function)
        w.kafka.produce(0, *values(2))
        poller = w.start()
        await w.caught_up(poller)
        w.kafka.reachable = False
        await until(lambda: poller.status.problem == SourceUnavailable.problem)
        assert "fake:9092" in poller.status.reason
        assert "connection refused" in poller.status.reason
        w.kafka.produce(0, *values(2))
        w.kafka.reachable = True
        await w.caught_up(poller)
        await until(lambda: poller.status.problem is None)
        await poller.stop()

    virtual_time.run(scenario())
    assert function.batches == [[0, 1], [2, 3]]


def test_a_cluster_that_cannot_be_reached_at_the_start_ends_the_source_with_the_reason() -> None:
    async def scenario() -> None:
        w = world(ScriptedFunction())
        w.kafka.reachable = False
        poller = w.start()
        with pytest.raises(SourceUnavailable, match="connection refused"):
            await poller.task
        assert poller.status.state == "failed"

    virtual_time.run(scenario())


def test_a_connection_that_only_new_credentials_fix_ends_the_source_with_the_reason() -> None:
    """aiokafka would try the old ones for ever: the fleet connects anew, with what the secret holds then."""

    async def scenario() -> None:
        w = world(ScriptedFunction())
        poller = w.start()
        await until(lambda: poller.status.state == "polling")
        w.kafka.fault = LoginFailed("fake:9092: login by PLAIN: refused")
        w.kafka.reachable = False
        with pytest.raises(LoginFailed, match="login by PLAIN: refused"):
            await poller.task
        assert poller.status.problem == "PROBLEM: SASL authentication failed."

    virtual_time.run(scenario())


def test_a_commit_that_is_not_allowed_ends_the_source() -> None:
    """Else the function would be given what is delivered again for ever, and nobody told."""

    async def scenario() -> None:
        w = world(ScriptedFunction())
        poller = w.start()
        await until(lambda: poller.status.state == "polling")
        w.kafka.commits_denied = True
        w.kafka.produce(0, *values(1))
        with pytest.raises(AccessDenied):
            await poller.task

    virtual_time.run(scenario())


# Commits and stopping


def test_commits_are_coalesced_and_prompt_when_idle() -> None:
    function = ScriptedFunction(takes_s=0.001)

    async def scenario() -> None:
        w = world(function, records=1)
        poller = w.start()
        await until(lambda: w.at() == 0)
        pins = len(w.kafka.commit_log)
        w.kafka.produce(0, b"alone")
        began_s = now_s()
        await until(lambda: w.at() == 1)
        assert now_s() - began_s < 0.05
        await asyncio.sleep(1)
        began_s = now_s()
        w.kafka.produce(0, *values(400))
        await w.caught_up(poller)
        took_s = now_s() - began_s
        assert len(w.kafka.commit_log) - pins <= 3 + took_s / 0.2
        await poller.stop()

    virtual_time.run(scenario())


def test_a_stop_settles_commits_and_leaves_so_that_the_next_one_repeats_nothing() -> None:
    function = ScriptedFunction(takes_s=2.0)

    async def scenario() -> None:
        w = world(function, records=3)
        w.kafka.produce(0, *values(12))
        first = w.start()
        await until(lambda: function.running == 1)
        await first.stop()
        assert w.kafka.members == []
        assert w.at() == 3
        second = w.start()
        await w.caught_up(second)
        await second.stop()

    virtual_time.run(scenario())
    assert function.batches == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


def test_a_full_lane_is_not_polled_and_memory_stays_within_the_budget() -> None:
    """redpanda-data/connect#4657: the output is down, the input keeps fetching until the memory is gone."""
    function = ScriptedFunction(answer=lambda *_: BROKEN)

    async def scenario() -> None:
        w = world(function, partitions=4, buffer_bytes=1 << 30)
        w.lanes.budget._limit_bytes = 100_000
        for partition in range(4):
            w.kafka.produce(partition, *values(3000))
        poller = w.start()
        await asyncio.sleep(600)
        # one poll of a partition may overshoot: 50 records of the fake
        assert w.lanes.budget.used_bytes < 100_000 + 4 * 50 * 1_000
        await poller.stop()
        assert w.lanes.budget.used_bytes == 0

    virtual_time.run(scenario())


def test_a_crash_of_a_lane_ends_the_source_and_gives_every_byte_back() -> None:
    class Bug(ScriptedFunction):
        async def invoke(self, *args: Any, **kwargs: Any) -> Outcome:
            raise ZeroDivisionError

    async def scenario() -> None:
        w = world(Bug())
        w.kafka.produce(0, *values(3))
        poller = w.start()
        with pytest.raises(ExceptionGroup):
            await poller.task
        assert w.lanes.budget.used_bytes == 0
        assert w.kafka.members == []
        assert w.at() == 0

    virtual_time.run(scenario())
