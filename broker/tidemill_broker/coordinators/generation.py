"""Generations: a rebalance begins, ends, and its assignment is returned (SyncGroup, Heartbeat).

Must not know who may join; `membership` and `expiry` decide that and call `rebalance` afterwards.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from tidemill_broker.coordinators.group import Answer, Group, InitialDelay, Limits, Member, State, Step
from tidemill_broker.coordinators.messages import JoinedMember, JoinReply, SyncReply, SyncRequest, Ticket
from tidemill_broker.protocol.errors import ErrorCode

# The longest that a rebalance takes to look again when only static members are left, none of them here.
REJOIN_WAIT_MIN_MS: Final = 1_000
# What a leader may hand out in one generation; it is stored as one record.
ASSIGNMENTS_BYTES_MAX: Final = 8 * 1024 * 1024


def rebalance(group: Group, limits: Limits, now_ms: int) -> Step:
    """Begin a rebalance, or go on with the one that runs; it ends here if nobody is waited for."""
    if group.state is State.PREPARING:
        return complete_if_joined(group, now_ms)
    if group.state is State.EMPTY:
        return _begin_first(group, limits, now_ms)
    rejected, answers = _reject_waiting_syncs(group)
    waiting = replace(
        rejected,
        state=State.PREPARING,
        since_ms=now_ms,
        join_deadline_ms=now_ms + group.rebalance_timeout_ms,
        sync_deadline_ms=None,
    )
    return Step(group=waiting, answers=answers).then(lambda g: complete_if_joined(g, now_ms))


def _begin_first(group: Group, limits: Limits, now_ms: int) -> Step:
    """An empty group waits a little, so that members that start together share one generation (KIP-134)."""
    delay_ms = limits.group_initial_rebalance_delay_ms
    waiting = replace(
        group,
        state=State.PREPARING,
        since_ms=now_ms,
        join_deadline_ms=now_ms + delay_ms,
        initial_delay=InitialDelay(remaining_ms=max(group.rebalance_timeout_ms - delay_ms, 0), grew=False),
    )
    return Step(group=waiting) if delay_ms > 0 else complete(waiting, now_ms)


def complete_if_joined(group: Group, now_ms: int) -> Step:
    """End the rebalance if everybody is here; the first one waits for its delay nevertheless."""
    if group.state is not State.PREPARING or not group.all_joined:
        return Step(group=group)
    if group.initial_delay is not None and group.members:
        return Step(group=group)
    return complete(group, now_ms)


def end_of_wait(group: Group, limits: Limits, now_ms: int) -> Step:
    """The join deadline has come: extend the first rebalance if the group grew meanwhile, else end it."""
    delay = group.initial_delay
    if delay is None or not delay.grew or delay.remaining_ms == 0:
        return complete(group, now_ms)
    more_ms = min(limits.group_initial_rebalance_delay_ms, delay.remaining_ms)
    rest = InitialDelay(remaining_ms=delay.remaining_ms - more_ms, grew=False)
    return Step(group=replace(group, join_deadline_ms=now_ms + more_ms, initial_delay=rest))


def complete(group: Group, now_ms: int) -> Step:
    """Form the next generation of those who joined.

    Dynamic members that did not come are out; static ones stay until their session ends (KIP-345).
    """
    members = {name: m for name, m in group.members.items() if m.joining is not None or m.instance_id}
    joined = [name for name, member in members.items() if member.joining is not None]
    if members and not joined:
        wait_ms = max(group.rebalance_timeout_ms, REJOIN_WAIT_MIN_MS)
        return Step(group=replace(group, members=members, join_deadline_ms=now_ms + wait_ms))
    following = replace(
        group,
        generation=group.generation + 1,
        since_ms=now_ms,
        members=members,
        join_deadline_ms=None,
        initial_delay=None,
    )
    if not members:
        empty = replace(following, state=State.EMPTY, protocol=None, leader=None)
        return Step(group=empty, records=(empty.stored(),))
    leader = group.leader if group.leader in joined else joined[0]
    formed = replace(following, state=State.COMPLETING, leader=leader, protocol=choose_protocol(following))
    return _tell_joined(formed, now_ms)


def _tell_joined(group: Group, now_ms: int) -> Step:
    answers = tuple(
        Answer(ticket=member.joining, reply=join_reply(group, member.member_id))
        for member in group.members.values()
        if member.joining is not None
    )
    members = {
        name: replace(member.heard(now_ms), joining=None, new=False, owes_sync=True, assignment=b"")
        for name, member in group.members.items()
    }
    deadline_ms = now_ms + max(group.rebalance_timeout_ms, REJOIN_WAIT_MIN_MS)
    return Step(group=replace(group, members=members, sync_deadline_ms=deadline_ms), answers=answers)


def join_reply(group: Group, member_id: str) -> JoinReply:
    """The generation as this member is told it: only the leader sees the others."""
    assert group.leader is not None
    return JoinReply(
        member_id=member_id,
        generation=group.generation,
        protocol_type=group.protocol_type,
        protocol=group.protocol,
        leader=group.leader,
        members=joined_members(group) if member_id == group.leader else (),
    )


def joined_members(group: Group) -> tuple[JoinedMember, ...]:
    """Everyone with the metadata for the chosen protocol: what the leader assigns from."""
    return tuple(
        JoinedMember(
            member_id=member.member_id,
            instance_id=member.instance_id,
            metadata=member.metadata(group.protocol),
        )
        for member in group.members.values()
    )


def shared_protocols(group: Group) -> set[str]:
    """The protocols that every member supports; none in an empty group."""
    supported = [{name for name, _ in member.protocols} for member in group.members.values()]
    return set.intersection(*supported) if supported else set()


def choose_protocol(group: Group) -> str:
    """The shared protocol with most votes; each member votes for the first shared one on its list."""
    candidates = shared_protocols(group)
    votes = Counter(
        next(name for name, _ in member.protocols if name in candidates) for member in group.members.values()
    )
    return votes.most_common(1)[0][0]


def sync(group: Group, request: SyncRequest, ticket: Ticket, now_ms: int) -> Step:
    """Wait for the leader's assignment, bring it, or get it again.

    The caller has checked the group, the member and the generation.
    """
    match group.state:
        case State.PREPARING:
            return _answer_sync(group, ticket, ErrorCode.rebalance_in_progress)
        case State.STABLE:
            return _hand_out(_synced(group, request.member_id, ticket, now_ms), now_ms)
    if sum(map(len, request.assignments.values())) > ASSIGNMENTS_BYTES_MAX:
        return _answer_sync(group, ticket, ErrorCode.message_too_large)
    before = group.members[request.member_id].syncing
    replaced = () if before is None else (_rejection(before, ErrorCode.rebalance_in_progress),)
    waiting = _synced(group, request.member_id, ticket, now_ms)
    if request.member_id != group.leader:
        return Step(group=waiting, answers=replaced)
    return Step(group=waiting, answers=replaced).then(lambda g: _assign(g, request.assignments, now_ms))


def _assign(group: Group, assignments: dict[str, bytes], now_ms: int) -> Step:
    """The leader has spoken: store the generation and answer all who wait."""
    members = {
        name: replace(member, assignment=assignments.get(name, b"")) for name, member in group.members.items()
    }
    stable = replace(group, state=State.STABLE, since_ms=now_ms, members=members)
    return Step(group=stable, records=(stable.stored(),)).then(lambda g: _hand_out(g, now_ms))


def _synced(group: Group, member_id: str, ticket: Ticket, now_ms: int) -> Group:
    member = replace(group.members[member_id].heard(now_ms), syncing=ticket, owes_sync=False)
    group = group.with_member(member)
    owed = any(other.owes_sync for other in group.members.values())
    return group if owed else replace(group, sync_deadline_ms=None)


def _hand_out(group: Group, now_ms: int) -> Step:
    answers = tuple(
        Answer(ticket=member.syncing, reply=sync_reply(group, member))
        for member in group.members.values()
        if member.syncing is not None
    )
    members = {
        name: member if member.syncing is None else replace(member.heard(now_ms), syncing=None)
        for name, member in group.members.items()
    }
    return Step(group=replace(group, members=members), answers=answers)


def sync_reply(group: Group, member: Member) -> SyncReply:
    """The member's share of the current generation."""
    return SyncReply(protocol_type=group.protocol_type, protocol=group.protocol, assignment=member.assignment)


def _answer_sync(group: Group, ticket: Ticket, error: ErrorCode) -> Step:
    return Step(group=group, answers=(_rejection(ticket, error),))


def _rejection(ticket: Ticket, error: ErrorCode) -> Answer:
    return Answer(ticket=ticket, reply=SyncReply(error=error))


def _reject_waiting_syncs(group: Group) -> tuple[Group, tuple[Answer, ...]]:
    """Those who wait for an assignment that will not come join again."""
    answers = tuple(
        _rejection(member.syncing, ErrorCode.rebalance_in_progress)
        for member in group.members.values()
        if member.syncing is not None
    )
    members = {name: replace(member, syncing=None, owes_sync=False) for name, member in group.members.items()}
    return replace(group, members=members), answers
