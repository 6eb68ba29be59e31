"""Whatever happens to pollers, cluster and function: no record is lost, order holds, duplicates only.

Each example is a life of one mapping in virtual time: records come, pollers join, leave and are killed, the
group rebalances, the cluster and the destination go away and come back. Then the world heals, and the books
must balance.
"""

from __future__ import annotations

import asyncio
import logging
import random
from asyncio import CancelledError
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from tests.fakes import virtual_time
from tests.fakes.kafka import FakeKafka, PollerWorld, RunningPoller
from tests.fakes.poller import (
    AWAY,
    BROKEN,
    OK,
    THROTTLED,
    Call,
    RecordingDestination,
    ScriptedFunction,
    failing,
    lane_dependencies,
    until,
)
from tidemill_poller.errors import SourceUnavailable
from tidemill_poller.retry import Outcome

EVENTS = ("start", "stop", "kill", "rebalance", "produce", "cluster away", "destination away")


@dataclass
class FlakyFunction(ScriptedFunction):
    """Fails on poison, and otherwise now and then, in every way there is, until `healed`."""

    seed: int = 0
    poison: frozenset[int] = frozenset()
    partial: bool = False
    healed: bool = False
    accepted: list[tuple[str, int, float]] = field(default_factory=list)
    overlaps: int = 0
    _running: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    async def invoke(self, function_arn: str, payload: bytes, **kwargs: Any) -> Outcome:
        partition = payload.split(b'"records":{"', 1)[1].split(b'"', 1)[0].decode()
        self._running[partition] += 1
        self.overlaps += self._running[partition] > 1
        self.takes_s = self._random.choice((0.001, 0.05, 1.0, 20.0))
        try:
            outcome = await super().invoke(function_arn, payload, **kwargs)
        finally:
            self._running[partition] -= 1
        call = next(c for c in reversed(self.calls) if c.outcome is outcome and c.partition == partition)
        return self._accept(call)

    def _accept(self, call: Call) -> Outcome:
        """Decide anew, now that the time has passed; note which records were taken."""
        bad = [offset for offset in call.offsets if offset in self.poison]
        outcome: Outcome = BROKEN if bad else OK
        if not self.healed and self._random.random() < 0.3:
            outcome = self._random.choice((BROKEN, THROTTLED, AWAY))
        elif bad and self.partial and self._random.random() < 0.7:
            outcome = failing(*bad, key=call.partition)
        if outcome is OK:
            self.accepted += [(call.partition, offset, call.at_s) for offset in call.offsets]
        elif outcome not in (BROKEN, THROTTLED, AWAY):
            taken = [offset for offset in call.offsets if offset not in bad]
            self.accepted += [(call.partition, offset, call.at_s) for offset in taken]
        return outcome


LIVES = st.fixed_dictionaries(
    {
        "partitions": st.integers(1, 3),
        "events": st.lists(
            st.tuples(st.sampled_from(EVENTS), st.floats(0.01, 40), st.integers(0, 2)), max_size=12
        ),
        "records": st.integers(1, 40),
        "batch_size": st.sampled_from([1, 3, 10, 100]),
        "window_s": st.sampled_from([0.0, 0.5, 5.0]),
        "poison": st.frozensets(st.integers(0, 30), max_size=3),
        "retry_attempts": st.sampled_from([None, 0, 1, 3]),
        "bisect": st.booleans(),
        "partial": st.booleans(),
        "destination": st.booleans(),
        "seed": st.integers(0, 2**16),
    }
)


# Without shrinking: a life takes long enough, and the failing one is printed as it is.
@settings(max_examples=60, deadline=None, phases=(Phase.generate,))
@given(LIVES)
def test_no_record_is_lost_order_holds_and_nothing_else_goes_wrong(life: dict[str, Any]) -> None:
    logging.disable()
    try:
        virtual_time.run(live(life))
    finally:
        logging.disable(logging.NOTSET)


async def live(life: dict[str, Any]) -> None:
    function = FlakyFunction(seed=life["seed"], poison=life["poison"], partial=life["partial"])
    destination = RecordingDestination() if life["destination"] else None
    lanes = lane_dependencies(
        function,
        destination=destination,
        records=life["batch_size"],
        window_s=life["window_s"],
        retry_attempts=life["retry_attempts"],
        bisect=life["bisect"],
        report_batch_item_failures=life["partial"],
    )
    world = PollerWorld(FakeKafka(partition_count=life["partitions"]), lanes, drain_timeout_s=15.0)
    for partition in range(life["partitions"]):
        world.kafka.produce(partition, *(b"%d" % i for i in range(life["records"])))
    pollers = [world.start()]
    for event, delay_s, which in life["events"]:
        await happen(event, which, world, pollers, destination)
        await asyncio.sleep(delay_s)
    await heal(world, pollers, function, destination, gives_up=life["retry_attempts"] is not None)
    balance(world, function, destination, life)


async def happen(
    event: str,
    which: int,
    world: PollerWorld,
    pollers: list[RunningPoller],
    destination: RecordingDestination | None,
) -> None:
    poller = pollers[which % len(pollers)] if pollers else None
    match event:
        case "start":
            pollers.append(world.start())
        case "stop" if poller is not None:
            pollers.remove(poller)
            poller.source.stop()
            await asyncio.wait([poller.task])
        case "kill" if poller is not None:
            pollers.remove(poller)
            await poller.kill()
        case "rebalance":
            await world.kafka.rebalance()
        case "produce":
            world.kafka.produce(which % world.kafka.partition_count, b"more", b"and more")
        case "cluster away":
            world.kafka.reachable = not world.kafka.reachable
        case "destination away" if destination is not None:
            destination.away = 5


async def heal(
    world: PollerWorld,
    pollers: list[RunningPoller],
    function: FlakyFunction,
    destination: RecordingDestination | None,
    *,
    gives_up: bool,
) -> None:
    """Let everything work again, but for poison where the mapping has a way out, and run to the end."""
    world.kafka.reachable = True
    function.healed = True
    if not gives_up:
        function.poison = frozenset()
    if destination is not None:
        destination.away = 0
    pollers.append(world.start())
    ends = world.kafka.next_offsets
    await until(lambda: all(world.at(p) == end for p, end in ends.items()), within_s=100_000)
    for poller in world.pollers:
        poller.source.stop()
    ended = await asyncio.gather(*(poller.task for poller in world.pollers), return_exceptions=True)
    crashes = [e for e in ended if e is not None and not isinstance(e, SourceUnavailable | CancelledError)]
    assert not crashes


def balance(
    world: PollerWorld,
    function: FlakyFunction,
    destination: RecordingDestination | None,
    life: dict[str, Any],
) -> None:
    accepted = {(partition, offset) for partition, offset, _ in function.accepted}
    handed_over = {
        (record.partition_key, offset)
        for record in (destination.sent if destination else [])
        for offset in range(record.first_offset, record.last_offset + 1)
    }
    produced = {(f"orders-{p}", record.offset) for p, log in world.kafka.logs.items() for record in log}
    lost = produced - accepted - handed_over
    dropped = world.telemetry.metrics.of(world.lanes.mapping.uuid)["esm.events.dropped"]
    note(f"lost {sorted(lost)} dropped {dropped}")
    if life["retry_attempts"] is None or destination is not None:
        assert not lost
        assert not dropped
    else:
        assert len(lost) <= dropped  # a mapping without a destination counts what it gives up
    assert function.overlaps == 0, "one invocation a partition, even across rebalances"
    assert world.lanes.budget.used_bytes == 0
    # A function may take the rest of a batch before what it named as failed; and what was given up may come
    # again, when the commit that said so was lost.
    if not life["partial"] and life["retry_attempts"] is None:
        ordered(function.accepted)
    ordered([(call.partition, offset, call.at_s) for call in function.calls for offset in call.offsets])
    forwards(world)


def ordered(taken: list[tuple[str, int, float]]) -> None:
    """The first time of each record follows its offset, partition by partition."""
    for partition in {partition for partition, _, _ in taken}:
        first: dict[int, int] = {}
        for place, (key, offset, _) in enumerate(taken):
            if key == partition:
                first.setdefault(offset, place)
        places = [first[offset] for offset in sorted(first)]
        assert places == sorted(places)


def forwards(world: PollerWorld) -> None:
    """No commit moves a partition backwards."""
    at: dict[int, int] = {}
    for _, points in world.kafka.commit_log:
        for partition, point in points.items():
            assert point.offset >= at.get(partition, 0)
            at[partition] = point.offset
