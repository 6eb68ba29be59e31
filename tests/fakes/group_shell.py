"""A shell for the group coordinator in virtual time: GroupService without a log, a loop or a clock.

Records go to a list; time moves only by `advance`, which rings every alarm on its way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from tidemill_broker.coordinators.group import Limits, Step
from tidemill_broker.coordinators.groups import GroupCoordinator
from tidemill_broker.coordinators.messages import (
    NO_GENERATION,
    CommitRequest,
    JoinReply,
    JoinRequest,
    MemberIdentity,
    OffsetToCommit,
    SyncReply,
    SyncRequest,
    Ticket,
)
from tidemill_broker.coordinators.records import Record
from tidemill_broker.protocol.errors import ErrorCode

GROUP = "orders"
NO_DELAY = Limits(group_initial_rebalance_delay_ms=0)
SESSION_MS = 10_000
REBALANCE_MS = 60_000


def subscription(*topics: str) -> bytes:
    """A consumer's subscription v0, as real clients send it."""
    names = b"".join(len(name).to_bytes(2, "big") + name.encode() for name in topics)
    return b"\0\0" + len(topics).to_bytes(4, "big") + names + b"\xff\xff\xff\xff"


class GroupShell:
    """Drives one coordinator; `log` is what the offsets topic would hold, `replies` what clients got."""

    def __init__(
        self, limits: Limits = NO_DELAY, log: Iterable[Record] = (), now_ms: int = 1_000_000
    ) -> None:
        self.now_ms = now_ms
        self.coordinator = GroupCoordinator(limits)
        self.log: list[Record] = list(log)
        self.replies: dict[Ticket, JoinReply | SyncReply] = {}
        self._tickets = itertools.count(1)
        self._names = itertools.count(1)
        for record in self.log:
            self.coordinator.replay(record, now_ms)

    def restarted(self) -> GroupShell:
        """Another broker that reads this one's log."""
        return GroupShell(self.coordinator.limits, self.log, self.now_ms)

    # --- requests ---

    def begin_join(self, member_id: str = "", **changes: Any) -> Ticket:
        """A JoinGroup; changes are members of JoinRequest."""
        ticket = Ticket(next(self._tickets))
        request = {
            "group_id": GROUP,
            "member_id": member_id,
            "instance_id": None,
            "client_id": "client",
            "client_host": "/127.0.0.1",
            "session_timeout_ms": SESSION_MS,
            "rebalance_timeout_ms": REBALANCE_MS,
            "protocol_type": "consumer",
            "protocols": (("range", subscription("flights")),),
            "fresh_member_id": f"member-{next(self._names)}",
            "knows_member_id_required": True,
            "can_skip_assignment": True,
        } | changes
        self.carry_out(self.coordinator.join(JoinRequest(**request), ticket, self.now_ms))
        return ticket

    def join(self, member_id: str = "", **changes: Any) -> JoinReply:
        """A JoinGroup that is answered at once."""
        return self.joined(self.begin_join(member_id, **changes))

    def enter(self, **changes: Any) -> tuple[str, Ticket]:
        """A new member: asks for an id, joins with it; (member id, ticket of its second JoinGroup)."""
        asked = self.join(**changes)
        assert asked.error is ErrorCode.member_id_required
        return asked.member_id, self.begin_join(asked.member_id, **changes)

    def begin_sync(
        self, reply: JoinReply, assignments: dict[str, bytes] | None = None, **changes: Any
    ) -> Ticket:
        """A SyncGroup that follows a join reply."""
        ticket = Ticket(next(self._tickets))
        request = {
            "group_id": GROUP,
            "member_id": reply.member_id,
            "instance_id": None,
            "generation": reply.generation,
            "protocol_type": reply.protocol_type,
            "protocol": reply.protocol,
            "assignments": assignments or {},
        } | changes
        self.carry_out(self.coordinator.sync(SyncRequest(**request), ticket, self.now_ms))
        return ticket

    def sync(
        self, reply: JoinReply, assignments: dict[str, bytes] | None = None, **changes: Any
    ) -> SyncReply:
        """A SyncGroup that is answered at once."""
        return self.synced(self.begin_sync(reply, assignments, **changes))

    def heartbeat(self, reply: JoinReply, instance_id: str | None = None) -> ErrorCode:
        step, error = self.coordinator.heartbeat(
            GROUP, reply.member_id, instance_id, reply.generation, self.now_ms
        )
        self.carry_out(step)
        return error

    def leave(self, *members: tuple[str, str | None]) -> tuple[ErrorCode, ...]:
        identities = tuple(MemberIdentity(member_id=name, instance_id=instance) for name, instance in members)
        step, error, errors = self.coordinator.leave(GROUP, identities, self.now_ms)
        self.carry_out(step)
        assert error is ErrorCode.none
        return errors

    def commit(
        self,
        offset: int,
        *,
        member_id: str = "",
        generation: int = NO_GENERATION,
        topic: str = "flights",
        **changes: Any,
    ) -> ErrorCode:
        """Commit one offset of partition 0; changes are `metadata`, `instance_id`, `group_id`."""
        metadata = changes.pop("metadata", "")
        wanted = OffsetToCommit(topic=topic, partition=0, offset=offset, leader_epoch=-1, metadata=metadata)
        request = {"group_id": GROUP, "instance_id": None} | changes
        step, (error,) = self.coordinator.commit_offsets(
            CommitRequest(member_id=member_id, generation=generation, offsets=(wanted,), **request),
            self.now_ms,
        )
        self.carry_out(step)
        return error

    def delete_group(self) -> ErrorCode:
        step, error = self.coordinator.delete_group(GROUP)
        self.carry_out(step)
        return error

    # --- time and state ---

    def advance(self, ms: int) -> None:
        """Let time pass; alarms ring when they are due."""
        until_ms = self.now_ms + ms
        while (deadline_ms := self.coordinator.next_deadline_ms) is not None and deadline_ms <= until_ms:
            self.now_ms = max(self.now_ms, deadline_ms)
            for group_id in self.coordinator.due(self.now_ms):
                self.carry_out(self.coordinator.expire(group_id, self.now_ms))
        self.now_ms = until_ms

    def carry_out(self, step: Step) -> None:
        self.log += step.records
        self.coordinator.apply(step, self.now_ms)
        for answer in step.answers:
            assert answer.ticket not in self.replies, "a request is answered once"
            self.replies[answer.ticket] = answer.reply

    def joined(self, ticket: Ticket) -> JoinReply:
        reply = self.replies[ticket]
        assert isinstance(reply, JoinReply)
        return reply

    def synced(self, ticket: Ticket) -> SyncReply:
        reply = self.replies[ticket]
        assert isinstance(reply, SyncReply)
        return reply

    def offset(self, topic: str = "flights", group_id: str = GROUP) -> int | None:
        held = self.coordinator.committed(group_id).get((topic, 0))
        return None if held is None else held.offset

    @property
    def state(self) -> str:
        """The group's state as DescribeGroups would give it."""
        description = self.coordinator.describe(GROUP)
        return "Dead" if description is None else description.state

    # --- scenes that many tests begin with ---

    def stable(self, members: int = 1, **changes: Any) -> list[JoinReply]:
        """A Stable group; the replies of its last generation, the leader's first."""
        first, ticket = self.enter(**changes)
        names, tickets = [first], {first: ticket}
        for _ in range(members - 1):
            name, tickets[name] = self.enter(**changes)
            names.append(name)
            for known in names[:-1]:
                tickets[known] = self.begin_join(known, **changes)
        replies = [self.joined(tickets[name]) for name in names]
        shares = {name: name.encode() for name in names}
        waits = [self.begin_sync(reply) for reply in replies if reply.member_id != reply.leader]
        for reply in replies:
            if reply.member_id == reply.leader:
                self.sync(reply, shares)
        assert all(self.synced(wait).error is ErrorCode.none for wait in waits)
        return sorted(replies, key=lambda reply: reply.member_id != reply.leader)
