"""Stored mappings and running pollers are the same thing, a moment later."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import virtual_time
from tests.fakes.kafka import FakeKafka
from tests.fakes.poller import BROKEN, MAPPING, ScriptedFunction, no_revision, until
from tests.fakes.virtual_time import now_ms
from tidemill_poller.batch import ByteBudget
from tidemill_poller.errors import LoginFailed, SourceUnavailable, StoreUnavailable
from tidemill_poller.fleet import Dependencies, Fleet, FunctionUpdates
from tidemill_poller.kafka_auth import ClientOptions
from tidemill_poller.mapping import Mapping, Provisioned, State
from tidemill_poller.reporting import Telemetry
from tidemill_poller.reporting.metrics import Metrics
from tidemill_poller.reporting.status import StatusBoard
from tidemill_poller.reporting.tracing import NO_TRACING
from tidemill_poller.settings import Settings
from tidemill_poller.source import GroupClient
from tidemill_poller.store import FILE_NAME, MappingStore

CONNECTION_PROBLEM = SourceUnavailable.problem


class FleetWorld:
    """A fleet over a real store, one fake cluster per mapping."""

    def __init__(self, directory: Path, store: type[MappingStore] = MappingStore) -> None:
        self.function = ScriptedFunction()
        self.kafkas: dict[str, FakeKafka] = {}
        self.looked_up = True
        self.crashes = 0
        self.refused = False
        self.versions: dict[str, str] = {}
        self.unusable = ""  # a version that cannot be connected with
        self.store = store(directory, now_ms=now_ms)
        self.board = StatusBoard()
        self.fleet = Fleet(
            Dependencies(
                store=self.store,
                settings=Settings(data_dir=directory, drain_timeout_s=5.0),
                invoker=self.function,
                function_updates=FunctionUpdates(no_revision, interval_s=0),
                open_destination=self._no_destination,
                access=self,
                open_client=self._client,
                telemetry=Telemetry(tracing=NO_TRACING, metrics=Metrics(), board=self.board, now_ms=now_ms),
                budget=ByteBudget(1 << 30),
                now_ms=now_ms,
                random=lambda: 0.0,  # no jitter: the times in a test are exact
            )
        )

    def kafka(self, mapping: Mapping = MAPPING, *, partitions: int = 1) -> FakeKafka:
        if mapping.uuid not in self.kafkas:
            self.kafkas[mapping.uuid] = FakeKafka(partition_count=partitions)
        return self.kafkas[mapping.uuid]

    def _no_destination(self, arn: str) -> Any:
        raise AssertionError(arn)

    async def options(self, mapping: Mapping) -> ClientOptions:
        if mapping.uuid == MAPPING.uuid and self.crashes:
            self.crashes -= 1
            raise ZeroDivisionError
        if self.refused:
            raise LoginFailed("b-1:9092: login by PLAIN: SaslAuthenticationFailedError")
        if self.unusable and self.unusable in self.versions.values():
            raise SourceUnavailable("The secret s is no JSON object.")
        if not self.looked_up:
            raise SourceUnavailable("Asked http://127.0.0.1:4583 for the bootstrap brokers of arn: refused")
        return ClientOptions(bootstrap_servers="b-1:9092,b-2:9092", secret_versions=dict(self.versions))

    async def secret_versions(self, _: Mapping) -> dict[str, str]:
        return dict(self.versions)

    def _client(self, _: Any, mapping: Mapping, number: int) -> GroupClient:
        return self.kafka(mapping).client(f"{mapping.uuid}-{number}")

    def state(self, mapping: Mapping = MAPPING) -> State | None:
        stored = self.store.get(mapping.uuid)
        return None if stored is None else stored.state

    def result(self, mapping: Mapping = MAPPING) -> str:
        stored = self.store.get(mapping.uuid)
        assert stored is not None
        return stored.last_processing_result

    def change(self, **fields: Any) -> None:
        stored = self.store.get(MAPPING.uuid)
        assert stored is not None
        self.store.replace(replace(stored, **fields), expected_version=stored.version)

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.ensure_future(self.fleet.run())
        try:
            yield task
        finally:
            self.fleet.stop()
            await task


@pytest.fixture(name="directory")
def _directory(tmp_path: Path) -> Path:
    return tmp_path / "poller"


def test_a_created_mapping_runs_and_says_so(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        async with world.running():
            world.kafka().produce(0, b"1")
            world.store.create(MAPPING)
            await until(lambda: world.state() is State.ENABLED)
            await until(lambda: world.result() == "OK")
        assert world.state() is State.ENABLED

    virtual_time.run(scenario())


def damage_row(directory: Path, uuid: str) -> None:
    with sqlite3.connect(directory / FILE_NAME) as db:
        db.execute("UPDATE mappings SET configuration = '{' WHERE uuid = ?", (uuid,))
    db.close()


def test_a_damaged_mapping_stops_no_other(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        other = replace(MAPPING, uuid="0b4f12a8-0000-4000-8000-0000000000ff", consumer_group_id="other")
        world.store.create(MAPPING)
        world.store.create(other)
        damage_row(directory, MAPPING.uuid)
        async with world.running():
            await until(lambda: world.state(other) is State.ENABLED)
            assert MAPPING.uuid not in world.kafkas

    virtual_time.run(scenario())


def test_a_mapping_whose_row_becomes_damaged_goes_on_until_it_is_deleted(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        world.store.create(MAPPING)
        other = replace(MAPPING, uuid="0b4f12a8-0000-4000-8000-0000000000ff", consumer_group_id="other")
        async with world.running():
            await until(lambda: world.state() is State.ENABLED)
            damage_row(directory, MAPPING.uuid)
            world.store.create(other)
            await until(lambda: world.state(other) is State.ENABLED)
            invoked = len(world.function.calls)
            world.kafka().produce(0, b"1")
            await until(lambda: len(world.function.calls) > invoked)
            world.store.delete(MAPPING.uuid)
            await until(lambda: MAPPING.uuid not in world.fleet._reconcilers)

    virtual_time.run(scenario())


def test_a_store_that_cannot_be_written_is_logged_once_and_delays_no_record(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        world.store.create(MAPPING)
        async with world.running():
            await until(lambda: world.state() is State.ENABLED)
            world.store._db.execute("PRAGMA query_only = ON")
            world.kafka().produce(0, b"1")
            await asyncio.sleep(60)
            assert len(world.function.calls) == 1
            world.store._db.execute("PRAGMA query_only = OFF")
            await until(lambda: world.result() == "OK")

    virtual_time.run(scenario())
    assert len([line for line in caplog.messages if "status not written" in line]) == 1


def test_a_store_that_stays_unreadable_is_logged_once_a_minute(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable(MappingStore):
        async def changed(self, after_revision: int) -> int:
            raise StoreUnavailable("mappings.db: disk I/O error")

    async def scenario() -> None:
        async with FleetWorld(directory, Unreadable).running():
            await asyncio.sleep(179)

    virtual_time.run(scenario())
    assert len([line for line in caplog.messages if "mapping store unreadable" in line]) == 3


class LockedAtFirst(MappingStore):
    """A store that another process locks for the first few reads."""

    reads = 0

    async def changed(self, after_revision: int) -> int:
        self.reads += 1
        if self.reads <= 3:
            raise StoreUnavailable("mappings.db: database is locked")
        return await super().changed(after_revision)


def test_a_store_that_cannot_be_read_is_read_again(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory, LockedAtFirst)
        world.store.create(MAPPING)
        async with world.running():
            await until(lambda: world.state() is State.ENABLED)

    virtual_time.run(scenario())


def test_a_mapping_that_is_created_disabled_polls_nothing(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        async with world.running():
            world.kafka().produce(0, b"1")
            world.store.create(replace(MAPPING, enabled=False))
            await until(lambda: world.state() is State.DISABLED)
            await asyncio.sleep(10)
        assert world.function.calls == []
        assert world.kafka().members == []

    virtual_time.run(scenario())


def test_disabling_drains_and_enabling_resumes_where_it_stopped(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        world.function.takes_s = 2.0
        kafka = world.kafka()
        async with world.running():
            kafka.produce(0, b"1", b"2")
            world.store.create(replace(MAPPING, batch_size=1, batching_window_s=0))
            await until(lambda: world.function.running == 1)
            world.change(enabled=False, state=State.DISABLING)
            await until(lambda: world.state() is State.DISABLED)
            assert kafka.committed[0].offset == 1
            assert kafka.members == []
            world.change(enabled=True, state=State.ENABLING)
            await until(lambda: world.state() is State.ENABLED)
            await until(lambda: kafka.committed[0].offset == 2)
        assert world.function.batches == [[0], [1]]

    virtual_time.run(scenario())


def test_an_update_takes_effect_without_losing_its_place(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        kafka = world.kafka()
        async with world.running():
            kafka.produce(0, *(b"%d" % i for i in range(4)))
            world.store.create(replace(MAPPING, batch_size=2, batching_window_s=0))
            await until(lambda: kafka.committed.get(0) is not None and kafka.committed[0].offset == 4)
            world.change(batch_size=4, state=State.UPDATING)
            await until(lambda: world.state() is State.ENABLED)
            kafka.produce(0, *(b"%d" % i for i in range(4)))
            await until(lambda: kafka.committed[0].offset == 8)
        assert [len(batch) for batch in world.function.batches] == [2, 2, 4]

    virtual_time.run(scenario())


def test_a_deleted_mapping_is_drained_and_gone(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        async with world.running():
            world.store.create(MAPPING)
            await until(lambda: world.state() is State.ENABLED)
            world.change(state=State.DELETING)
            await until(lambda: world.state() is None)
            assert world.kafka().members == []
            assert world.board.as_json(MAPPING.uuid)["pollers"] == []
            world.store.create(MAPPING)
            await until(lambda: world.state() is State.ENABLED)

    virtual_time.run(scenario())


def test_deleting_waits_for_what_was_stored_while_the_poller_was_down(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        world.store.create(replace(MAPPING, state=State.DELETING))
        async with world.running():
            await until(lambda: world.state() is None)
        assert world.function.calls == []

    virtual_time.run(scenario())


def test_a_restart_of_the_fleet_goes_on_where_it_stopped(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        kafka = world.kafka()
        kafka.produce(0, b"1")
        async with world.running():
            world.store.create(replace(MAPPING, batching_window_s=0))
            await until(lambda: kafka.committed.get(0) is not None and kafka.committed[0].offset == 1)
        assert world.state() is State.ENABLED
        world.store.close()
        again = FleetWorld(directory)
        again.kafkas = world.kafkas
        kafka.produce(0, b"2")
        async with again.running():
            await until(lambda: kafka.committed[0].offset == 2)
        assert again.function.batches == [[1]]

    virtual_time.run(scenario())


def test_a_cluster_that_is_away_is_a_problem_with_a_reason_and_heals(directory: Path) -> None:
    """pulumi-aws#1251: "Connection error" and nothing more."""

    async def scenario() -> None:
        world = FleetWorld(directory)
        kafka = world.kafka()
        kafka.produce(0, b"1")
        kafka.reachable = False
        async with world.running():
            world.store.create(MAPPING)
            await until(lambda: world.result() == CONNECTION_PROBLEM)
            assert world.state() is State.ENABLED
            (poller,) = world.board.as_json(MAPPING.uuid)["pollers"]
            assert "fake:9092" in poller["reason"]
            assert "connection refused" in poller["reason"]
            kafka.reachable = True
            await until(lambda: world.result() == "OK")

    virtual_time.run(scenario())


def test_a_cluster_that_is_back_is_no_problem_though_no_record_comes(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        world.kafka().reachable = False
        async with world.running():
            world.store.create(MAPPING)
            await until(lambda: world.result() == CONNECTION_PROBLEM)
            world.kafka().reachable = True
            await until(lambda: world.result() == "OK")
        assert world.function.calls == []

    virtual_time.run(scenario())


def test_a_function_s_last_failure_stays_the_result_over_a_restart(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        mapping = replace(MAPPING, last_processing_result="PROBLEM: Function call failed")
        async with world.running():
            world.store.create(mapping)
            await until(lambda: world.state() is State.ENABLED)
            await asyncio.sleep(10)
            assert world.result() == "PROBLEM: Function call failed"

    virtual_time.run(scenario())


def test_an_arn_that_cannot_be_looked_up_is_a_problem_with_a_reason_and_heals(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        world.looked_up = False
        world.kafka().produce(0, b"1")
        async with world.running():
            world.store.create(MAPPING)
            await until(lambda: world.result() == CONNECTION_PROBLEM)
            assert "bootstrap brokers" in world.board.as_json(MAPPING.uuid)["pollers"][0]["reason"]
            world.looked_up = True
            await until(lambda: world.result() == "OK")

    virtual_time.run(scenario())


def test_two_mappings_of_one_topic_both_get_every_record(directory: Path) -> None:
    """localstack#10752: only the first of two mappings fires."""

    async def scenario() -> None:
        world = FleetWorld(directory)
        other = replace(MAPPING, uuid="22222222-2222-4222-8222-222222222222", consumer_group_id="other")
        async with world.running():
            for mapping in (MAPPING, other):
                world.kafka(mapping).produce(0, b"1")
                world.store.create(mapping)
            await until(lambda: world.result() == "OK" and world.result(other) == "OK")
        assert world.function.batches == [[0], [0]]

    virtual_time.run(scenario())


def test_a_crash_in_one_mapping_restarts_it_and_leaves_the_others_alone(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        other = replace(MAPPING, uuid="22222222-2222-4222-8222-222222222222", consumer_group_id="other")
        world.kafka().generation = 100
        world.crashes = 2
        async with world.running():
            for mapping in (MAPPING, other):
                world.kafka(mapping).produce(0, b"1")
                world.store.create(mapping)
            await until(lambda: world.result(other) == "OK")
            await until(lambda: world.result().startswith("PROBLEM: Internal error"))
            await until(lambda: world.result() == "OK")
        assert len(world.function.calls) == 2

    virtual_time.run(scenario())


def test_a_crash_while_secrets_are_followed_ends_nothing(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        world.versions = {"secret": "1"}
        kafka = world.kafka()
        async with world.running() as fleet:
            world.store.create(replace(MAPPING, batching_window_s=0))
            await until(lambda: world.state() is State.ENABLED)
            world.versions, world.crashes = {"secret": "2"}, 1
            await asyncio.sleep(100)
            assert not fleet.done()
            await until(lambda: kafka.generation == 2)

    virtual_time.run(scenario())


def test_a_provisioned_mapping_starts_its_minimum_of_pollers_up_to_the_partitions(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        kafka = world.kafka(partitions=3)
        async with world.running():
            world.store.create(
                replace(MAPPING, provisioned=Provisioned(minimum_pollers=5, maximum_pollers=10))
            )
            await until(lambda: len(kafka.members) == 3)
            await asyncio.sleep(60)
            assert len(kafka.members) == 3
            for partition in range(3):
                kafka.produce(partition, b"1")
            await until(lambda: [p.offset for p in kafka.committed.values()] == [1, 1, 1])

    virtual_time.run(scenario())


def test_pollers_are_added_while_the_lag_grows(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        kafka = world.kafka(partitions=3)
        world.function.answer = lambda *_: BROKEN
        async with world.running():
            world.store.create(
                replace(MAPPING, provisioned=Provisioned(minimum_pollers=1, maximum_pollers=2))
            )
            await until(lambda: len(kafka.members) == 1)
            for _ in range(120):
                kafka.produce(0, b"1", b"2")
                await asyncio.sleep(1)
            assert len(kafka.members) == 2

    virtual_time.run(scenario())


def test_results_are_written_rarely_however_many_batches_there_are(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        world.function.takes_s = 0.001
        kafka = world.kafka()
        written: list[Any] = []
        set_status = world.store.set_status
        world.store.set_status = lambda *args, **fields: written.append(fields) or set_status(*args, **fields)  # type: ignore[method-assign,func-returns-value]  # a spy
        async with world.running():
            world.store.create(replace(MAPPING, batch_size=1, batching_window_s=0))
            kafka.produce(0, *(b"%d" % i for i in range(2000)))
            await until(lambda: kafka.committed.get(0) is not None and kafka.committed[0].offset == 2000)
        assert len(world.function.calls) == 2000
        assert len(written) < 50

    virtual_time.run(scenario())


def test_a_rejected_login_is_told_as_aws_does_and_heals(directory: Path) -> None:
    """The mapping stays Enabled: it tries again by itself, as AWS would after somebody enabled it."""

    async def scenario() -> None:
        world = FleetWorld(directory)
        world.kafka().produce(0, b"1")
        world.refused = True
        async with world.running():
            world.store.create(MAPPING)
            await until(lambda: world.result() == "PROBLEM: SASL authentication failed.")
            stored = world.store.get(MAPPING.uuid)
            assert stored is not None
            assert (stored.state, stored.state_transition_reason) == (
                State.ENABLED,
                "EVENT_SOURCE_AUTHN_ERROR",
            )
            world.refused = False
            await until(lambda: world.result() == "OK")
            stored = world.store.get(MAPPING.uuid)
            assert stored is not None
            assert stored.state_transition_reason == "USER_INITIATED"

    virtual_time.run(scenario())


def test_a_new_version_of_a_secret_drains_and_connects_anew(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        world.versions = {"secret": "1"}
        world.function.takes_s = 3.0
        kafka = world.kafka()
        async with world.running():
            kafka.produce(0, b"1")
            world.store.create(replace(MAPPING, batching_window_s=0))
            await until(lambda: world.state() is State.ENABLED)
            await asyncio.sleep(58)
            kafka.produce(0, b"2")
            world.versions = {"secret": "2"}
            await until(lambda: kafka.generation == 2)
            assert kafka.committed[0].offset == 2, "what was in flight is committed before it leaves"
            await asyncio.sleep(300)
            assert kafka.generation == 2, "the version that it runs with is no reason to leave"
        assert world.function.batches == [[0], [1]]

    virtual_time.run(scenario())


def test_a_version_that_cannot_be_used_leaves_alone_what_runs(directory: Path) -> None:
    async def scenario() -> None:
        world = FleetWorld(directory)
        world.versions, world.unusable = {"secret": "1"}, "2"
        kafka = world.kafka()
        async with world.running():
            world.store.create(replace(MAPPING, batching_window_s=0))
            await until(lambda: world.state() is State.ENABLED)
            world.versions = {"secret": "2"}
            await asyncio.sleep(300)
            kafka.produce(0, b"1")
            await until(lambda: world.result() == "OK")
            assert kafka.generation == 1

    virtual_time.run(scenario())
