"""What the group handlers are asked and what they answer: values without a wire version.

`tidemill_broker.apis.groups` turns the entities of every API version into these and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NewType

from tidemill_broker.protocol.errors import ErrorCode

NO_GENERATION: Final = -1

# Names one waiting JoinGroup or SyncGroup; the shell makes it up and keeps who waits behind it.
Ticket = NewType("Ticket", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """A member asks to be in the next generation.

    `protocols` are (name, metadata) in the member's order of preference. `fresh_member_id` is the id it
    gets if it has none. `knows_member_id_required` (v4+, KIP-394) and `can_skip_assignment` (v9+, KIP-814)
    are what the request's version lets the client understand.
    """

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    fresh_member_id: str
    knows_member_id_required: bool
    can_skip_assignment: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedMember:
    """A member as the leader sees it: metadata is that of the chosen protocol."""

    member_id: str
    instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinReply:
    """`members` is empty for all but the leader, who assigns."""

    error: ErrorCode = ErrorCode.none
    member_id: str
    generation: int = NO_GENERATION
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    skip_assignment: bool = False
    members: tuple[JoinedMember, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    """A member fetches its assignment; the leader brings everyone's. Protocol fields are None below v5."""

    group_id: str
    member_id: str
    instance_id: str | None
    generation: int
    protocol_type: str | None
    protocol: str | None
    assignments: dict[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReply:
    """`assignment` is what the leader gave this member, opaque to the broker."""

    error: ErrorCode = ErrorCode.none
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberIdentity:
    """One who leaves: by member id, or by instance id alone (an administrator removes a static member)."""

    member_id: str
    instance_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetToCommit:
    """One partition of an OffsetCommit."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int
    metadata: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """Generation -1 without a member id commits from outside the group, as administrators do."""

    group_id: str
    member_id: str
    instance_id: str | None
    generation: int
    offsets: tuple[OffsetToCommit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberDescription:
    """A member as DescribeGroups shows it."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDescription:
    """A group as DescribeGroups and ListGroups show it."""

    group_id: str
    state: str
    protocol_type: str
    protocol: str
    members: tuple[MemberDescription, ...]
