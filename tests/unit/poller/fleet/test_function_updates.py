"""An updated function wakes the partitions that wait for it: in virtual time, by few calls."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.fakes import virtual_time
from tests.fakes.poller import BROKEN, MAPPING, OK, LaneWorld, ScriptedFunction, lane_dependencies, records
from tests.fakes.virtual_time import now_s
from tidemill_poller.fleet import FunctionUpdates
from tidemill_poller.offsets import CommitPoint

ARN = MAPPING.function_arn


@dataclass
class LambdaApi:
    """Functions by ARN with their revisions; `away`: no call is answered."""

    revisions: dict[str, str] = field(default_factory=dict)
    away: bool = False
    calls: list[tuple[float, str]] = field(default_factory=list)

    async def revision(self, function_arn: str) -> str | None:
        self.calls.append((now_s(), function_arn))
        await asyncio.sleep(0.01)
        return None if self.away else self.revisions.get(function_arn, "absent")


@pytest.mark.parametrize("before", ["1", "absent"], ids=["updated", "created"])
def test_an_updated_function_is_retried_at_once_as_the_next_attempt(before: str) -> None:
    """It has failed for so long that the next retry is a minute away."""
    api = LambdaApi({ARN: before})
    fixed = asyncio.Event()
    function = ScriptedFunction(answer=lambda *_: OK if fixed.is_set() else BROKEN)

    async def scenario() -> tuple[float, LaneWorld]:
        updates = FunctionUpdates(api.revision, interval_s=2.0)
        running = asyncio.ensure_future(updates.run())
        world = LaneWorld(lane_dependencies(function, updates=updates, backoff_base_s=60.0))
        world.lane.feed(records(0))
        lane = asyncio.ensure_future(world.run_until(lambda: world.committed == CommitPoint(1)))
        await asyncio.sleep(30)
        assert len(function.calls) == 1
        fixed.set()
        api.revisions[ARN] = "2"
        updated_at_s = now_s()
        await lane
        running.cancel()
        return updated_at_s, world

    updated_at_s, world = virtual_time.run(scenario())
    assert [call.at_s - updated_at_s <= 2.1 for call in function.calls] == [True, True]
    assert world.status.attempt == 2


def test_many_partitions_that_wait_cost_one_call_an_interval_and_none_that_does_no_call() -> None:
    api = LambdaApi({ARN: "1"})

    async def scenario() -> list[float]:
        updates = FunctionUpdates(api.revision, interval_s=2.0)
        running = asyncio.ensure_future(updates.run())
        await asyncio.sleep(60)
        assert api.calls == []
        with ExitStack() as waiting:
            for _ in range(100):
                waiting.enter_context(updates.watching(ARN, lambda: None))
            await asyncio.sleep(11)
        made = len(api.calls)
        await asyncio.sleep(60)
        assert len(api.calls) == made
        running.cancel()
        return [at_s for at_s, _ in api.calls]

    calls = virtual_time.run(scenario())
    assert 5 <= len(calls) <= 6


def test_a_lambda_api_that_does_not_answer_wakes_nobody_then_or_later() -> None:
    api = LambdaApi({ARN: "1"})
    woken: list[float] = []

    async def scenario() -> None:
        updates = FunctionUpdates(api.revision, interval_s=2.0)
        running = asyncio.ensure_future(updates.run())
        with updates.watching(ARN, lambda: woken.append(now_s())):
            await asyncio.sleep(5)
            api.away = True
            await asyncio.sleep(5)
            api.away = False
            await asyncio.sleep(5)
        running.cancel()

    virtual_time.run(scenario())
    assert woken == []


def test_an_update_during_an_invocation_is_noticed_after_it() -> None:
    api = LambdaApi({ARN: "1"})
    woken: list[float] = []

    async def scenario() -> None:
        updates = FunctionUpdates(api.revision, interval_s=2.0)
        running = asyncio.ensure_future(updates.run())
        with updates.watching(ARN, lambda: woken.append(now_s())):
            await asyncio.sleep(5)
        api.revisions[ARN] = "2"  # nobody waits: the function is being invoked
        await asyncio.sleep(30)
        with updates.watching(ARN, lambda: woken.append(now_s())):
            await asyncio.sleep(5)
        running.cancel()

    virtual_time.run(scenario())
    assert len(woken) == 1
