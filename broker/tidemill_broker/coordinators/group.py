"""A group of the classic protocol as an immutable value, and `Step`, what a transition brings about.

    Empty ──join──► PreparingRebalance ──all joined, or the deadline──► CompletingRebalance
      ▲                ▲      │  nobody is left                               │ the leader's SyncGroup
      └────────────────┼──────┘                                               ▼
                       └──── join, leave, expiry, changed metadata ──────── Stable

Kafka's fifth state, Dead, is a group that is not in the table. Membership, generation and expiry hold the
transitions; nothing here decides. Behaviour follows Kafka's ClassicGroup and GroupMetadataManager.

See docs/decisions/0300.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tidemill_broker.coordinators.messages import JoinReply, SyncReply, Ticket
from tidemill_broker.coordinators.records import GroupStored, Record, StoredMember


class State(StrEnum):
    """Names as DescribeGroups gives them."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The settings a group obeys, by Kafka's names with dots; the values are Kafka's defaults."""

    group_min_session_timeout_ms: int = 6_000
    group_max_session_timeout_ms: int = 1_800_000
    group_initial_rebalance_delay_ms: int = 3_000
    group_max_size: int = 1_000
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_ms: int = 7 * 24 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member; `protocols` in its order of preference.

    `joining` and `syncing` name the request of it that waits. `new` until its first generation is formed:
    before that it cannot heartbeat. `owes_sync` from the join reply until its SyncGroup.
    """

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    session_ends_ms: int
    assignment: bytes = b""
    joining: Ticket | None = None
    syncing: Ticket | None = None
    new: bool = False
    owes_sync: bool = False

    def metadata(self, protocol: str | None) -> bytes:
        """The metadata for one protocol, empty if the member lacks it."""
        return next((metadata for name, metadata in self.protocols if name == protocol), b"")

    @property
    def deadline_ms(self) -> int | None:
        """When the session ends; a known member whose request waits here cannot heartbeat, so it has none."""
        waits = self.joining is not None or self.syncing is not None
        return None if waits and not self.new else self.session_ends_ms

    def heard(self, now_ms: int) -> Member:
        """The member with a fresh session."""
        return replace(self, session_ends_ms=now_ms + self.session_timeout_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialDelay:
    """An empty group's first rebalance waits for more members, for as long as some keep coming."""

    remaining_ms: int
    grew: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group at one moment; `since_ms` is when it entered its state.

    `pending` holds the ids issued with MEMBER_ID_REQUIRED (KIP-394) and when each lapses.
    """

    group_id: str
    state: State = State.EMPTY
    since_ms: int
    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str | None = None
    members: Mapping[str, Member] = field(default_factory=dict)
    pending: Mapping[str, int] = field(default_factory=dict)
    join_deadline_ms: int | None = None
    sync_deadline_ms: int | None = None
    initial_delay: InitialDelay | None = None

    @property
    def rebalance_timeout_ms(self) -> int:
        """How long a rebalance waits: as long as the most patient member."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    @property
    def all_joined(self) -> bool:
        """Whether a rebalance has nobody to wait for, those with a fresh id included."""
        return not self.pending and all(member.joining is not None for member in self.members.values())

    @property
    def never_used(self) -> bool:
        """Whether nothing of it was ever stored and nobody is in it."""
        return self.generation == 0 and not self.members and not self.pending

    def static_member(self, instance_id: str) -> Member | None:
        """The member that holds this instance id (KIP-345)."""
        return next((member for member in self.members.values() if member.instance_id == instance_id), None)

    def with_member(self, member: Member) -> Group:
        """The group with this member, in its old place if it had one."""
        return replace(self, members={**self.members, member.member_id: member})

    def without_member(self, member_id: str) -> Group:
        """The group without this member; if it led, the next in line does."""
        members = {name: member for name, member in self.members.items() if name != member_id}
        leader = next(iter(members), None) if self.leader == member_id else self.leader
        return replace(self, members=members, leader=leader)

    def without_pending(self, member_id: str) -> Group:
        """The group without a pending id; nothing changes if it is not pending."""
        if member_id not in self.pending:
            return self
        return replace(self, pending={name: end for name, end in self.pending.items() if name != member_id})

    def deadlines_ms(self) -> list[int]:
        """Every instant at which something happens if nobody calls before."""
        sessions = (member.deadline_ms for member in self.members.values())
        ends = (*sessions, *self.pending.values(), self.join_deadline_ms, self.sync_deadline_ms)
        return [end for end in ends if end is not None]

    def stored(self) -> GroupStored:
        """The record that restores this group after a restart."""
        return GroupStored(
            group_id=self.group_id,
            protocol_type=self.protocol_type or "",
            generation=self.generation,
            protocol=self.protocol,
            leader=self.leader,
            since_ms=self.since_ms,
            members=tuple(_stored_member(member, self.protocol) for member in self.members.values()),
        )


def restored(record: GroupStored, now_ms: int) -> Group:
    """The group of a record; every session begins afresh, as Kafka does when it loads a group."""
    members = {
        stored.member_id: Member(
            member_id=stored.member_id,
            instance_id=stored.instance_id,
            client_id=stored.client_id,
            client_host=stored.client_host,
            rebalance_timeout_ms=stored.rebalance_timeout_ms,
            session_timeout_ms=stored.session_timeout_ms,
            protocols=((record.protocol or "", stored.subscription),),
            session_ends_ms=now_ms + stored.session_timeout_ms,
            assignment=stored.assignment,
        )
        for stored in record.members
    }
    return Group(
        group_id=record.group_id,
        state=State.STABLE if members else State.EMPTY,
        since_ms=record.since_ms,
        generation=record.generation,
        protocol_type=record.protocol_type or None,
        protocol=record.protocol,
        leader=record.leader,
        members=members,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The reply to a JoinGroup or SyncGroup, which may have waited since long before this step."""

    ticket: Ticket
    reply: JoinReply | SyncReply


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a transition brings about once its records are in the log: nothing has happened yet.

    `group` is the group as it becomes, None where the records say it all.
    """

    group: Group | None
    records: tuple[Record, ...] = ()
    answers: tuple[Answer, ...] = ()

    def then(self, transition: Callable[[Group], Step]) -> Step:
        """This step and, from the group it leads to, a further one."""
        assert self.group is not None
        after = transition(self.group)
        return Step(
            group=after.group, records=self.records + after.records, answers=self.answers + after.answers
        )


def _stored_member(member: Member, protocol: str | None) -> StoredMember:
    return StoredMember(
        member_id=member.member_id,
        instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        session_timeout_ms=member.session_timeout_ms,
        subscription=member.metadata(protocol),
        assignment=member.assignment,
    )
