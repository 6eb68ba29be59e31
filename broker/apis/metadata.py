"""Metadata 0-13 and DescribeTopicPartitions 0: which topics there are, and where their partitions lie.

Null topics mean all (an empty list in v0), empty means none. Ids are answered from v10 and accepted from v12.
A topic that is created because somebody asked for it is answered at once with its partitions; Kafka answers
UNKNOWN_TOPIC_OR_PARTITION first and the client asks again. Every right is told; nothing is authorized yet.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from broker.apis.api import Api, Refused
from broker.apis.broker import Broker, Connection
from broker.apis.cluster import CLUSTER_OPERATIONS, NOT_ASKED, TOPIC_OPERATIONS, replicas
from broker.apis.refusals import refusing
from broker.apis.topics import create_by_name
from broker.log.topics import Topic, validate_topic_name
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader
from broker.protocol.schema import ResponseSchema, response_schema

ASKS_BY_ID_FROM: Final = 12
# One Metadata request may create so many topics, so that it cannot hold up everybody else for long; a client
# that wants more asks again, as it does for any topic that is not there yet.
AUTO_CREATED_PER_REQUEST_MAX: Final = 100


def metadata(broker: Broker, connection: Connection, header: RequestHeader, request: Any) -> Any:
    """Answer Metadata."""
    reply = response_schema(header)
    topics = _Topics(broker, reply, request)
    host, port = broker.advertised(connection.listener)
    return reply.MetadataResponse(
        brokers=(reply.MetadataResponseBroker(node_id=broker.node_id, host=host, port=port),),
        cluster_id=broker.cluster_id,
        controller_id=broker.node_id,
        topics=tuple(topics.asked(header.api_version, request.topics)),
        cluster_authorized_operations=(
            CLUSTER_OPERATIONS
            if getattr(request, "include_cluster_authorized_operations", False)
            else NOT_ASKED
        ),
        error_code=ErrorCode.none,
    )


class _Topics:
    """One answer's topics: finds or creates them, and describes each."""

    def __init__(self, broker: Broker, reply: ResponseSchema, request: Any) -> None:
        self._broker = broker
        self._reply = reply
        may_create = getattr(request, "allow_auto_topic_creation", True)
        self._creatable = AUTO_CREATED_PER_REQUEST_MAX if may_create else 0
        rights = getattr(request, "include_topic_authorized_operations", False)
        self._operations = TOPIC_OPERATIONS if rights else NOT_ASKED

    def asked(self, version: int, topics: Sequence[Any] | None) -> Iterable[Any]:
        """Describe what is asked for, in the order of the request."""
        if topics is None or (version == 0 and not topics):
            return [self._known(topic) for topic in self._broker.topics.all()]
        # Once each, as in Kafka: a small request must not ask for a huge answer.
        return [self._asked(version, topic) for topic in dict.fromkeys(topics)]

    def _asked(self, version: int, topic: Any) -> Any:
        topic_id = getattr(topic, "topic_id", None)
        if version < ASKS_BY_ID_FROM and (topic_id is not None or topic.name is None):
            # v10 and v11 have the field in their requests, but nobody may use it (KAFKA-12701).
            return self._unknown(ErrorCode.invalid_request, topic.name or "", topic_id)
        if topic_id is not None:
            found = self._broker.topics.by_id(topic_id)
            return self._known(found) if found else self._unknown(ErrorCode.unknown_topic_id, None, topic_id)
        try:
            return self._known(self._found_or_created(topic.name or ""))
        except Refused as refused:
            return self._unknown(refused.code, topic.name, None)

    def _found_or_created(self, name: str) -> Topic:
        found = self._broker.topics.get(name)
        if found is not None:
            return found
        with refusing():
            validate_topic_name(name)
        if not (self._creatable and self._broker.settings.auto_create_topics_enable):
            raise Refused(ErrorCode.unknown_topic_or_partition)
        self._creatable -= 1
        return create_by_name(self._broker, name)

    def _known(self, topic: Topic) -> Any:
        return self._reply.MetadataResponseTopic(
            error_code=ErrorCode.none,
            name=topic.name,
            topic_id=topic.topic_id,
            is_internal=topic.internal,
            partitions=_partitions(self._broker, topic, self._reply.MetadataResponsePartition),
            topic_authorized_operations=self._operations,
        )

    def _unknown(self, error: ErrorCode, name: str | None, topic_id: Any) -> Any:
        return self._reply.MetadataResponseTopic(
            error_code=error, name=name, topic_id=topic_id, partitions=()
        )


def _partitions(
    broker: Broker, topic: Topic, build: Any, *, first: int = 0, count: int | None = None
) -> tuple[Any, ...]:
    nodes = replicas(broker, topic)
    last = None if count is None else first + count
    return tuple(
        build(
            error_code=ErrorCode.none,
            partition_index=partition.index,
            leader_id=broker.node_id,
            leader_epoch=partition.leader_epoch,
            replica_nodes=nodes,
            isr_nodes=nodes,
            # DescribeTopicPartitions only. Null would be legal, and Java's admin client falls over it.
            eligible_leader_replicas=(),
            last_known_elr=(),
        )
        for partition in topic.partitions[first:last]
    )


def describe_topic_partitions(
    broker: Broker, _connection: Connection, header: RequestHeader, request: Any
) -> Any:
    """Answer DescribeTopicPartitions: sorted by name, a page at a time (KIP-966).

    A page that begins inside a topic goes on at the cursor's partition; one that ends inside one says where.
    """
    reply = response_schema(header)
    left = max(1, min(request.response_partition_limit, broker.settings.max_request_partition_size_limit))
    start, first = (
        ("", 0) if request.cursor is None else (request.cursor.topic_name, request.cursor.partition_index)
    )
    described: list[Any] = []
    for name in _names_from(broker, request, start):
        topic = broker.topics.get(name)
        if topic is None:
            described.append(_undescribed(reply, name))
            continue
        skipped = max(0, first) if name == start else 0
        if left == 0:
            break
        described.append(_described(broker, reply, topic, skipped, left))
        taken = len(described[-1].partitions)
        left -= taken
        if skipped + taken < len(topic.partitions):
            cursor = reply.Cursor(topic_name=name, partition_index=skipped + taken)
            return reply.DescribeTopicPartitionsResponse(topics=tuple(described), next_cursor=cursor)
    else:
        return reply.DescribeTopicPartitionsResponse(topics=tuple(described), next_cursor=None)
    cursor = reply.Cursor(topic_name=name, partition_index=0)
    return reply.DescribeTopicPartitionsResponse(topics=tuple(described), next_cursor=cursor)


def _names_from(broker: Broker, request: Any, start: str) -> list[str]:
    if request.topics:
        names: Iterable[str] = {topic.name for topic in request.topics}
    else:
        names = (topic.name for topic in broker.topics.all())
    return sorted(name for name in names if name >= start)


def _described(broker: Broker, reply: ResponseSchema, topic: Topic, first: int, count: int) -> Any:
    build = reply.DescribeTopicPartitionsResponsePartition
    return reply.DescribeTopicPartitionsResponseTopic(
        error_code=ErrorCode.none,
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.internal,
        partitions=_partitions(broker, topic, build, first=first, count=count),
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _undescribed(reply: ResponseSchema, name: str) -> Any:
    try:
        with refusing():
            validate_topic_name(name)
    except Refused as refused:
        error = refused.code
    else:
        error = ErrorCode.unknown_topic_or_partition
    return reply.DescribeTopicPartitionsResponseTopic(
        error_code=error, name=name, topic_id=None, partitions=()
    )


APIS: Final = (
    Api(key=3, name="Metadata", min_version=0, max_version=13, handle=metadata),
    Api(
        key=75, name="DescribeTopicPartitions", min_version=0, max_version=0, handle=describe_topic_partitions
    ),
)
