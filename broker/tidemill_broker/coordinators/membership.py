"""Who is in a group: JoinGroup, LeaveGroup and the checks that every request of a member passes.

Decides nothing about generations; each change of the membership ends in `generation.rebalance`.

See docs/decisions/0302.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tidemill_broker.coordinators.generation import (
    choose_protocol,
    join_reply,
    joined_members,
    rebalance,
    shared_protocols,
)
from tidemill_broker.coordinators.group import Answer, Group, Limits, Member, State, Step
from tidemill_broker.coordinators.messages import JoinReply, JoinRequest, MemberIdentity, SyncReply, Ticket
from tidemill_broker.coordinators.subscription import subscribed_topics
from tidemill_broker.protocol.errors import ErrorCode

# Kafka's GroupCoordinatorConfig.CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS: a member that has no id yet cannot
# heartbeat, so its first JoinGroup may wait this long.
NEW_MEMBER_JOIN_TIMEOUT_MS: Final = 300_000
# Names are stored with 16-bit lengths; nothing sensible comes near these.
GROUP_ID_BYTES_MAX: Final = 4_096
NAME_BYTES_MAX: Final = 512
# All of a member's subscriptions together, as large as a record may be by default (message.max.bytes).
MEMBER_METADATA_BYTES_MAX: Final = 1_048_588


def join(group: Group, request: JoinRequest, ticket: Ticket, limits: Limits, now_ms: int) -> Step:
    """Take a member into the next generation, or tell it at once what it has wrong.

    Kafka's GroupMetadataManager.classicGroupJoin; the caller has made the group if it may be made.
    """
    error = _rejection(group, request, limits)
    if error is not ErrorCode.none:
        return _reject(group, request, ticket, error)
    if request.member_id == "":
        return _join_new(group, request, ticket, limits, now_ms)
    if request.member_id in group.pending:
        return _add(group, request, ticket, limits, now_ms)
    error = check_member(group, request.member_id, request.instance_id)
    if error is not ErrorCode.none:
        return _reject(group, request, ticket, error)
    return _join_again(group, request, ticket, limits, now_ms)


def check_member(group: Group, member_id: str, instance_id: str | None) -> ErrorCode:
    """Whether this id is the one that its static instance holds now, or is known at all (KIP-345)."""
    if instance_id is not None:
        holder = group.static_member(instance_id)
        if holder is None:
            return ErrorCode.unknown_member_id
        return ErrorCode.none if holder.member_id == member_id else ErrorCode.fenced_instance_id
    return ErrorCode.none if member_id in group.members else ErrorCode.unknown_member_id


def check_group_id(group_id: str) -> ErrorCode:
    """A group's name is not empty and fits its records."""
    fits = 0 < len(group_id.encode()) <= GROUP_ID_BYTES_MAX
    return ErrorCode.none if fits else ErrorCode.invalid_group_id


def check_join(request: JoinRequest, limits: Limits) -> ErrorCode:
    """What is wrong with a JoinGroup whatever the group."""
    if check_group_id(request.group_id) is not ErrorCode.none:
        return ErrorCode.invalid_group_id
    shortest_ms, longest_ms = limits.group_min_session_timeout_ms, limits.group_max_session_timeout_ms
    if not shortest_ms <= request.session_timeout_ms <= longest_ms:
        return ErrorCode.invalid_session_timeout
    names = (request.instance_id or "", request.protocol_type, *(name for name, _ in request.protocols))
    if any(len(name.encode()) > NAME_BYTES_MAX for name in names):
        return ErrorCode.invalid_request
    if sum(len(metadata) for _, metadata in request.protocols) > MEMBER_METADATA_BYTES_MAX:
        return ErrorCode.message_too_large
    return ErrorCode.none


def leave(
    group: Group, identities: tuple[MemberIdentity, ...], limits: Limits, now_ms: int
) -> tuple[Step, tuple[ErrorCode, ...]]:
    """Remove members, each with an error of its own (v3+ carry many)."""
    step, errors = Step(group=group), []
    for identity in identities:
        assert step.group is not None
        error, member_id = _find_leaving(step.group, identity)
        errors.append(error)
        if error is ErrorCode.none:
            step = step.then(lambda g, member_id=member_id: remove(g, member_id, limits, now_ms))  # type: ignore[misc]  # mypy infers no types for a lambda's defaults
    return step, tuple(errors)


def remove(group: Group, member_id: str, limits: Limits, now_ms: int) -> Step:
    """Take a member (or an id not used yet) out; the rest rebalances.

    Whoever of it still waits is told UNKNOWN_MEMBER_ID, so that a live client joins anew.
    """
    if member_id in group.pending:
        left = group.without_pending(member_id)
        return rebalance(left, limits, now_ms) if left.state is State.PREPARING else Step(group=left)
    answers = _dismiss(group.members[member_id], ErrorCode.unknown_member_id)
    left = group.without_member(member_id)
    return Step(group=left, answers=answers).then(lambda g: rebalance(g, limits, now_ms))


def abandon(group: Group, ticket: Ticket, limits: Limits, now_ms: int) -> Step:
    """Whoever waited with this ticket is gone: its connection ended before the answer.

    Kafka does not notice and forms generations with the absent (its session ends later). Here a member that
    never was in a generation is out at once; a known one has to come back, as if it had not joined yet.
    """
    for member in group.members.values():
        if member.joining == ticket and member.new:
            return remove(group, member.member_id, limits, now_ms)
        if ticket in {member.joining, member.syncing}:
            absent = replace(member.heard(now_ms), joining=None, syncing=None)
            return Step(group=group.with_member(absent))
    return Step(group=None)


def _rejection(group: Group, request: JoinRequest, limits: Limits) -> ErrorCode:
    if not _has_room(group, request.member_id, limits):
        return ErrorCode.group_max_size_reached
    offered = {name for name, _ in request.protocols}
    if group.state is State.EMPTY or not group.members:
        consistent = bool(request.protocol_type and offered)
    else:
        consistent = group.protocol_type == request.protocol_type and bool(offered & shared_protocols(group))
    return ErrorCode.none if consistent else ErrorCode.inconsistent_group_protocol


def _has_room(group: Group, member_id: str, limits: Limits) -> bool:
    """GroupMetadataManager.acceptJoiningMember: during a rebalance only those who joined count."""
    if member_id in group.members and group.state is not State.PREPARING:
        return True
    if group.state is State.PREPARING:
        known = group.members.get(member_id)
        present = sum(1 for member in group.members.values() if member.joining is not None)
        return (known is not None and known.joining is not None) or present < limits.group_max_size
    ids = len(group.members) + len(group.pending) - (member_id in group.pending)
    return ids < limits.group_max_size


def _join_new(group: Group, request: JoinRequest, ticket: Ticket, limits: Limits, now_ms: int) -> Step:
    if request.instance_id is not None:
        holder = group.static_member(request.instance_id)
        if holder is not None:
            return _replace_static(group, holder, request, ticket, limits, now_ms)
    elif request.knows_member_id_required:
        pending = {**group.pending, request.fresh_member_id: now_ms + request.session_timeout_ms}
        reply = JoinReply(error=ErrorCode.member_id_required, member_id=request.fresh_member_id)
        return Step(group=replace(group, pending=pending), answers=(Answer(ticket=ticket, reply=reply),))
    return _add(group, request, ticket, limits, now_ms)


def _add(group: Group, request: JoinRequest, ticket: Ticket, limits: Limits, now_ms: int) -> Step:
    member = Member(
        member_id=request.member_id or request.fresh_member_id,
        instance_id=request.instance_id,
        client_id=request.client_id,
        client_host=request.client_host,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        session_timeout_ms=request.session_timeout_ms,
        protocols=request.protocols,
        session_ends_ms=now_ms + NEW_MEMBER_JOIN_TIMEOUT_MS,
        joining=ticket,
        new=True,
    )
    if not group.members:
        group = replace(group, protocol_type=request.protocol_type, leader=member.member_id)
    if group.initial_delay is not None:
        group = replace(group, initial_delay=replace(group.initial_delay, grew=True))
    return rebalance(group.without_pending(member.member_id).with_member(member), limits, now_ms)


def _join_again(group: Group, request: JoinRequest, ticket: Ticket, limits: Limits, now_ms: int) -> Step:
    """A known member: it repeats itself, follows a rebalance, or brings a reason for one."""
    member = group.members[request.member_id]
    unchanged = member.protocols == request.protocols
    if group.state is State.COMPLETING and unchanged:
        # Its first reply was lost; the generation stands.
        return _repeat(group, member, ticket, now_ms)
    if group.state is State.STABLE and unchanged and member.member_id != group.leader:
        return _repeat(group, member, ticket, now_ms)
    return _rejoin(group, member, request, ticket, limits, now_ms)


def _repeat(group: Group, member: Member, ticket: Ticket, now_ms: int) -> Step:
    answer = Answer(ticket=ticket, reply=join_reply(group, member.member_id))
    return Step(group=group.with_member(member.heard(now_ms)), answers=(answer,))


def _rejoin(
    group: Group, member: Member, request: JoinRequest, ticket: Ticket, limits: Limits, now_ms: int
) -> Step:
    superseded = () if member.joining is None else (_join_error(member, ErrorCode.rebalance_in_progress),)
    updated = _updated(member, request, ticket, now_ms)
    return Step(group=group.with_member(updated), answers=superseded).then(
        lambda g: rebalance(g, limits, now_ms)
    )


def _updated(member: Member, request: JoinRequest, ticket: Ticket | None, now_ms: int) -> Member:
    return replace(
        member,
        client_id=request.client_id,
        client_host=request.client_host,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        session_timeout_ms=request.session_timeout_ms,
        protocols=request.protocols,
        session_ends_ms=now_ms + request.session_timeout_ms,
        joining=ticket,
    )


def _replace_static(
    group: Group, holder: Member, request: JoinRequest, ticket: Ticket, limits: Limits, now_ms: int
) -> Step:
    """A static member is back under a new id (KIP-345): the old id is fenced.

    In a Stable group that would choose the same protocol for the same topics nothing else changes: the
    member gets its assignment back without a rebalance.
    """
    fenced = _dismiss(holder, ErrorCode.fenced_instance_id)
    member = replace(
        _updated(holder, request, None, now_ms),
        member_id=request.fresh_member_id,
        syncing=None,
        new=False,
    )
    swapped = _swap(group, holder, member)
    if group.state is State.STABLE and _same_wishes(swapped, holder, member):
        answer = Answer(ticket=ticket, reply=_static_reply(swapped, holder, member, request))
        return Step(group=swapped, records=(swapped.stored(),), answers=(*fenced, answer))
    waiting = swapped.with_member(replace(member, joining=ticket))
    return Step(group=waiting, answers=fenced).then(lambda g: rebalance(g, limits, now_ms))


def _swap(group: Group, holder: Member, member: Member) -> Group:
    """The group with one member under another id, in the same place."""
    members = {
        other.member_id: other for other in (member if m is holder else m for m in group.members.values())
    }
    leader = member.member_id if group.leader == holder.member_id else group.leader
    return replace(group, members=members, leader=leader)


def _same_wishes(group: Group, holder: Member, member: Member) -> bool:
    """Whether the next generation would choose the protocol of this one, for the same topics.

    The bytes are not compared: they also carry the partitions that the member owned, which a restart loses.
    """
    if choose_protocol(group) != group.protocol:
        return False
    return subscribed_topics(holder.metadata(group.protocol)) == subscribed_topics(
        member.metadata(group.protocol)
    )


def _static_reply(group: Group, holder: Member, member: Member, request: JoinRequest) -> JoinReply:
    """A returning leader must not assign again: v9 says so (KIP-814), older ones are shown the old leader."""
    reply = join_reply(group, member.member_id)
    if group.leader != member.member_id:
        return reply
    if request.can_skip_assignment:
        return replace(reply, skip_assignment=True, members=joined_members(group))
    return replace(reply, leader=holder.member_id, members=())


def _find_leaving(group: Group, identity: MemberIdentity) -> tuple[ErrorCode, str]:
    if identity.member_id == "" and identity.instance_id is not None:
        holder = group.static_member(identity.instance_id)
        return (ErrorCode.unknown_member_id, "") if holder is None else (ErrorCode.none, holder.member_id)
    if identity.member_id in group.pending:
        return ErrorCode.none, identity.member_id
    return check_member(group, identity.member_id, identity.instance_id), identity.member_id


def _dismiss(member: Member, error: ErrorCode) -> tuple[Answer, ...]:
    """Answers for whatever of this member waits."""
    joins = () if member.joining is None else (_join_error(member, error),)
    syncs = () if member.syncing is None else (Answer(ticket=member.syncing, reply=SyncReply(error=error)),)
    return (*joins, *syncs)


def _join_error(member: Member, error: ErrorCode) -> Answer:
    assert member.joining is not None
    return Answer(ticket=member.joining, reply=JoinReply(error=error, member_id=member.member_id))


def _reject(group: Group, request: JoinRequest, ticket: Ticket, error: ErrorCode) -> Step:
    reply = JoinReply(error=error, member_id=request.member_id)
    return Step(group=group, answers=(Answer(ticket=ticket, reply=reply),))
