"""OffsetCommit, OffsetFetch, OffsetDelete: the offsets of groups, by topic name or (v10) by topic id.

Which topics exist is asked here, so that the coordinator need not know; the rest is GroupService's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from tidemill_broker.apis.api import Api
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.request import Request, group_right
from tidemill_broker.apis.turns import Steps
from tidemill_broker.auth.authorizer import Operation, ResourceType
from tidemill_broker.coordinators.membership import check_group_id
from tidemill_broker.coordinators.messages import CommitRequest, OffsetToCommit
from tidemill_broker.coordinators.records import NO_LEADER_EPOCH, OffsetCommitted
from tidemill_broker.log.topics import Topic, Topics
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.schema import ResponseSchema

NO_OFFSET: Final = -1
TOPIC_IDS_SINCE: Final = 10  # KIP-848's follow-up KIP-516 for OffsetCommit and OffsetFetch
MANY_GROUPS_SINCE: Final = 8  # KIP-709
TOP_LEVEL_ERROR_SINCE: Final = 2
# Positions of one commit, or of one deletion, between two turns. Kafka writes all of a request in one batch;
# here a member that is expelled between two has some committed, and an error for each that is not.
COMMITTED_AT_ONCE: Final = 1_000

Place = tuple[str, int]


def offset_commit(broker: Broker, request: Request) -> Steps[Any]:
    """OffsetCommit v2-10. Positions in topics that are not there, or not the client's, are rejected each.

    Deviation: the retention time of v2-4 is ignored; offsets.retention.minutes holds for all.
    """
    denied = request.denial(Operation.READ, ResourceType.GROUP, request.body.group_id)
    if denied is not ErrorCode.none:
        return (yield from _commit_response(request, defaultdict(lambda: denied)))
    errors: dict[Place, ErrorCode] = {}
    wanted: dict[Place, OffsetToCommit] = {}
    for asked in request.body.topics:
        yield
        topic = _topic(broker.topics, request, asked)
        denied = _topic_denial(request, Operation.READ, topic, asked)
        for partition in asked.partitions:
            yield
            place = (_key(asked), partition.partition_index)
            error = denied
            if error is ErrorCode.none:
                error = _existence(request, topic, partition.partition_index)
            if topic is None or error is not ErrorCode.none:
                errors[place] = error
            else:
                wanted[place] = _to_commit(topic, partition)
    places = list(wanted)
    # Also with none: then only the member is checked.
    for start in range(0, max(len(places), 1), COMMITTED_AT_ONCE):
        some = places[start : start + COMMITTED_AT_ONCE]
        of_group = broker.groups.commit(
            CommitRequest(
                group_id=request.body.group_id,
                member_id=request.body.member_id,
                instance_id=getattr(request.body, "group_instance_id", None),
                generation=request.body.generation_id_or_member_epoch,
                offsets=tuple(wanted[place] for place in some),
            )
        )
        errors |= dict(zip(some, of_group, strict=True))
        yield
    return (yield from _commit_response(request, errors))


def offset_fetch(broker: Broker, request: Request) -> Steps[Any]:
    """OffsetFetch v1-10. Null topics ask for all (v2+); many groups since v8. Nothing is unstable here.

    Null topics answer those that may be described; one that is named and may not is an error.
    """
    reply = request.reply
    if request.version >= MANY_GROUPS_SINCE:
        groups = []
        # Once each, as in DescribeGroups; which topics are asked for, the last tells.
        for group in {group.group_id: group for group in request.body.groups}.values():
            groups.append((yield from _fetched_group(broker, request, group)))
            yield
        return reply.OffsetFetchResponse(groups=tuple(groups))
    error = _fetch_error(request, request.body.group_id)
    topics = yield from _fetched_topics(broker, request, request.body.group_id, request.body.topics, error)
    if error is ErrorCode.group_authorization_failed and request.version >= TOP_LEVEL_ERROR_SINCE:
        topics = ()
    return reply.OffsetFetchResponse(topics=topics, error_code=error)


def _fetch_error(request: Request, group_id: str) -> ErrorCode:
    denied = request.denial(Operation.DESCRIBE, ResourceType.GROUP, group_id)
    return check_group_id(group_id) if denied is ErrorCode.none else denied


def offset_delete(broker: Broker, request: Request) -> Steps[Any]:
    """OffsetDelete v0: make a group forget topics that it does not read (KIP-496)."""
    reply = request.reply
    group_id = request.body.group_id
    error = request.denial(Operation.DELETE, ResourceType.GROUP, group_id)
    if error is ErrorCode.none:
        error = check_group_id(group_id)
    errors: dict[Place, ErrorCode] = {}
    if error is ErrorCode.none:
        errors = yield from _undeletable(broker, request)
        places = tuple(place for place in _places(request) if place not in errors)
        if places and broker.groups.coordinator.describe(group_id) is None:
            error = ErrorCode.group_id_not_found
        else:
            for start in range(0, len(places), COMMITTED_AT_ONCE):
                some = places[start : start + COMMITTED_AT_ONCE]
                errors |= dict(zip(some, broker.groups.delete_offsets(group_id, some), strict=True))
                yield
    if error is not ErrorCode.none:
        return reply.OffsetDeleteResponse(error_code=error, topics=())
    topics = []
    for topic in request.body.topics:
        partitions = []
        for partition in topic.partitions:
            error = errors[topic.name, partition.partition_index]
            partitions.append(
                reply.OffsetDeleteResponsePartition(
                    partition_index=partition.partition_index, error_code=error
                )
            )
            yield
        topics.append(reply.OffsetDeleteResponseTopic(name=topic.name, partitions=tuple(partitions)))
        yield
    return reply.OffsetDeleteResponse(error_code=ErrorCode.none, topics=tuple(topics))


def _places(request: Request) -> Iterator[Place]:
    for topic in request.body.topics:
        for partition in topic.partitions:
            yield topic.name, partition.partition_index


def _undeletable(broker: Broker, request: Request) -> Steps[dict[Place, ErrorCode]]:
    """Find what the client may not read, and what is not there."""
    errors: dict[Place, ErrorCode] = {}
    for asked in request.body.topics:
        topic = broker.topics.get(asked.name)
        error = _topic_denial(request, Operation.READ, topic, asked)
        if error is ErrorCode.none and topic is None:
            error = ErrorCode.unknown_topic_or_partition
        if error is not ErrorCode.none:
            errors |= {(asked.name, each.partition_index): error for each in asked.partitions}
        yield
    return errors


def _to_commit(topic: Topic, partition: Any) -> OffsetToCommit:
    return OffsetToCommit(
        topic=topic.name,
        partition=partition.partition_index,
        offset=partition.committed_offset,
        leader_epoch=getattr(partition, "committed_leader_epoch", NO_LEADER_EPOCH),
        metadata=partition.committed_metadata or "",
    )


def _commit_response(request: Request, errors: Mapping[Place, ErrorCode]) -> Steps[Any]:
    """Answer every partition of the request, in its order."""
    reply = request.reply
    topics = []
    for asked in request.body.topics:
        partitions = []
        for partition in asked.partitions:
            error = errors[_key(asked), partition.partition_index]
            partitions.append(
                reply.OffsetCommitResponsePartition(
                    partition_index=partition.partition_index, error_code=error
                )
            )
            yield
        topics.append(
            reply.OffsetCommitResponseTopic(partitions=tuple(partitions), **_reference(request, asked))
        )
        yield
    return reply.OffsetCommitResponse(topics=tuple(topics))


def _fetched_group(broker: Broker, request: Request, group: Any) -> Steps[Any]:
    reply = request.reply
    error = _fetch_error(request, group.group_id)
    topics: tuple[Any, ...] = ()
    if error is ErrorCode.none:
        topics = yield from _fetched_topics(broker, request, group.group_id, group.topics, error)
    return reply.OffsetFetchResponseGroup(group_id=group.group_id, topics=topics, error_code=error)


def _fetched_topics(
    broker: Broker,
    request: Request,
    group_id: str,
    topics: Sequence[Any] | None,
    error: ErrorCode,
) -> Steps[tuple[Any, ...]]:
    held = broker.groups.coordinator.committed(group_id)
    reply = request.reply
    suffix = "s" if request.version >= MANY_GROUPS_SINCE else ""
    make_topic = getattr(reply, f"OffsetFetchResponseTopic{suffix}")
    answer = []
    if topics is None:
        for name, indexes in _by_topic(broker.topics, request, held).items():
            yield
            if request.may_describe(ResourceType.TOPIC, name):
                partitions = yield from _fetched_partitions(reply, request, name, indexes, held, error)
                answer.append(make_topic(partitions=partitions, **_named(broker.topics, request, name)))
        return tuple(answer)
    for asked in topics:
        topic = _topic(broker.topics, request, asked)
        name = topic.name if topic is not None else getattr(asked, "name", "")
        by_id_unknown = topic is None and request.version >= TOPIC_IDS_SINCE
        own_error = ErrorCode.unknown_topic_id if by_id_unknown else error
        if own_error is ErrorCode.none:
            own_error = _topic_denial(request, Operation.DESCRIBE, topic, asked)
        partitions = yield from _fetched_partitions(
            reply, request, name, asked.partition_indexes, held, own_error
        )
        answer.append(make_topic(partitions=partitions, **_reference(request, asked)))
        yield
    return tuple(answer)


def _fetched_partitions(
    reply: ResponseSchema,
    request: Request,
    topic: str,
    indexes: Iterable[int],
    held: Mapping[Place, OffsetCommitted],
    error: ErrorCode,
) -> Steps[tuple[Any, ...]]:
    suffix = "s" if request.version >= MANY_GROUPS_SINCE else ""
    make_partition = getattr(reply, f"OffsetFetchResponsePartition{suffix}")
    partitions = []
    for index in indexes:
        found = held.get((topic, index)) if error is ErrorCode.none else None
        partitions.append(
            make_partition(
                partition_index=index,
                committed_offset=NO_OFFSET if found is None else found.offset,
                committed_leader_epoch=NO_LEADER_EPOCH if found is None else found.leader_epoch,
                metadata="" if found is None else found.metadata,
                error_code=error,
            )
        )
        yield
    return tuple(partitions)


def _by_topic(
    topics: Topics, request: Request, held: Mapping[Place, OffsetCommitted]
) -> Mapping[str, list[int]]:
    """A group's partitions by topic; where topics go by id, without those that are not there any more."""
    grouped: dict[str, list[int]] = {}
    for name, index in sorted(held):
        if request.version < TOPIC_IDS_SINCE or topics.get(name) is not None:
            grouped.setdefault(name, []).append(index)
    return grouped


def _topic(topics: Topics, request: Request, asked: Any) -> Topic | None:
    if request.version >= TOPIC_IDS_SINCE:
        return topics.by_id(asked.topic_id) if asked.topic_id is not None else None
    return topics.get(asked.name)


def _topic_denial(request: Request, operation: Operation, topic: Topic | None, asked: Any) -> ErrorCode:
    """Tell whether a topic is denied, whether or not it exists; an unknown id has no name to ask about."""
    name = topic.name if topic is not None else getattr(asked, "name", None)
    if name is None:
        return ErrorCode.none
    return request.denial(operation, ResourceType.TOPIC, name)


def _existence(request: Request, topic: Topic | None, index: int) -> ErrorCode:
    if topic is None:
        by_id = request.version >= TOPIC_IDS_SINCE
        return ErrorCode.unknown_topic_id if by_id else ErrorCode.unknown_topic_or_partition
    exists = 0 <= index < len(topic.partitions)
    return ErrorCode.none if exists else ErrorCode.unknown_topic_or_partition


def _key(asked: Any) -> str:
    """How the request itself tells its topics apart."""
    return str(getattr(asked, "name", None) or getattr(asked, "topic_id", ""))


def _reference(request: Request, asked: Any) -> dict[str, object]:
    """The member of a reply that says which topic is meant, as the request said it."""
    return {"topic_id": asked.topic_id} if request.version >= TOPIC_IDS_SINCE else {"name": asked.name}


def _named(topics: Topics, request: Request, name: str) -> dict[str, object]:
    topic = topics.get(name)
    if request.version >= TOPIC_IDS_SINCE and topic is not None:
        return {"topic_id": topic.topic_id}
    return {"name": name}


APIS: Final = (
    Api(
        key=8,
        name="OffsetCommit",
        min_version=2,
        max_version=10,
        handle=offset_commit,
        right=group_right(Operation.READ),
    ),
    Api(
        key=9,
        name="OffsetFetch",
        min_version=1,
        max_version=10,
        handle=offset_fetch,
        right=group_right(Operation.DESCRIBE, many_since=MANY_GROUPS_SINCE),
    ),
    Api(
        key=47,
        name="OffsetDelete",
        min_version=0,
        max_version=0,
        handle=offset_delete,
        right=group_right(Operation.DELETE),
    ),
)
