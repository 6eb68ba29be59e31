"""Slots of unauthenticated connections: each has its time, and the oldest gives way when all are taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.fakes import virtual_time
from tests.fakes.virtual_time import START_S, now_s
from tidemill_broker.server.unauthenticated import GRACE_S, Slot, UnauthenticatedConnections

TIMEOUT_S = 10.0


def passed_s() -> float:
    return round(now_s() - START_S, 3)


class Door:
    """Admits connections by number, and notes which it ended, and when."""

    def __init__(self, most: int) -> None:
        self.connections = UnauthenticatedConnections(
            asyncio.get_running_loop(), most=most, timeout_s=TIMEOUT_S
        )
        self.ended: list[tuple[int, float]] = []
        self.reasons: list[str | None] = []
        self._count = 0

    async def admit(self) -> Slot:
        number = self._count
        self._count += 1
        return await self.connections.admit(lambda: self.ended.append((number, passed_s())))


def runs(scenario: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """The scenario in virtual time."""

    async def whole() -> None:
        await scenario()

    def test() -> None:
        virtual_time.run(whole())

    test.__doc__ = scenario.__doc__
    return test


@runs
async def test_a_connection_that_does_not_log_in_is_ended_when_its_time_is_over() -> None:
    door = Door(most=5)
    first, second = await door.admit(), await door.admit()
    await asyncio.sleep(4)
    second.free()
    await asyncio.sleep(TIMEOUT_S)
    assert door.ended == [(0, TIMEOUT_S)]
    assert (first.reason, second.reason) == ("no login within 10 s", None)
    assert len(door.connections) == 0


@runs
async def test_a_connection_without_a_free_slot_waits_until_the_oldest_has_had_its_grace() -> None:
    door = Door(most=2)
    await door.admit()
    await asyncio.sleep(0.25)
    await door.admit()
    await door.admit()
    assert passed_s() == GRACE_S
    assert door.ended == [(0, GRACE_S)]
    await door.admit()
    assert door.ended[1:] == [(1, GRACE_S + 0.25)]
    assert len(door.connections) == 2


@runs
async def test_an_oldest_that_had_its_grace_gives_way_at_once() -> None:
    door = Door(most=1)
    oldest = await door.admit()
    await asyncio.sleep(3)
    await door.admit()
    assert door.ended == [(0, 3.0)]
    assert oldest.reason == "no login, and others wait for its slot"


@runs
async def test_who_logs_in_makes_room_at_once_for_one() -> None:
    door = Door(most=1)
    known = await door.admit()
    waiting = [asyncio.ensure_future(door.admit()) for _ in range(2)]
    await asyncio.sleep(0.5)
    known.free()
    await asyncio.sleep(0.25)
    assert [each.done() for each in waiting] == [True, False]
    await asyncio.gather(*waiting)
    assert door.ended == [(1, 0.5 + GRACE_S)]
    assert len(door.connections) == 1


@runs
async def test_the_end_of_the_broker_ends_all() -> None:
    door = Door(most=3)
    for _ in range(3):
        await door.admit()
    door.connections.end_all()
    assert [number for number, _ in door.ended] == [0, 1, 2]
    assert len(door.connections) == 0
    await asyncio.sleep(2 * TIMEOUT_S)
    assert len(door.ended) == 3
