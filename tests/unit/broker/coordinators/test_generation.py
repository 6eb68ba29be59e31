"""How generations are formed and distributed: votes, leaders, syncs, deadlines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.group_shell import NO_DELAY, REBALANCE_MS, SESSION_MS, GroupShell, subscription
from tidemill_broker.coordinators.group import Limits
from tidemill_broker.coordinators.messages import JoinedMember
from tidemill_broker.protocol.errors import ErrorCode


@pytest.fixture
def shell() -> GroupShell:
    return GroupShell()


def test_only_the_leader_sees_the_members(shell: GroupShell) -> None:
    leader, follower = shell.stable(2)
    assert [member.member_id for member in leader.members] == [leader.member_id, follower.member_id]
    assert leader.members[0] == JoinedMember(
        member_id=leader.member_id, instance_id=None, metadata=subscription("flights")
    )
    assert follower.members == ()
    assert follower.leader == leader.member_id


def test_the_protocol_is_one_that_all_share_with_most_votes(shell: GroupShell) -> None:
    def protocols(*names: str) -> tuple[tuple[str, bytes], ...]:
        return tuple((name, b"") for name in names)

    first, _ = shell.enter(protocols=protocols("sticky", "range", "roundrobin"))
    second, wait = shell.enter(protocols=protocols("range", "roundrobin"))
    third, _ = shell.enter(protocols=protocols("roundrobin", "range", "sticky"))
    shell.begin_join(first, protocols=protocols("sticky", "range", "roundrobin"))
    assert shell.joined(wait).protocol == "range"
    assert third != second


def test_a_rebalance_waits_for_all_members(shell: GroupShell) -> None:
    leader, other = shell.stable(2)
    _, newcomer = shell.enter()
    shell.begin_join(leader.member_id)
    assert newcomer not in shell.replies
    shell.begin_join(other.member_id)
    assert shell.joined(newcomer).generation == leader.generation + 1


def test_a_rebalance_drops_who_did_not_rejoin_in_time(shell: GroupShell) -> None:
    leader, late = shell.stable(2, session_timeout_ms=1_800_000)
    _, newcomer = shell.enter(session_timeout_ms=1_800_000)
    wait = shell.begin_join(leader.member_id, session_timeout_ms=1_800_000)
    shell.advance(REBALANCE_MS - 1)
    assert wait not in shell.replies
    shell.advance(1)
    assert len(shell.joined(wait).members) == 2
    assert newcomer in shell.replies
    assert shell.heartbeat(late) is ErrorCode.unknown_member_id


def test_a_new_leader_is_chosen_among_those_who_came(shell: GroupShell) -> None:
    leader, other = shell.stable(2)
    shell.leave((leader.member_id, None))
    reply = shell.join(other.member_id)
    assert reply.leader == other.member_id
    assert len(reply.members) == 1


def test_an_empty_group_waits_for_more_members_while_they_keep_coming() -> None:
    """KIP-134: each delay in which somebody came is followed by another, up to the rebalance timeout."""
    shell = GroupShell(replace(NO_DELAY, group_initial_rebalance_delay_ms=3_000))
    _, first = shell.enter()
    shell.advance(2_999)
    _, second = shell.enter()
    shell.advance(2_999)
    assert first not in shell.replies
    shell.advance(2)
    assert shell.joined(first).generation == shell.joined(second).generation == 1


def test_the_first_delay_ends_at_the_rebalance_timeout() -> None:
    shell = GroupShell(Limits())
    waits = []
    for _ in range(4):
        waits.append(shell.enter(rebalance_timeout_ms=7_000)[1])
        shell.advance(2_000)
    assert {shell.joined(wait).generation for wait in waits} == {1}


def test_a_follower_gets_what_the_leader_assigned(shell: GroupShell) -> None:
    (first,) = shell.stable()
    name, wait = shell.enter()
    leader = shell.join(first.member_id)
    follower = shell.joined(wait)
    sync = shell.begin_sync(follower)
    assert sync not in shell.replies
    own = shell.sync(leader, {name: b"theirs", first.member_id: b"mine"})
    assert (own.assignment, shell.synced(sync).assignment) == (b"mine", b"theirs")
    assert shell.sync(follower).assignment == b"theirs"


def test_a_member_that_the_leader_forgot_gets_an_empty_share(shell: GroupShell) -> None:
    (reply,) = shell.stable()
    again = shell.join(reply.member_id)
    assert shell.sync(again, {}).assignment == b""


def test_a_sync_of_an_old_generation_is_rejected(shell: GroupShell) -> None:
    (reply,) = shell.stable()
    shell.join(reply.member_id)
    assert shell.sync(reply).error is ErrorCode.illegal_generation


def test_a_sync_that_believes_in_another_protocol_is_rejected(shell: GroupShell) -> None:
    """KIP-559."""
    reply = shell.join(knows_member_id_required=False)
    rejected = ErrorCode.inconsistent_group_protocol
    assert shell.sync(reply, protocol="sticky").error is rejected
    assert shell.sync(reply, protocol_type="connect").error is rejected
    assert shell.sync(reply, protocol=None, protocol_type=None).error is ErrorCode.none


def test_a_sync_of_nobody_is_rejected(shell: GroupShell) -> None:
    (reply,) = shell.stable()
    assert shell.sync(replace(reply, member_id="unknown")).error is ErrorCode.unknown_member_id
    assert shell.sync(reply, group_id="").error is ErrorCode.invalid_group_id
    assert shell.sync(reply, group_id="elsewhere").error is ErrorCode.unknown_member_id


def test_a_sync_during_a_rebalance_says_so(shell: GroupShell) -> None:
    leader, _ = shell.stable(2)
    shell.enter()
    assert shell.sync(leader).error is ErrorCode.rebalance_in_progress


def test_waiting_syncs_are_rejected_when_the_group_changes(shell: GroupShell) -> None:
    (first,) = shell.stable()
    _, wait = shell.enter()
    shell.begin_join(first.member_id)
    sync = shell.begin_sync(shell.joined(wait))
    shell.enter()
    assert shell.synced(sync).error is ErrorCode.rebalance_in_progress


def test_a_repeated_sync_supersedes_the_one_that_waits(shell: GroupShell) -> None:
    (first,) = shell.stable()
    _, wait = shell.enter()
    leader = shell.join(first.member_id)
    follower = shell.joined(wait)
    lost, kept = shell.begin_sync(follower), shell.begin_sync(follower)
    assert shell.synced(lost).error is ErrorCode.rebalance_in_progress
    shell.sync(leader, {follower.member_id: b"share"})
    assert shell.synced(kept).assignment == b"share"


def test_an_assignment_beyond_all_measure_is_rejected_and_changes_nothing(shell: GroupShell) -> None:
    reply = shell.join(knows_member_id_required=False)
    huge = {reply.member_id: bytes(8 * 1024 * 1024 + 1)}
    assert shell.sync(reply, huge).error is ErrorCode.message_too_large
    assert shell.state == "CompletingRebalance"


def test_members_that_never_sync_are_out_after_the_rebalance_timeout(shell: GroupShell) -> None:
    (first,) = shell.stable()
    _, wait = shell.enter()
    leader = shell.join(first.member_id)
    ghost = shell.joined(wait)
    shell.sync(leader, {ghost.member_id: b"lost"})
    for _ in range(REBALANCE_MS // 5_000):
        shell.advance(5_000)
        shell.heartbeat(ghost)
        shell.heartbeat(leader)
    assert shell.heartbeat(ghost) is ErrorCode.unknown_member_id
    assert shell.heartbeat(leader) is ErrorCode.rebalance_in_progress


def test_a_member_whose_session_and_sync_end_together_is_removed_once(shell: GroupShell) -> None:
    silent = shell.join(knows_member_id_required=False, session_timeout_ms=REBALANCE_MS)
    assert shell.state == "CompletingRebalance"
    shell.advance(REBALANCE_MS)
    assert shell.heartbeat(silent) is ErrorCode.unknown_member_id
    assert shell.state == "Empty"


def test_heartbeats_are_fine_while_the_leader_assigns(shell: GroupShell) -> None:
    reply = shell.join(knows_member_id_required=False)
    assert shell.state == "CompletingRebalance"
    assert shell.heartbeat(reply) is ErrorCode.none


def test_a_heartbeat_of_an_old_generation_is_rejected(shell: GroupShell) -> None:
    (reply,) = shell.stable()
    again = shell.join(reply.member_id)
    shell.sync(again, {})
    assert shell.heartbeat(reply) is ErrorCode.illegal_generation
    assert shell.heartbeat(again) is ErrorCode.none


def test_a_leader_that_joins_again_starts_a_rebalance(shell: GroupShell) -> None:
    """Its assignor wants to assign anew, e.g. because a topic got partitions."""
    leader, _ = shell.stable(2)
    shell.begin_join(leader.member_id)
    assert shell.state == "PreparingRebalance"


def test_a_follower_that_repeats_its_join_gets_the_same_generation(shell: GroupShell) -> None:
    _, follower = shell.stable(2)
    again = shell.join(follower.member_id)
    assert (again.error, again.generation) == (ErrorCode.none, follower.generation)
    assert shell.state == "Stable"


def test_a_follower_with_a_changed_subscription_starts_a_rebalance(shell: GroupShell) -> None:
    """Also what cooperative rebalancing rests on: members rejoin with what they gave up."""
    _, follower = shell.stable(2)
    shell.begin_join(follower.member_id, protocols=(("range", subscription("delays")),))
    assert shell.state == "PreparingRebalance"


def test_a_join_reply_that_was_lost_is_repeated(shell: GroupShell) -> None:
    reply = shell.join(knows_member_id_required=False)
    assert shell.join(reply.member_id) == reply
    assert shell.state == "CompletingRebalance"


def test_a_repeated_join_supersedes_the_one_that_waits(shell: GroupShell) -> None:
    leader, other = shell.stable(2)
    lost = shell.begin_join(leader.member_id)
    kept = shell.begin_join(leader.member_id)
    assert shell.joined(lost).error is ErrorCode.rebalance_in_progress
    shell.begin_join(other.member_id)
    assert shell.joined(kept).error is ErrorCode.none


def test_a_restarted_broker_goes_on_without_a_rebalance(shell: GroupShell) -> None:
    leader, follower = shell.stable(2)
    after = shell.restarted()
    assert after.state == "Stable"
    assert after.heartbeat(leader) is ErrorCode.none
    assert after.sync(follower).assignment == follower.member_id.encode()
    after.advance(SESSION_MS)
    assert after.state == "Empty"


def test_a_rebalance_in_progress_is_forgotten_by_a_restart(shell: GroupShell) -> None:
    """The group is as it was last stored; the newcomer has to begin again."""
    (leader,) = shell.stable()
    newcomer, _ = shell.enter()
    after = shell.restarted()
    assert after.heartbeat(leader) is ErrorCode.none
    assert after.join(newcomer).error is ErrorCode.unknown_member_id


def test_a_description_shows_shares_only_while_stable(shell: GroupShell) -> None:
    (leader,) = shell.stable()
    description = shell.coordinator.describe("orders")
    assert description is not None
    assert (description.protocol, description.members[0].assignment) == ("range", leader.member_id.encode())
    shell.enter()
    description = shell.coordinator.describe("orders")
    assert description is not None
    assert (description.protocol, description.members[0].assignment) == ("", b"")
