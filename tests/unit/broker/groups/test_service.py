"""The shell of the coordinator on a real log, in virtual time: waits, alarms, restarts, a small log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.fakes import virtual_time
from tests.fakes.group_shell import subscription
from tidemill_broker.coordinators.messages import (
    CommitRequest,
    JoinReply,
    JoinRequest,
    MemberIdentity,
    OffsetToCommit,
    SyncRequest,
)
from tidemill_broker.groups.offsets_topic import NAME, SLACK_BYTES
from tidemill_broker.groups.record_batch import build_batch
from tidemill_broker.groups.service import GroupService
from tidemill_broker.log.topics import Topics
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.settings import Settings, parse_kafka_settings

SESSION_MS = 10_000
Scenario = Callable[[GroupService, Topics], Coroutine[Any, Any, None]]


def play(directory: Path, scenario: Scenario, *pairs: str) -> None:
    """Run a scenario beside the service's own `run`; then close the log, as a stopped broker does."""
    settings = Settings(data_dir=directory, **parse_kafka_settings(pairs))

    async def main() -> None:
        topics = Topics(directory / "log", settings.kafka_values(), clock_ms=virtual_time.now_ms)
        try:
            service = GroupService(
                topics, settings, now_ms=virtual_time.now_ms, monotonic_s=virtual_time.now_s
            )
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(service.run())
                await scenario(service, topics)
                running.cancel()
        finally:
            topics.close()

    virtual_time.run(main())


def join_request(member_id: str = "", name: str = "m", **changes: Any) -> JoinRequest:
    return JoinRequest(
        **{
            "group_id": "g",
            "member_id": member_id,
            "instance_id": None,
            "client_id": "client",
            "client_host": "/127.0.0.1",
            "session_timeout_ms": SESSION_MS,
            "rebalance_timeout_ms": 60_000,
            "protocol_type": "consumer",
            "protocols": (("range", subscription("flights")),),
            "fresh_member_id": name,
            "knows_member_id_required": False,
            "can_skip_assignment": True,
        }
        | changes
    )


async def lead(service: GroupService, name: str = "m") -> JoinReply:
    """A Stable group of one."""
    joined = await service.join(join_request(name=name))
    synced = await service.sync(sync_request(joined))
    assert synced.error is ErrorCode.none
    return joined


def sync_request(joined: JoinReply) -> SyncRequest:
    return SyncRequest(
        group_id="g",
        member_id=joined.member_id,
        instance_id=None,
        generation=joined.generation,
        protocol_type=joined.protocol_type,
        protocol=joined.protocol,
        assignments={member.member_id: b"share" for member in joined.members},
    )


def commit(service: GroupService, offset: int, group_id: str = "lone", partition: int = 0) -> ErrorCode:
    wanted = OffsetToCommit(
        topic="flights", partition=partition, offset=offset, leader_epoch=-1, metadata="x" * 100
    )
    request = CommitRequest(
        group_id=group_id, member_id="", instance_id=None, generation=-1, offsets=(wanted,)
    )
    (error,) = service.commit(request)
    return error


def offset(service: GroupService, group_id: str = "lone", partition: int = 0) -> int | None:
    held = service.coordinator.committed(group_id).get(("flights", partition))
    return None if held is None else held.offset


def test_a_join_waits_for_the_other_members(tmp_path: Path) -> None:
    async def scenario(service: GroupService, _topics: Topics) -> None:
        leader = await lead(service)
        second = asyncio.ensure_future(service.join(join_request(name="n")))
        await asyncio.sleep(1)
        assert not second.done()
        again = await service.join(join_request(leader.member_id))
        assert (await second).generation == again.generation == leader.generation + 1

    play(tmp_path, scenario)


def test_a_silent_member_is_missed_without_anybody_asking(tmp_path: Path) -> None:
    """The alarm of `run` ends the session, and with it the wait of the other."""

    async def scenario(service: GroupService, _topics: Topics) -> None:
        leader = await lead(service)
        waiting = asyncio.ensure_future(service.join(join_request(name="n")))
        joined = await waiting
        assert virtual_time.now_s() - virtual_time.START_S == pytest.approx(SESSION_MS / 1000, abs=0.01)
        assert joined.leader == joined.member_id != leader.member_id

    play(tmp_path, scenario)


def test_a_member_whose_connection_ends_while_it_waits_is_out(tmp_path: Path) -> None:
    async def scenario(service: GroupService, _topics: Topics) -> None:
        leader = await lead(service)
        waiting = asyncio.ensure_future(service.join(join_request(name="n")))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        alone = await service.join(join_request(leader.member_id))
        assert [member.member_id for member in alone.members] == [leader.member_id]

    play(tmp_path, scenario)


def test_a_broker_that_stops_sends_away_who_waits(tmp_path: Path) -> None:
    async def scenario(service: GroupService, _topics: Topics) -> None:
        await lead(service)
        waiting = asyncio.ensure_future(service.join(join_request(name="n")))
        await asyncio.sleep(0.1)
        service.dismiss()
        assert (await waiting).error is ErrorCode.coordinator_not_available

    play(tmp_path, scenario)


def test_a_restarted_service_knows_members_and_offsets(tmp_path: Path) -> None:
    async def before(service: GroupService, _topics: Topics) -> None:
        await lead(service)
        assert commit(service, 7) is ErrorCode.none

    async def after(service: GroupService, _topics: Topics) -> None:
        assert offset(service) == 7
        assert service.heartbeat("g", "m", None, 1) is ErrorCode.none
        await asyncio.sleep(SESSION_MS / 1000 + 1)
        description = service.coordinator.describe("g")
        assert description is not None
        assert description.state == "Empty"

    play(tmp_path, before)
    play(tmp_path, after)


def test_the_offsets_topic_is_made_when_it_is_needed(tmp_path: Path) -> None:
    async def scenario(service: GroupService, topics: Topics) -> None:
        assert topics.get(NAME) is None
        assert service.leave("g", (MemberIdentity(member_id="m", instance_id=None),))[0] is ErrorCode.none
        assert topics.get(NAME) is None
        commit(service, 1)
        topic = topics.get(NAME)
        assert topic is not None
        assert topic.internal
        assert len(topic.partitions) == 1

    play(tmp_path, scenario)


def test_the_log_stays_small_however_often_is_committed(tmp_path: Path) -> None:
    """40,000 commits of about 200 bytes are 8 MB; what remains reads as the same state."""

    async def scenario(service: GroupService, topics: Topics) -> None:
        await lead(service)
        largest = 0
        for count in range(40_000):
            commit(service, count, partition=count % 10)
            if count % 100 == 0:
                topic = topics.get(NAME)
                assert topic is not None
                largest = max(largest, topic.partitions[0].size_bytes)
        assert largest <= SLACK_BYTES + 2 * 1024 * 1024
        assert topic is not None
        assert topic.partitions[0].log_start > 0

    async def after(service: GroupService, _topics: Topics) -> None:
        assert [offset(service, partition=each) for each in range(10)] == list(range(39_990, 40_000))
        assert service.heartbeat("g", "m", None, 1) is ErrorCode.none

    play(tmp_path, scenario)
    play(tmp_path, after)


def test_a_log_of_50_partitions_is_not_rewritten_at_every_commit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Kafka's default: none of the 50 fills a segment for long, so nothing of them can be cut off."""

    async def scenario(service: GroupService, _topics: Topics) -> None:
        for count in range(25_000):
            commit(service, count, group_id=f"group-{count % 200}")

    caplog.set_level(logging.INFO)
    play(tmp_path, scenario, "offsets.topic.num.partitions=50")
    assert sum("rewrote" in message for message in caplog.messages) <= 5


def test_a_crash_between_the_new_records_and_the_cut_changes_nothing(tmp_path: Path) -> None:
    """The old records are still there, then the live state again: it reads the same."""

    async def scenario(service: GroupService, _topics: Topics) -> None:
        await lead(service)
        commit(service, 1)
        commit(service, 5, group_id="gone")
        assert service.delete_group("gone") is ErrorCode.none
        commit(service, 2)
        service._log.append(service.coordinator.snapshot())

    async def after(service: GroupService, _topics: Topics) -> None:
        assert (offset(service), offset(service, "gone")) == (2, None)
        assert service.coordinator.describe("gone") is None
        assert service.heartbeat("g", "m", None, 1) is ErrorCode.none

    play(tmp_path, scenario)
    play(tmp_path, after)


def test_groups_are_spread_over_several_partitions_if_there_are(tmp_path: Path) -> None:
    async def scenario(service: GroupService, topics: Topics) -> None:
        for number in range(40):
            commit(service, number, group_id=f"group-{number}")
        topic = topics.get(NAME)
        assert topic is not None
        assert all(partition.end_offset > 0 for partition in topic.partitions)
        service._log.rewrite(service.coordinator.snapshot())

    async def after(service: GroupService, _topics: Topics) -> None:
        assert [offset(service, f"group-{number}") for number in range(40)] == list(range(40))

    play(tmp_path, scenario, "offsets.topic.num.partitions=4")
    play(tmp_path, after, "offsets.topic.num.partitions=4")


def test_a_log_that_rejects_changes_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is acknowledged that is not in the log; clients try again."""

    async def scenario(service: GroupService, topics: Topics) -> None:
        joined = await service.join(join_request())
        commit(service, 1)
        topics.close()
        unavailable = ErrorCode.coordinator_not_available
        assert commit(service, 2) is unavailable
        assert offset(service) == 1
        assert service.delete_group("lone") is unavailable
        assert (await service.sync(sync_request(joined))).error is unavailable
        assert service.heartbeat("g", "m", None, 1) is ErrorCode.none
        await asyncio.sleep(SESSION_MS / 1000 + 3)  # what is due is tried again, not given up

    play(tmp_path, scenario)
    assert "could not write" in caplog.text


def test_old_offsets_are_expired_by_the_clock(tmp_path: Path) -> None:
    async def scenario(service: GroupService, _topics: Topics) -> None:
        commit(service, 1)
        await asyncio.sleep(60)
        assert offset(service) == 1
        await asyncio.sleep(10)
        assert offset(service) is None
        assert service.coordinator.describe("lone") is None

    play(tmp_path, scenario, "offsets.retention.minutes=1", "offsets.retention.check.interval.ms=5000")


def test_a_record_that_cannot_be_read_costs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: GroupService, topics: Topics) -> None:
        commit(service, 1)
        topic = topics.get(NAME)
        assert topic is not None
        topic.partitions[0].append(build_batch([(b"\0\2\0\1g", b"\0\3rubbish")], 0))
        commit(service, 2)

    async def after(service: GroupService, _topics: Topics) -> None:
        assert offset(service) == 2

    play(tmp_path, scenario)
    play(tmp_path, after)
    assert "skipped an unreadable record" in caplog.text


def test_a_member_whose_heartbeat_lies_unread_after_a_hold_up_stays(tmp_path: Path) -> None:
    """The broker runs on libuv, which looks at timers before it looks at sockets.

    What holds up is a request, so it is served while sockets are looked at; what comes meanwhile is seen in
    the next round, behind the timers.
    """
    settings = Settings(
        data_dir=tmp_path,
        **parse_kafka_settings(["group.min.session.timeout.ms=800", "group.initial.rebalance.delay.ms=0"]),
    )
    answers: list[ErrorCode] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        topics = Topics(tmp_path / "log", settings.kafka_values(), clock_ms=lambda: 0)
        service = GroupService(topics, settings, now_ms=lambda: 0, monotonic_s=time.monotonic)
        member, members_end = socket.socketpair()
        other, others_end = socket.socketpair()
        answered = asyncio.Event()

        def beat(member_id: str) -> None:
            loop.remove_reader(members_end)
            answers.append(service.heartbeat("g", member_id, None, 1))
            answered.set()

        def hold_up() -> None:
            loop.remove_reader(others_end)
            member.send(b"heartbeat")
            due_ms = service.coordinator.next_deadline_ms
            assert due_ms is not None
            while service.now_ms() <= due_ms + 10:
                pass

        with member, members_end, other, others_end, contextlib.closing(topics):
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(service.run())
                joined = await service.join(
                    join_request(session_timeout_ms=800, knows_member_id_required=False)
                )
                for _ in range(5):
                    await asyncio.sleep(0)  # the service sets its timer
                loop.add_reader(members_end, beat, joined.member_id)
                loop.add_reader(others_end, hold_up)
                other.send(b"a request of much work")
                await answered.wait()
                running.cancel()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert answers == [ErrorCode.none]
