"""Committed offsets: who may commit, how long they are kept, what the log holds of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.group_shell import GROUP, NO_DELAY, SESSION_MS, GroupShell, subscription
from tidemill_broker.coordinators.records import GroupForgotten, OffsetForgotten
from tidemill_broker.protocol.errors import ErrorCode

DAY_MS = 24 * 3_600_000


@pytest.fixture
def shell() -> GroupShell:
    return GroupShell()


def expire_offsets(shell: GroupShell) -> None:
    shell.carry_out(shell.coordinator.expire_offsets(shell.now_ms))


def test_a_lone_consumer_commits_to_a_group_that_is_not_there(shell: GroupShell) -> None:
    assert shell.commit(7) is ErrorCode.none
    assert (shell.offset(), shell.state) == (7, "Empty")


def test_a_member_of_an_unknown_group_cannot_commit(shell: GroupShell) -> None:
    assert shell.commit(7, member_id="m", generation=3) is ErrorCode.illegal_generation
    assert (shell.offset(), shell.state) == (None, "Dead")


def test_a_member_commits_in_its_generation_only(shell: GroupShell) -> None:
    (member,) = shell.stable()
    assert shell.commit(1, member_id=member.member_id, generation=member.generation) is ErrorCode.none
    assert shell.commit(2, member_id=member.member_id, generation=0) is ErrorCode.illegal_generation
    assert shell.commit(3, member_id="unknown", generation=1) is ErrorCode.unknown_member_id
    assert shell.offset() == 1


def test_nobody_commits_from_outside_while_the_group_has_members(shell: GroupShell) -> None:
    (member,) = shell.stable()
    assert shell.commit(1) is ErrorCode.unknown_member_id
    shell.leave((member.member_id, None))
    assert shell.commit(2) is ErrorCode.none


def test_a_member_may_commit_while_the_group_prepares_a_rebalance(shell: GroupShell) -> None:
    """It finishes what it had before it joins again."""
    (member,) = shell.stable()
    shell.enter()
    assert shell.commit(5, member_id=member.member_id, generation=1) is ErrorCode.none


def test_a_member_may_not_commit_before_its_new_assignment_is_known(shell: GroupShell) -> None:
    (member,) = shell.stable()
    again = shell.join(member.member_id)
    answer = shell.commit(5, member_id=again.member_id, generation=again.generation)
    assert answer is ErrorCode.rebalance_in_progress


def test_a_commit_is_a_sign_of_life(shell: GroupShell) -> None:
    (member,) = shell.stable()
    for offset in range(5):
        shell.advance(SESSION_MS - 1)
        assert shell.commit(offset, member_id=member.member_id, generation=1) is ErrorCode.none


@pytest.mark.parametrize(
    ("metadata", "fits"), [("x" * 4_096, True), ("x" * 4_097, False), ("é" * 2_049, False)]
)
def test_metadata_above_4096_bytes_is_rejected(shell: GroupShell, metadata: str, *, fits: bool) -> None:
    expected = ErrorCode.none if fits else ErrorCode.offset_metadata_too_large
    assert shell.commit(1, metadata=metadata) is expected
    assert (shell.offset() == 1) is fits


def test_a_group_without_a_name_cannot_commit(shell: GroupShell) -> None:
    assert shell.commit(1, group_id="") is ErrorCode.invalid_group_id


def test_offsets_survive_a_restart(shell: GroupShell) -> None:
    shell.commit(1)
    shell.commit(2)
    shell.commit(9, topic="delays")
    after = shell.restarted()
    assert (after.offset(), after.offset("delays")) == (2, 9)


def test_an_empty_group_loses_its_offsets_after_the_retention_from_when_it_became_empty(
    shell: GroupShell,
) -> None:
    (member,) = shell.stable()
    shell.commit(1, member_id=member.member_id, generation=1)
    for _ in range(9):
        shell.advance(DAY_MS)
        shell.commit(1, member_id=member.member_id, generation=1)
    (member,) = shell.stable()
    shell.leave((member.member_id, None))
    shell.advance(7 * DAY_MS - 1)
    expire_offsets(shell)
    assert shell.offset() == 1
    shell.advance(1)
    expire_offsets(shell)
    assert (shell.offset(), shell.state) == (None, "Dead")
    assert shell.restarted().state == "Dead"


def test_a_lone_consumers_offset_expires_by_its_own_age(shell: GroupShell) -> None:
    shell.commit(1)
    shell.advance(4 * DAY_MS)
    shell.commit(2, topic="delays")
    shell.advance(3 * DAY_MS)
    expire_offsets(shell)
    assert (shell.offset(), shell.offset("delays")) == (None, 2)


def test_a_live_group_keeps_the_offsets_of_what_it_reads_and_loses_the_rest() -> None:
    shell = GroupShell(replace(NO_DELAY, offsets_retention_ms=1_000))
    shell.commit(1)
    shell.commit(2, topic="forsaken")
    shell.stable()
    shell.advance(1_000)
    expire_offsets(shell)
    assert (shell.offset(), shell.offset("forsaken")) == (1, None)


def test_a_live_group_of_another_protocol_keeps_everything() -> None:
    shell = GroupShell(replace(NO_DELAY, offsets_retention_ms=1_000))
    shell.commit(1)
    shell.stable(protocol_type="connect", protocols=(("default", b"\0\1"),))
    shell.advance(1_000)
    expire_offsets(shell)
    assert shell.offset() == 1


def test_a_group_with_members_cannot_be_deleted(shell: GroupShell) -> None:
    (member,) = shell.stable()
    shell.commit(1, member_id=member.member_id, generation=1)
    assert shell.delete_group() is ErrorCode.non_empty_group
    shell.leave((member.member_id, None))
    assert shell.delete_group() is ErrorCode.none
    assert (shell.offset(), shell.state, shell.restarted().state) == (None, "Dead", "Dead")


def test_a_group_that_is_not_there_cannot_be_deleted(shell: GroupShell) -> None:
    assert shell.delete_group() is ErrorCode.group_id_not_found
    assert shell.coordinator.delete_group("")[1] is ErrorCode.invalid_group_id


def test_offsets_of_a_topic_that_is_read_cannot_be_deleted(shell: GroupShell) -> None:
    shell.commit(1)
    shell.commit(2, topic="forsaken")
    shell.stable()
    step, errors = shell.coordinator.delete_offsets(GROUP, (("flights", 0), ("forsaken", 0)))
    shell.carry_out(step)
    assert errors == (ErrorCode.group_subscribed_to_topic, ErrorCode.none)
    assert (shell.offset(), shell.offset("forsaken")) == (1, None)


def test_offsets_of_a_group_that_does_not_tell_its_topics_cannot_be_deleted(shell: GroupShell) -> None:
    shell.stable(protocol_type="connect", protocols=(("default", b"\0\1"),))
    _, errors = shell.coordinator.delete_offsets(GROUP, (("flights", 0),))
    assert errors == (ErrorCode.non_empty_group,)


def test_a_deleted_topic_takes_its_offsets_along(shell: GroupShell) -> None:
    shell.commit(1)
    shell.commit(2, topic="delays")
    shell.carry_out(shell.coordinator.forget_topics(frozenset({"flights"})))
    assert (shell.offset(), shell.offset("delays")) == (None, 2)
    assert (shell.restarted().offset(), shell.restarted().offset("delays")) == (None, 2)


def test_a_snapshot_is_the_same_state_in_fewer_records(shell: GroupShell) -> None:
    leader, _ = shell.stable(2)
    for offset in range(10):
        shell.commit(offset, member_id=leader.member_id, generation=leader.generation)
    shell.commit(3, group_id="gone")
    shell.carry_out(shell.coordinator.delete_group("gone")[0])
    snapshot = list(shell.coordinator.snapshot())
    assert len(snapshot) == 2
    assert not any(isinstance(record, GroupForgotten | OffsetForgotten) for record in snapshot)
    after = GroupShell(log=snapshot, now_ms=shell.now_ms)
    assert after.coordinator.describe(GROUP) == shell.coordinator.describe(GROUP)
    assert after.offset() == 9


def test_a_group_in_a_rebalance_is_given_in_a_snapshot_as_it_was_stored(shell: GroupShell) -> None:
    (leader,) = shell.stable()
    shell.enter()
    after = GroupShell(log=shell.coordinator.snapshot(), now_ms=shell.now_ms)
    assert after.state == "Stable"
    assert after.heartbeat(leader) is ErrorCode.none


def test_topics_are_read_from_any_version_of_a_subscription(shell: GroupShell) -> None:
    """All begin alike; a version 3 with owned partitions and a rack is read as well."""
    newest = b"\0\3" + subscription("flights")[2:] + bytes(4) + b"\0\0\0\5" + b"\0\4rack"
    shell.stable(protocols=(("range", newest),))
    _, errors = shell.coordinator.delete_offsets(GROUP, (("flights", 0), ("other", 0)))
    assert errors == (ErrorCode.group_subscribed_to_topic, ErrorCode.none)


@pytest.mark.parametrize(
    "said",
    [b"", b"\0\0\0\0\0\1", b"\0\0\0\0\0\1\0\7flight", b"\0\0\0\0\0\1\0\1\xff"],
    ids=["nothing", "no topic", "half a topic", "no text"],
)
def test_a_consumer_whose_subscription_cannot_be_read_keeps_all_offsets(
    shell: GroupShell, said: bytes
) -> None:
    """What it reads is not known, so nothing of it may go."""
    shell.commit(1)
    shell.stable(protocols=(("range", said),))
    _, errors = shell.coordinator.delete_offsets(GROUP, (("flights", 0),))
    assert errors == (ErrorCode.non_empty_group,)


def test_offsets_of_a_group_that_is_not_there_cannot_be_deleted(shell: GroupShell) -> None:
    _, errors = shell.coordinator.delete_offsets(GROUP, (("flights", 0), ("flights", 1)))
    assert errors == (ErrorCode.group_id_not_found,) * 2
