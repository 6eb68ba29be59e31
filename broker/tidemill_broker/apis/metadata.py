"""Metadata 0-13 and DescribeTopicPartitions 0: which topics there are, and where their partitions lie.

Null topics mean all (an empty list in v0), empty means none. Ids are answered from v10 and accepted from v12.
A topic that is created on demand is answered at once with its partitions; Kafka answers
UNKNOWN_TOPIC_OR_PARTITION first and the client asks again. A client that may not describe a topic never
learns that there is one of this name.
"""

from collections.abc import Sequence
from typing import Any, Final

from tidemill_broker.apis.api import Api, Rejected
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.cluster import NOT_ASKED, cluster_operations, replicas
from tidemill_broker.apis.rejections import rejecting
from tidemill_broker.apis.request import Request
from tidemill_broker.apis.topics import create_by_name
from tidemill_broker.apis.turns import Steps
from tidemill_broker.auth.authorizer import Operation, ResourceType
from tidemill_broker.log.topics import Topic, validate_topic_name
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.schema import ResponseSchema

ASKS_BY_ID_FROM: Final = 12
# One Metadata request may create so many topics, so that it cannot hold up other requests for long; a client
# that wants more asks again, as it does for any topic that is not there yet.
AUTO_CREATED_PER_REQUEST_MAX: Final = 100


def metadata(broker: Broker, request: Request) -> Steps[Any]:
    """Answer Metadata."""
    reply = request.reply
    topics = _Topics(broker, request, reply)
    described = yield from topics.asked(request.version, request.body.topics)
    host, port = broker.advertised(request.connection.listener)
    return reply.MetadataResponse(
        brokers=(reply.MetadataResponseBroker(node_id=broker.node_id, host=host, port=port),),
        cluster_id=broker.cluster_id,
        controller_id=broker.node_id,
        topics=tuple(described),
        cluster_authorized_operations=(
            cluster_operations(request)
            if getattr(request.body, "include_cluster_authorized_operations", False)
            else NOT_ASKED
        ),
        error_code=ErrorCode.none,
    )


class _Topics:
    """One answer's topics: finds or creates them, and describes each."""

    def __init__(self, broker: Broker, request: Request, reply: ResponseSchema) -> None:
        self._broker = broker
        self._request = request
        self._reply = reply
        may_create = getattr(request.body, "allow_auto_topic_creation", True)
        self._creatable = AUTO_CREATED_PER_REQUEST_MAX if may_create else 0
        self._tells_operations = getattr(request.body, "include_topic_authorized_operations", False)

    def asked(self, version: int, topics: Sequence[Any] | None) -> Steps[Sequence[Any]]:
        """Describe what is asked for, in the order of the request."""
        described = []
        if topics is None or (version == 0 and not topics):
            for topic in self._broker.topics.all():
                if self._shows(topic):
                    described.append(self._known(topic))
                yield
            return described
        # Once each, as in Kafka: a small request must not ask for a huge answer.
        for asked in dict.fromkeys(topics):
            described.append((yield from self._asked(version, asked)))
            yield
        return described

    def _asked(self, version: int, topic: Any) -> Steps[Any]:
        topic_id = getattr(topic, "topic_id", None)
        if version < ASKS_BY_ID_FROM and (topic_id is not None or topic.name is None):
            # v10 and v11 have the field in their requests, but must not use it (KAFKA-12701).
            return self._unknown(ErrorCode.invalid_request, topic.name or "", topic_id)
        if topic_id is not None:
            return self._by_id(topic_id)
        try:
            self._authorize(Operation.DESCRIBE, topic.name or "")
            return self._known((yield from self._found_or_created(topic.name or "")))
        except Rejected as rejected:
            hidden = rejected.code is ErrorCode.topic_authorization_failed
            operations = NOT_ASKED if hidden else self._operations(topic.name or "")
            return self._unknown(rejected.code, topic.name, None, operations)

    def _by_id(self, topic_id: Any) -> Any:
        found = self._broker.topics.by_id(topic_id)
        if found is None:
            return self._unknown(ErrorCode.unknown_topic_id, None, topic_id)
        try:
            self._authorize(Operation.DESCRIBE, found.name)
        except Rejected as rejected:
            return self._unknown(rejected.code, None, topic_id)
        return self._known(found)

    def _found_or_created(self, name: str) -> Steps[Topic]:
        found = self._broker.topics.get(name)
        if found is not None:
            return found
        creatable = self._creatable and self._broker.settings.auto_create_topics_enable
        if creatable and not self._request.may_create_any():
            self._authorize(Operation.CREATE, name)
        with rejecting():
            validate_topic_name(name)
        if not creatable:
            raise Rejected(ErrorCode.unknown_topic_or_partition)
        self._creatable -= 1
        return (yield from create_by_name(self._broker, name))

    def _shows(self, topic: Topic) -> bool:
        return self._request.may_describe(ResourceType.TOPIC, topic.name)

    def _authorize(self, operation: Operation, name: str) -> None:
        self._request.authorize(operation, ResourceType.TOPIC, name)

    def _known(self, topic: Topic) -> Any:
        return self._reply.MetadataResponseTopic(
            error_code=ErrorCode.none,
            name=topic.name,
            topic_id=topic.topic_id,
            is_internal=topic.internal,
            partitions=_partitions(self._broker, topic, self._reply.MetadataResponsePartition),
            topic_authorized_operations=self._operations(topic.name),
        )

    def _unknown(self, error: ErrorCode, name: str | None, topic_id: Any, operations: int = NOT_ASKED) -> Any:
        return self._reply.MetadataResponseTopic(
            error_code=error,
            name=name,
            topic_id=topic_id,
            partitions=(),
            topic_authorized_operations=operations,
        )

    def _operations(self, name: str) -> int:
        if not self._tells_operations:
            return NOT_ASKED
        return self._request.operations(ResourceType.TOPIC, name)


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


def describe_topic_partitions(broker: Broker, request: Request) -> Steps[Any]:
    """Answer DescribeTopicPartitions: sorted by name, a page at a time (KIP-966).

    Topics that may not be described count for no page; where they were named they stand behind all others.
    A page that begins inside a topic goes on at the cursor's partition; one that ends inside one says where.
    """
    reply = request.reply
    left = max(
        1, min(request.body.response_partition_limit, broker.settings.max_request_partition_size_limit)
    )
    start, first = (
        ("", 0)
        if request.body.cursor is None
        else (request.body.cursor.topic_name, request.body.cursor.partition_index)
    )
    names, hidden = yield from _names_from(broker, request, start)
    described: list[Any] = []
    cursor = None
    for name in names:
        yield
        topic = broker.topics.get(name)
        if topic is None:
            described.append(_undescribed(request, reply, name))
            continue
        skipped = max(0, first) if name == start else 0
        if left == 0:
            cursor = reply.Cursor(topic_name=name, partition_index=0)
            break
        described.append(_described(broker, request, reply, topic, skipped, left))
        taken = len(described[-1].partitions)
        left -= taken
        if skipped + taken < len(topic.partitions):
            cursor = reply.Cursor(topic_name=name, partition_index=skipped + taken)
            break
    for name in hidden:
        described.append(_error(reply, name, ErrorCode.topic_authorization_failed))
        yield
    return reply.DescribeTopicPartitionsResponse(topics=tuple(described), next_cursor=cursor)


def _names_from(broker: Broker, request: Request, start: str) -> Steps[tuple[list[str], list[str]]]:
    """List what may be described, and what is named though it may not."""
    shown: list[str] = []
    hidden: list[str] = []
    if not request.body.topics:
        every = [topic.name for topic in broker.topics.all() if topic.name >= start]
        for name in every:
            if request.may_describe(ResourceType.TOPIC, name):
                shown.append(name)
            yield
        return shown, []
    for name in sorted({topic.name for topic in request.body.topics if topic.name >= start}):
        denied = request.denial(Operation.DESCRIBE, ResourceType.TOPIC, name)
        (shown if denied is ErrorCode.none else hidden).append(name)
        yield
    return shown, hidden


def _described(
    broker: Broker, request: Request, reply: ResponseSchema, topic: Topic, first: int, count: int
) -> Any:
    build = reply.DescribeTopicPartitionsResponsePartition
    return reply.DescribeTopicPartitionsResponseTopic(
        error_code=ErrorCode.none,
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.internal,
        partitions=_partitions(broker, topic, build, first=first, count=count),
        topic_authorized_operations=request.operations(ResourceType.TOPIC, topic.name),
    )


def _undescribed(request: Request, reply: ResponseSchema, name: str) -> Any:
    try:
        with rejecting():
            validate_topic_name(name)
    except Rejected as rejected:
        error = rejected.code
    else:
        error = ErrorCode.unknown_topic_or_partition
    return _error(reply, name, error, request.operations(ResourceType.TOPIC, name))


def _error(reply: ResponseSchema, name: str, error: ErrorCode, operations: int = NOT_ASKED) -> Any:
    return reply.DescribeTopicPartitionsResponseTopic(
        error_code=error, name=name, topic_id=None, partitions=(), topic_authorized_operations=operations
    )


APIS: Final = (
    Api(key=3, name="Metadata", min_version=0, max_version=13, handle=metadata),
    Api(
        key=75, name="DescribeTopicPartitions", min_version=0, max_version=0, handle=describe_topic_partitions
    ),
)
