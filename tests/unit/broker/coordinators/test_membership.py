"""Who gets into a group, who is sent away, and who stays: in virtual time, without a broker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.group_shell import NO_DELAY, REBALANCE_MS, SESSION_MS, GroupShell, subscription
from tidemill_broker.coordinators.group import Limits
from tidemill_broker.protocol.errors import ErrorCode


@pytest.fixture
def shell() -> GroupShell:
    return GroupShell()


def test_a_member_without_an_id_is_given_one_and_told_to_come_again(shell: GroupShell) -> None:
    """KIP-394: the id is only pending, no rebalance happens for it."""
    reply = shell.join()
    assert (reply.error, reply.member_id) == (ErrorCode.member_id_required, "member-1")
    assert shell.state == "Empty"


def test_an_old_client_without_an_id_joins_at_once(shell: GroupShell) -> None:
    reply = shell.join(knows_member_id_required=False)
    assert (reply.error, reply.generation, reply.leader) == (ErrorCode.none, 1, "member-1")


def test_a_pending_id_lapses_after_the_session_timeout(shell: GroupShell) -> None:
    pending = shell.join().member_id
    shell.advance(SESSION_MS)
    assert shell.state == "Dead"
    assert shell.join(pending).error is ErrorCode.unknown_member_id


def test_a_pending_id_holds_a_rebalance_only_until_it_lapses(shell: GroupShell) -> None:
    (leader,) = shell.stable()
    shell.join()
    again = shell.begin_join(leader.member_id)
    assert again not in shell.replies
    shell.advance(SESSION_MS)
    assert shell.joined(again).generation == 2


def test_an_unknown_id_cannot_join_a_group_that_is_not_there(shell: GroupShell) -> None:
    assert shell.join("unknown").error is ErrorCode.unknown_member_id
    assert shell.state == "Dead"


def test_a_group_without_a_name_is_rejected(shell: GroupShell) -> None:
    assert shell.join(group_id="").error is ErrorCode.invalid_group_id


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001, 0, -1])
def test_a_session_timeout_out_of_bounds_is_rejected(shell: GroupShell, session_ms: int) -> None:
    assert shell.join(session_timeout_ms=session_ms).error is ErrorCode.invalid_session_timeout


@pytest.mark.parametrize("session_ms", [6_000, 1_800_000])
def test_a_session_timeout_at_a_bound_is_taken(shell: GroupShell, session_ms: int) -> None:
    assert shell.join(session_timeout_ms=session_ms).error is ErrorCode.member_id_required


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol_type": "connect"},
        {"protocols": (("roundrobin", b""),)},
        {"protocols": ()},
        {"protocol_type": ""},
    ],
)
def test_a_member_that_shares_no_protocol_with_the_others_is_rejected(
    shell: GroupShell, changes: dict[str, Any]
) -> None:
    shell.stable()
    assert shell.join(**changes).error is ErrorCode.inconsistent_group_protocol
    assert shell.state == "Stable"


def test_the_first_member_must_bring_a_protocol(shell: GroupShell) -> None:
    assert shell.join(protocols=()).error is ErrorCode.inconsistent_group_protocol


def test_a_full_group_takes_no_more_members() -> None:
    shell = GroupShell(replace(NO_DELAY, group_max_size=2))
    shell.stable(2)
    assert shell.join().error is ErrorCode.group_max_size_reached
    assert shell.state == "Stable"


def test_ids_that_are_only_pending_count_too() -> None:
    shell = GroupShell(replace(NO_DELAY, group_max_size=2))
    shell.join()
    shell.join()
    assert shell.join().error is ErrorCode.group_max_size_reached


def test_names_and_subscriptions_have_a_limit(shell: GroupShell) -> None:
    assert shell.join(instance_id="i" * 513).error is ErrorCode.invalid_request
    assert shell.join(protocols=(("range", bytes(1_048_589)),)).error is ErrorCode.message_too_large
    assert shell.join(group_id="g" * 4_097).error is ErrorCode.invalid_group_id


def test_a_member_that_leaves_makes_the_others_join_again(shell: GroupShell) -> None:
    leader, follower = shell.stable(2)
    assert shell.leave((follower.member_id, None)) == (ErrorCode.none,)
    assert shell.heartbeat(leader) is ErrorCode.rebalance_in_progress
    assert shell.heartbeat(follower) is ErrorCode.unknown_member_id
    assert shell.join(leader.member_id).generation == leader.generation + 1


def test_the_last_member_that_leaves_makes_the_group_empty(shell: GroupShell) -> None:
    (leader,) = shell.stable()
    shell.leave((leader.member_id, None))
    assert shell.state == "Empty"
    assert shell.restarted().state == "Empty"


def test_leaving_answers_each_member_by_itself(shell: GroupShell) -> None:
    (leader,) = shell.stable()
    pending = shell.join().member_id
    errors = shell.leave(("unknown", None), (leader.member_id, None), (pending, None), ("", "nobody"))
    unknown = ErrorCode.unknown_member_id
    assert errors == (unknown, ErrorCode.none, ErrorCode.none, unknown)


def test_leaving_a_group_that_is_not_there_is_an_error_for_each(shell: GroupShell) -> None:
    assert shell.leave(("unknown", None)) == (ErrorCode.unknown_member_id,)


def test_a_waiting_member_that_is_removed_is_told_so(shell: GroupShell) -> None:
    shell.stable()
    newcomer, wait = shell.enter()
    shell.leave((newcomer, None))
    assert shell.joined(wait).error is ErrorCode.unknown_member_id


def test_a_silent_member_is_out_after_its_session(shell: GroupShell) -> None:
    leader, silent = shell.stable(2)
    shell.advance(SESSION_MS - 1)
    assert shell.heartbeat(leader) is ErrorCode.none
    shell.advance(1)
    assert shell.heartbeat(silent) is ErrorCode.unknown_member_id
    assert shell.heartbeat(leader) is ErrorCode.rebalance_in_progress


def test_a_member_whose_join_waits_needs_no_heartbeat(shell: GroupShell) -> None:
    leader, other = shell.stable(2, session_timeout_ms=SESSION_MS)
    wait = shell.begin_join(leader.member_id, session_timeout_ms=SESSION_MS)
    for _ in range(5):
        shell.advance(SESSION_MS - 1)
        shell.heartbeat(other)
    assert wait not in shell.replies
    shell.begin_join(other.member_id)
    assert shell.joined(wait).error is ErrorCode.none


# --- connections that end while their request waits ---


def test_a_newcomer_whose_connection_ends_is_out_at_once(shell: GroupShell) -> None:
    (leader,) = shell.stable()
    _, wait = shell.enter()
    shell.carry_out(shell.coordinator.abandon("orders", wait, shell.now_ms))
    assert shell.join(leader.member_id).error is ErrorCode.none


def test_a_known_member_whose_connection_ends_has_to_join_again(shell: GroupShell) -> None:
    leader, other = shell.stable(2)
    wait = shell.begin_join(leader.member_id)
    shell.carry_out(shell.coordinator.abandon("orders", wait, shell.now_ms))
    others = shell.begin_join(other.member_id)
    assert others not in shell.replies
    assert shell.join(leader.member_id).generation == shell.joined(others).generation


def test_a_connection_that_ends_without_a_wait_changes_nothing(shell: GroupShell) -> None:
    shell.stable()
    shell.carry_out(shell.coordinator.abandon("orders", 99, shell.now_ms))  # type: ignore[arg-type]  # nobody's
    assert shell.state == "Stable"


# --- static members (KIP-345) ---


def test_a_static_member_that_restarts_gets_its_assignment_back_without_a_rebalance(
    shell: GroupShell,
) -> None:
    leader = shell.join(instance_id="a")
    shell.sync(leader, {leader.member_id: b"share"}, instance_id="a")
    back = shell.join(instance_id="a")
    assert (back.error, back.generation) == (ErrorCode.none, leader.generation)
    assert back.member_id != leader.member_id
    assert shell.sync(back, instance_id="a").assignment == b"share"
    assert shell.state == "Stable"


def test_a_returning_static_leader_is_told_to_skip_the_assignment(shell: GroupShell) -> None:
    """KIP-814: v9 gets skip_assignment and the members; older versions are shown the old leader."""
    leader = shell.join(instance_id="a")
    shell.sync(leader, {leader.member_id: b""}, instance_id="a")
    new = shell.join(instance_id="a")
    assert (new.skip_assignment, new.leader, len(new.members)) == (True, new.member_id, 1)
    old = shell.join(instance_id="a", can_skip_assignment=False)
    assert (old.skip_assignment, old.leader, len(old.members)) == (False, new.member_id, 0)


def test_a_returning_static_follower_is_told_of_the_leader_and_of_no_members(shell: GroupShell) -> None:
    first = shell.join(instance_id="a")
    shell.sync(first, {}, instance_id="a")
    follower = shell.begin_join(instance_id="b")
    leader = shell.joined(shell.begin_join(first.member_id, instance_id="a"))
    shell.sync(leader, {}, instance_id="a")
    back = shell.join(instance_id="b")
    assert back.member_id != shell.joined(follower).member_id
    assert (back.generation, back.leader, back.members) == (leader.generation, leader.member_id, ())


def test_the_former_holder_of_a_static_id_is_fenced(shell: GroupShell) -> None:
    first = shell.join(instance_id="a")
    shell.sync(first, {}, instance_id="a")
    shell.join(instance_id="a")
    fenced = ErrorCode.fenced_instance_id
    assert shell.heartbeat(first, "a") is fenced
    assert shell.sync(first, instance_id="a").error is fenced
    assert shell.join(first.member_id, instance_id="a").error is fenced
    assert shell.commit(1, member_id=first.member_id, generation=1, instance_id="a") is fenced
    assert shell.leave((first.member_id, "a")) == (fenced,)


def test_a_waiting_former_holder_is_fenced_too(shell: GroupShell) -> None:
    shell.stable()
    first = shell.begin_join(instance_id="a")
    second = shell.begin_join(instance_id="a")
    assert shell.joined(first).error is ErrorCode.fenced_instance_id
    assert second not in shell.replies


def test_a_static_member_with_other_topics_causes_a_rebalance(shell: GroupShell) -> None:
    first = shell.join(instance_id="a")
    shell.sync(first, {}, instance_id="a")
    back = shell.join(instance_id="a", protocols=(("range", subscription("flights", "delays")),))
    assert back.generation == first.generation + 1


def test_a_static_member_that_would_turn_the_vote_causes_a_rebalance(shell: GroupShell) -> None:
    range_first = (("range", subscription("flights")), ("sticky", subscription("flights")))
    first = shell.join(instance_id="a", protocols=range_first)
    shell.sync(first, {}, instance_id="a")
    back = shell.join(instance_id="a", protocols=range_first[::-1])
    assert (back.generation, back.protocol) == (first.generation + 1, "sticky")


def test_a_static_member_that_returns_while_the_leader_assigns_starts_a_rebalance(shell: GroupShell) -> None:
    """The leader assigns to the old id, which is no more."""
    first = shell.join(instance_id="a")
    again = shell.join(instance_id="a")
    assert again.generation == first.generation + 1


def test_a_static_member_stays_through_a_rebalance_that_it_misses(shell: GroupShell) -> None:
    """Only its session ends it."""
    static = shell.join(instance_id="a", session_timeout_ms=1_800_000)
    shell.sync(static, {}, instance_id="a")
    _, wait = shell.enter(rebalance_timeout_ms=20_000)
    shell.advance(60_000)
    reply = shell.joined(wait)
    assert {member.instance_id for member in reply.members} == {"a", None}
    assert reply.leader == reply.member_id


def test_a_rebalance_that_nobody_joins_in_time_goes_on_waiting(shell: GroupShell) -> None:
    """With nobody joined there is nobody to lead, and the static member may still come back."""
    static = shell.join(instance_id="a", session_timeout_ms=1_800_000)
    shell.sync(static, {}, instance_id="a")
    guest, _ = shell.enter()
    shell.leave((guest, None))
    shell.advance(2 * REBALANCE_MS)
    assert shell.state == "PreparingRebalance"
    back = shell.join(static.member_id, instance_id="a", session_timeout_ms=1_800_000)
    assert (back.error, back.generation) == (ErrorCode.none, static.generation + 1)


def test_a_rebalance_that_nobody_joins_ends_with_the_last_session(shell: GroupShell) -> None:
    static = shell.join(instance_id="a")
    shell.sync(static, {}, instance_id="a")
    guest, _ = shell.enter()
    shell.leave((guest, None))
    assert shell.state == "PreparingRebalance"
    shell.advance(SESSION_MS)
    assert shell.state == "Empty"


def test_an_administrator_removes_a_static_member_by_its_instance_id(shell: GroupShell) -> None:
    static = shell.join(instance_id="a")
    assert shell.leave(("", "a")) == (ErrorCode.none,)
    assert shell.heartbeat(static, "a") is ErrorCode.unknown_member_id
    assert shell.state == "Empty"


def test_limits_are_those_of_kafka() -> None:
    limits = Limits()
    assert limits.group_initial_rebalance_delay_ms == 3_000
    assert limits.offsets_retention_ms == 7 * 24 * 3_600_000
