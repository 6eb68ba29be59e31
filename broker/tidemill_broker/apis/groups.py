"""The group APIs: entities of every version to the coordinator's values and back.

FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup, ListGroups, DescribeGroups, DeleteGroups here;
the offsets of groups are in `group_offsets`. Decides nothing; GroupService does.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from tidemill_broker.apis.api import Api
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.group_offsets import APIS as OFFSET_APIS
from tidemill_broker.apis.request import Request, group_right
from tidemill_broker.apis.turns import Steps
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.coordinators.messages import (
    GroupDescription,
    JoinReply,
    JoinRequest,
    MemberIdentity,
    SyncReply,
    SyncRequest,
)
from tidemill_broker.protocol.errors import ErrorCode

GROUP_KEY, TRANSACTION_KEY = 0, 1
# The one code that every client takes as final for a transactional id (docs/decisions/0203).
COORDINATOR_ERRORS: Final = {
    TRANSACTION_KEY: ErrorCode.transactional_id_authorization_failed,
}
OPERATIONS_NOT_ASKED: Final = -(2**31)
# Of a JoinGroup: each is compared with those of every other member. (Kafka has no limit; clients send two.)
PROTOCOLS_MAX: Final = 1_000
# Members that leave between two turns: each copies its group, which may have 1,000.
LEAVING_AT_ONCE: Final = 100
# The part of a client id that a member id begins with; Kafka takes all of it.
CLIENT_ID_CHARACTERS: Final = 200


def find_coordinator(broker: Broker, request: Request) -> Steps[Any]:
    """FindCoordinator v0-6: this broker, for groups (KIP-699: v4+ ask for many)."""
    reply = request.reply
    key_type = getattr(request.body, "key_type", GROUP_KEY)
    if request.version < 4:  # noqa: PLR2004 - KIP-699
        return reply.FindCoordinatorResponse(**_coordinator(broker, request, key_type, request.body.key))
    coordinators = []
    for key in request.body.coordinator_keys:
        coordinators.append(reply.Coordinator(key=key, **_coordinator(broker, request, key_type, key)))
        yield
    return reply.FindCoordinatorResponse(coordinators=tuple(coordinators))


def _coordinator(broker: Broker, request: Request, key_type: int, key: str) -> dict[str, Any]:
    kinds = {GROUP_KEY: ResourceType.GROUP, TRANSACTION_KEY: ResourceType.TRANSACTIONAL_ID}
    error, message = ErrorCode.none, None
    if key_type in kinds:
        error = request.denial(Operation.DESCRIBE, kinds[key_type], key)
    if error is ErrorCode.none and key_type != GROUP_KEY:
        error = COORDINATOR_ERRORS.get(key_type, ErrorCode.invalid_request)
        message = "This broker has no transactions and no share groups yet."
    if error is not ErrorCode.none:
        return {"node_id": -1, "host": "", "port": -1, "error_code": error, "error_message": message}
    host, port = broker.advertised(request.connection.listener)
    return {"node_id": broker.node_id, "host": host, "port": port, "error_code": error, "error_message": None}


async def join_group(broker: Broker, request: Request) -> Any:
    """JoinGroup v0-9. v4: MEMBER_ID_REQUIRED (KIP-394); v5: static members; v9: the leader may skip."""
    session_ms = _ms(request.body.session_timeout)
    rebalance_ms = _ms(getattr(request.body, "rebalance_timeout", timedelta(0)))
    client_id = request.client_id or ""
    instance_id = getattr(request.body, "group_instance_id", None)
    error = _membership_denial(request, request.body.group_id)
    if error is not ErrorCode.none:
        return _joined(request, JoinReply(error=error, member_id=""))
    name = instance_id if instance_id is not None else client_id[:CLIENT_ID_CHARACTERS]
    answer = await broker.groups.join(
        JoinRequest(
            group_id=request.body.group_id,
            member_id=request.body.member_id,
            instance_id=instance_id,
            client_id=client_id,
            client_host=_host(request),
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms if rebalance_ms > 0 else session_ms,
            protocol_type=request.body.protocol_type,
            protocols=tuple((protocol.name, protocol.metadata) for protocol in request.body.protocols),
            fresh_member_id=f"{name}-{uuid4()}",
            knows_member_id_required=request.version >= 4,  # noqa: PLR2004 - KIP-394
            can_skip_assignment=request.version >= 9,  # noqa: PLR2004 - KIP-814
        )
    )
    return _joined(request, answer)


def _joined(request: Request, answer: JoinReply) -> Any:
    reply = request.reply
    protocol = answer.protocol
    if protocol is None and request.version < 7:  # noqa: PLR2004 - nullable since
        protocol = ""
    return reply.JoinGroupResponse(
        error_code=answer.error,
        generation_id=answer.generation,
        protocol_type=answer.protocol_type,
        protocol_name=protocol,
        leader=answer.leader,
        skip_assignment=answer.skip_assignment,
        member_id=answer.member_id,
        members=tuple(
            reply.JoinGroupResponseMember(
                member_id=member.member_id, group_instance_id=member.instance_id, metadata=member.metadata
            )
            for member in answer.members
        ),
    )


async def sync_group(broker: Broker, request: Request) -> Any:
    """SyncGroup v0-5. v5 says which protocol the member believes in (KIP-559)."""
    error = _membership_denial(request, request.body.group_id)
    if error is not ErrorCode.none:
        return _synced(request, SyncReply(error=error))
    answer = await broker.groups.sync(
        SyncRequest(
            group_id=request.body.group_id,
            member_id=request.body.member_id,
            instance_id=getattr(request.body, "group_instance_id", None),
            generation=request.body.generation_id,
            protocol_type=getattr(request.body, "protocol_type", None),
            protocol=getattr(request.body, "protocol_name", None),
            assignments={each.member_id: each.assignment for each in request.body.assignments},
        )
    )
    return _synced(request, answer)


def _synced(request: Request, answer: SyncReply) -> Any:
    return request.reply.SyncGroupResponse(
        error_code=answer.error,
        protocol_type=answer.protocol_type,
        protocol_name=answer.protocol,
        assignment=answer.assignment,
    )


def _membership_denial(request: Request, group_id: str) -> ErrorCode:
    """Return the denial of a member: Read on the group makes one."""
    return request.denial(Operation.READ, ResourceType.GROUP, group_id)


def heartbeat(broker: Broker, request: Request) -> Any:
    """Heartbeat v0-4."""
    error = _membership_denial(request, request.body.group_id)
    if error is ErrorCode.none:
        instance_id = getattr(request.body, "group_instance_id", None)
        error = broker.groups.heartbeat(
            request.body.group_id, request.body.member_id, instance_id, request.body.generation_id
        )
    return request.reply.HeartbeatResponse(error_code=error)


def leave_group(broker: Broker, request: Request) -> Steps[Any]:
    """LeaveGroup v0-5: one member, or many since v3 (KIP-345), each with its own error."""
    reply = request.reply
    denied = _membership_denial(request, request.body.group_id)
    if denied is not ErrorCode.none:
        return reply.LeaveGroupResponse(error_code=denied, members=())
    if request.version < 3:  # noqa: PLR2004 - a batch since
        one = MemberIdentity(member_id=request.body.member_id, instance_id=None)
        error, errors = broker.groups.leave(request.body.group_id, (one,))
        return reply.LeaveGroupResponse(error_code=errors[0] if error is ErrorCode.none else error)
    error, left = ErrorCode.none, []
    members = request.body.members
    # Also with none: then only the group's name is checked.
    for start in range(0, max(len(members), 1), LEAVING_AT_ONCE):
        identities = tuple(
            MemberIdentity(member_id=member.member_id, instance_id=member.group_instance_id)
            for member in members[start : start + LEAVING_AT_ONCE]
        )
        error, errors = broker.groups.leave(request.body.group_id, identities)
        left += [
            reply.MemberResponse(
                member_id=identity.member_id, group_instance_id=identity.instance_id, error_code=each
            )
            for identity, each in zip(identities, errors, strict=True)
        ]
        yield
    return reply.LeaveGroupResponse(error_code=error, members=tuple(left))


def list_groups(broker: Broker, request: Request) -> Steps[Any]:
    """ListGroups v0-5: filtered by state (KIP-518) and by type (KIP-848); all groups here are classic.

    With Describe on the cluster all groups are listed, else those that may be described.
    """
    reply = request.reply
    states = {state.lower() for state in getattr(request.body, "states_filter", ())}
    types = {kind.lower() for kind in getattr(request.body, "types_filter", ())}
    listed = broker.groups.coordinator.list_groups() if not types or "classic" in types else ()
    shows_all = request.may_describe(ResourceType.CLUSTER, CLUSTER_NAME)
    groups = []
    for group_id, protocol_type, state in listed:
        yield
        if states and state.lower() not in states:
            continue
        if shows_all or request.may_describe(ResourceType.GROUP, group_id):
            told = {"group_id": group_id, "protocol_type": protocol_type, "group_state": state}
            groups.append(reply.ListedGroup(**told, group_type="classic"))
    return reply.ListGroupsResponse(error_code=ErrorCode.none, groups=tuple(groups))


def describe_groups(broker: Broker, request: Request) -> Steps[Any]:
    """DescribeGroups v0-6: a group that is not there is Dead; v6 says GROUP_ID_NOT_FOUND (KIP-1043)."""
    tells_operations = getattr(request.body, "include_authorized_operations", False)
    groups = []
    # Once each, where Kafka answers each: a small request must not ask for a huge answer.
    for group_id in dict.fromkeys(request.body.groups):
        groups.append(_described(broker, request, group_id, tells_operations=tells_operations))
        yield
    return request.reply.DescribeGroupsResponse(groups=tuple(groups))


def delete_groups(broker: Broker, request: Request) -> Steps[Any]:
    """DeleteGroups v0-2: Empty groups with their offsets; each has its own error."""
    reply = request.reply
    results = []
    for group_id in request.body.groups_names:
        error = _deleted(broker, request, group_id)
        results.append(reply.DeletableGroupResult(group_id=group_id, error_code=error))
        yield
    return reply.DeleteGroupsResponse(results=tuple(results))


def _deleted(broker: Broker, request: Request, group_id: str) -> ErrorCode:
    denied = request.denial(Operation.DELETE, ResourceType.GROUP, group_id)
    return broker.groups.delete_group(group_id) if denied is ErrorCode.none else denied


def _described(broker: Broker, request: Request, group_id: str, *, tells_operations: bool) -> Any:
    reply = request.reply
    denied = request.denial(Operation.DESCRIBE, ResourceType.GROUP, group_id)
    if denied is not ErrorCode.none:
        return reply.DescribedGroup(
            error_code=denied,
            group_id=group_id,
            group_state="",
            protocol_type="",
            protocol_data="",
            members=(),
            authorized_operations=OPERATIONS_NOT_ASKED,
        )
    operations = OPERATIONS_NOT_ASKED
    if tells_operations:
        operations = request.operations(ResourceType.GROUP, group_id)
    group = broker.groups.coordinator.describe(group_id)
    error, message = ErrorCode.none, None
    if group is None:
        group = GroupDescription(group_id=group_id, state="Dead", protocol_type="", protocol="", members=())
        if request.version >= 6:  # noqa: PLR2004 - KIP-1043
            error, message = ErrorCode.group_id_not_found, f"Group {group_id} not found."
    return reply.DescribedGroup(
        error_code=error,
        error_message=message,
        group_id=group_id,
        group_state=group.state,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol,
        members=tuple(
            reply.DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata,
                member_assignment=member.assignment,
            )
            for member in group.members
        ),
        authorized_operations=operations,
    )


def _ms(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))


def _host(request: Request) -> str:
    """The client's address as Kafka's tools print it: a slash, no port."""
    return "/" + request.connection.peer.rpartition(":")[0]


APIS: Final = (
    Api(key=10, name="FindCoordinator", min_version=0, max_version=6, handle=find_coordinator),
    Api(
        key=11,
        name="JoinGroup",
        min_version=0,
        max_version=9,
        handle=join_group,
        right=group_right(Operation.READ),
        elements_max=PROTOCOLS_MAX,
    ),
    Api(key=12, name="Heartbeat", min_version=0, max_version=4, handle=heartbeat),
    Api(
        key=13,
        name="LeaveGroup",
        min_version=0,
        max_version=5,
        handle=leave_group,
        right=group_right(Operation.READ),
    ),
    Api(
        key=14,
        name="SyncGroup",
        min_version=0,
        max_version=5,
        handle=sync_group,
        right=group_right(Operation.READ),
    ),
    Api(key=15, name="DescribeGroups", min_version=0, max_version=6, handle=describe_groups),
    Api(key=16, name="ListGroups", min_version=0, max_version=5, handle=list_groups),
    Api(key=42, name="DeleteGroups", min_version=0, max_version=2, handle=delete_groups),
    *OFFSET_APIS,
)
