"""All groups of the broker: the table, the checks every request passes, and replay.

Handlers change nothing; they return a Step (and a reply, where none has to wait). The shell appends the
step's records and then calls `apply`. `replay` is the only way into the durable part: at start for the whole
log, and from `apply` for each new record.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, assert_never

from tidemill_broker.coordinators import expiry, generation, membership, offsets
from tidemill_broker.coordinators.group import Answer, Group, Limits, State, Step, restored
from tidemill_broker.coordinators.messages import (
    CommitRequest,
    GroupDescription,
    JoinReply,
    JoinRequest,
    MemberDescription,
    MemberIdentity,
    SyncReply,
    SyncRequest,
    Ticket,
)
from tidemill_broker.coordinators.records import (
    GroupForgotten,
    GroupStored,
    OffsetCommitted,
    OffsetForgotten,
    Record,
)
from tidemill_broker.protocol.errors import ErrorCode

Place = expiry.Place
NO_CHANGE: Final = Step(group=None)


class GroupCoordinator:
    """The groups and their offsets; one per broker, called by one shell."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._groups: dict[str, Group] = {}
        self._stored: dict[str, GroupStored] = {}
        self._offsets = offsets.OffsetTable()
        self._alarms: list[tuple[int, str]] = []
        self._alarm_ms: dict[str, int] = {}

    # --- handlers: read the state, change nothing ---

    def join(self, request: JoinRequest, ticket: Ticket, now_ms: int) -> Step:
        """JoinGroup; the ticket is answered in this step or a later one."""
        error = membership.check_join(request, self.limits)
        group = self._groups.get(request.group_id)
        if error is ErrorCode.none and group is None and request.member_id != "":
            error = ErrorCode.unknown_member_id
        if error is not ErrorCode.none:
            reply = JoinReply(error=error, member_id=request.member_id)
            return Step(group=None, answers=(Answer(ticket=ticket, reply=reply),))
        group = group or Group(group_id=request.group_id, since_ms=now_ms)
        return membership.join(group, request, ticket, self.limits, now_ms)

    def sync(self, request: SyncRequest, ticket: Ticket, now_ms: int) -> Step:
        """SyncGroup; the ticket is answered in this step or a later one."""
        group = self._groups.get(request.group_id)
        error = self._check(request.group_id, request.member_id, request.instance_id, request.generation)
        if group is not None and error is ErrorCode.none and not _same_protocol(group, request):
            error = ErrorCode.inconsistent_group_protocol
        if group is None or error is not ErrorCode.none:
            return Step(group=None, answers=(Answer(ticket=ticket, reply=SyncReply(error=error)),))
        return generation.sync(group, request, ticket, now_ms)

    def heartbeat(
        self, group_id: str, member_id: str, instance_id: str | None, generation_id: int, now_ms: int
    ) -> tuple[Step, ErrorCode]:
        """Heartbeat: a fresh session, and whether there is a rebalance to join."""
        group = self._groups.get(group_id)
        error = self._check(group_id, member_id, instance_id, generation_id)
        if group is None or error is not ErrorCode.none:
            return NO_CHANGE, error
        preparing = group.state is State.PREPARING
        heard = group.with_member(group.members[member_id].heard(now_ms))
        return Step(group=heard), ErrorCode.rebalance_in_progress if preparing else ErrorCode.none

    def leave(
        self, group_id: str, identities: tuple[MemberIdentity, ...], now_ms: int
    ) -> tuple[Step, ErrorCode, tuple[ErrorCode, ...]]:
        """LeaveGroup: an error for the whole, and one for each who leaves."""
        group = self._groups.get(group_id)
        if group is None:
            unknown = ErrorCode.unknown_member_id
            error = membership.check_group_id(group_id)
            return NO_CHANGE, error, (unknown,) * len(identities)
        step, errors = membership.leave(group, identities, self.limits, now_ms)
        return step, ErrorCode.none, errors

    def commit_offsets(self, request: CommitRequest, now_ms: int) -> tuple[Step, tuple[ErrorCode, ...]]:
        """OffsetCommit: an error per offset."""
        error = membership.check_group_id(request.group_id)
        group = self._groups.get(request.group_id)
        if error is ErrorCode.none and group is None and not offsets.may_create(request):
            error = ErrorCode.illegal_generation
        if error is not ErrorCode.none:
            return NO_CHANGE, (error,) * len(request.offsets)
        group = group or Group(group_id=request.group_id, since_ms=now_ms)
        return offsets.commit(group, request, self.limits, now_ms)

    def delete_group(self, group_id: str) -> tuple[Step, ErrorCode]:
        """DeleteGroups, for one of them: only an Empty group goes, with its offsets."""
        error = membership.check_group_id(group_id)
        if error is not ErrorCode.none:
            return NO_CHANGE, error
        group = self._groups.get(group_id)
        if group is None:
            return NO_CHANGE, ErrorCode.group_id_not_found
        if group.state is not State.EMPTY:
            return NO_CHANGE, ErrorCode.non_empty_group
        return Step(group=None, records=self._tombstones(group_id)), ErrorCode.none

    def delete_offsets(self, group_id: str, places: tuple[Place, ...]) -> tuple[Step, tuple[ErrorCode, ...]]:
        """OffsetDelete: an error per (topic, partition)."""
        group = self._groups.get(group_id)
        if group is None:
            return NO_CHANGE, (ErrorCode.group_id_not_found,) * len(places)
        return offsets.forget(group, places)

    def forget_topics(self, names: frozenset[str]) -> Step:
        """Topics were deleted: nobody's position in them means anything any more."""
        records = [
            OffsetForgotten(group_id=group_id, topic=topic, partition=partition)
            for group_id, held in self._offsets.groups.items()
            for topic, partition in held
            if topic in names
        ]
        return Step(group=None, records=tuple(records))

    def abandon(self, group_id: str, ticket: Ticket, now_ms: int) -> Step:
        """Nobody waits for this ticket any more."""
        group = self._groups.get(group_id)
        return NO_CHANGE if group is None else membership.abandon(group, ticket, self.limits, now_ms)

    def expire(self, group_id: str, now_ms: int) -> Step:
        """What is due for this group, which `due` has named."""
        group = self._groups.get(group_id)
        return NO_CHANGE if group is None else expiry.expire(group, self.limits, now_ms)

    def expire_offsets(self, now_ms: int) -> Step:
        """Forget offsets that are older than the retention, and groups that have nothing left."""
        records: list[Record] = []
        for group_id, group in self._groups.items():
            held = self._offsets.of(group_id)
            old = expiry.old_offsets(group, held, self.limits, now_ms)
            if group.state is State.EMPTY and not group.pending and len(old) == len(held):
                records += self._tombstones(group_id)
                continue
            records += (
                OffsetForgotten(group_id=group_id, topic=topic, partition=partition)
                for topic, partition in old
            )
        return Step(group=None, records=tuple(records))

    def committed(self, group_id: str) -> Mapping[Place, OffsetCommitted]:
        """OffsetFetch: the group's offsets by (topic, partition); none for a group that is not there."""
        return self._offsets.of(group_id)

    def describe(self, group_id: str) -> GroupDescription | None:
        """DescribeGroups, for one of them; members show metadata and assignment only while Stable."""
        group = self._groups.get(group_id)
        if group is None:
            return None
        stable = group.state is State.STABLE
        return GroupDescription(
            group_id=group_id,
            state=group.state,
            protocol_type=group.protocol_type or "",
            protocol=(group.protocol or "") if stable else "",
            members=tuple(
                MemberDescription(
                    member_id=member.member_id,
                    instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    metadata=member.metadata(group.protocol) if stable else b"",
                    assignment=member.assignment if stable else b"",
                )
                for member in group.members.values()
            ),
        )

    def list_groups(self) -> Sequence[tuple[str, str, str]]:
        """ListGroups: (group id, protocol type, state) of each."""
        return [
            (group.group_id, group.protocol_type or "", group.state.value) for group in self._groups.values()
        ]

    # --- state: changed only here ---

    def apply(self, step: Step, now_ms: int) -> None:
        """A step's records are in the log: let it have happened."""
        for record in step.records:
            self.replay(record, now_ms)
        group = step.group
        if group is None:
            return
        if group.never_used and not self._offsets.of(group.group_id):
            self._groups.pop(group.group_id, None)
            return
        self._groups[group.group_id] = group
        self._set_alarm(group)

    def replay(self, record: Record, now_ms: int) -> None:
        """Apply one record of the log; sessions of a restored group begin at `now_ms`."""
        self._offsets.replay(record)
        match record:
            case OffsetCommitted():
                if record.group_id not in self._groups:
                    since_ms = record.committed_at_ms
                    self._groups[record.group_id] = Group(group_id=record.group_id, since_ms=since_ms)
            case GroupStored():
                self._stored[record.group_id] = record
                self._groups[record.group_id] = group = restored(record, now_ms)
                self._set_alarm(group)
            case GroupForgotten():
                self._stored.pop(record.group_id, None)
                self._groups.pop(record.group_id, None)
            case OffsetForgotten():
                group_id = record.group_id
                left = self._groups.get(group_id)
                if left is not None and left.never_used and not self._offsets.of(group_id):
                    del self._groups[group_id]
            case _:
                assert_never(record)

    def snapshot(self) -> Iterator[Record]:
        """The records that lead to this state, and no others: what a compacted log would hold.

        A group in the middle of a rebalance is given as it was last stored, as after a restart.
        """
        yield from self._stored.values()
        for held in self._offsets.groups.values():
            yield from held.values()

    # --- time ---

    @property
    def next_deadline_ms(self) -> int | None:
        """When `due` will next name a group; None while nobody waits for anything."""
        return self._alarms[0][0] if self._alarms else None

    def due(self, now_ms: int) -> list[str]:
        """The groups to call `expire` for; each is named once, `apply` sets its next alarm."""
        named = []
        while self._alarms and self._alarms[0][0] <= now_ms:
            at_ms, group_id = heapq.heappop(self._alarms)
            if self._alarm_ms.get(group_id) == at_ms:
                del self._alarm_ms[group_id]
                named.append(group_id)
        return named

    def wake_at(self, group_id: str, at_ms: int) -> None:
        """Have `due` name the group then (again), if not sooner."""
        if at_ms < self._alarm_ms.get(group_id, at_ms + 1):
            self._alarm_ms[group_id] = at_ms
            heapq.heappush(self._alarms, (at_ms, group_id))

    def _set_alarm(self, group: Group) -> None:
        # Heartbeats only move deadlines away: an alarm that rings too early finds nothing and is set anew.
        deadlines_ms = group.deadlines_ms()
        if deadlines_ms:
            self.wake_at(group.group_id, min(deadlines_ms))

    def _check(self, group_id: str, member_id: str, instance_id: str | None, generation_id: int) -> ErrorCode:
        """What SyncGroup and Heartbeat ask first: the group, the member, the generation."""
        error = membership.check_group_id(group_id)
        if error is not ErrorCode.none:
            return error
        group = self._groups.get(group_id)
        if group is None:
            return ErrorCode.unknown_member_id
        error = membership.check_member(group, member_id, instance_id)
        if error is not ErrorCode.none:
            return error
        return ErrorCode.none if generation_id == group.generation else ErrorCode.illegal_generation

    def _tombstones(self, group_id: str) -> tuple[Record, ...]:
        forgotten = [
            OffsetForgotten(group_id=group_id, topic=topic, partition=partition)
            for topic, partition in self._offsets.of(group_id)
        ]
        return (*forgotten, GroupForgotten(group_id=group_id))


def _same_protocol(group: Group, request: SyncRequest) -> bool:
    """Whether a SyncGroup (v5+) speaks of the protocol that the group has chosen (KIP-559)."""
    type_agrees = request.protocol_type in {None, group.protocol_type}
    return type_agrees and request.protocol in {None, group.protocol}
