"""CreateTopics 2-7, DeleteTopics 1-6, CreatePartitions 0-3, and the topics that Metadata creates.

Everything is done when the reply is sent, so timeouts are never waited for. Replica assignments are checked
and counted, not kept: one node holds all data (docs/decisions/0201).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tidemill_broker.apis.api import Api, Rejected
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.configs import Entry, topic_entries
from tidemill_broker.apis.rejections import reject_repeated, rejecting, topic_named
from tidemill_broker.apis.request import Request
from tidemill_broker.apis.turns import Steps
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.log import configs as topic_configs
from tidemill_broker.log.topics import Topic
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.schema import ResponseSchema

USE_DEFAULT: Final = -1
# As many brokers as one MSK KRaft cluster may have; a longer replica list could not come from a real cluster.
REPLICATION_FACTOR_MAX: Final = 60
# Each partition is a few files made and flushed while all other requests wait; this many take about a second.
PARTITIONS_PER_REQUEST_MAX: Final = 1000
# The group coordinator's log; deleting or widening it would lose every group's offsets.
OFFSETS_TOPIC: Final = "__consumer_offsets"
RESERVED: Final = ("__cluster_metadata", OFFSETS_TOPIC, "__transaction_state", "__share_group_state")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a topic will be, with the defaults filled in."""

    name: str
    partitions: int
    replication_factor: int
    configs: dict[str, str]


def create_by_name(broker: Broker, name: str) -> Steps[Topic]:
    """Create a topic with the broker's defaults, as Metadata does. Raises Rejected."""
    if name in RESERVED:
        raise Rejected(ErrorCode.unknown_topic_or_partition)
    plan = _Plan(
        name=name,
        partitions=broker.settings.num_partitions,
        replication_factor=broker.settings.default_replication_factor,
        configs={},
    )
    _check(broker, plan)
    return (yield from _create(broker, plan))


def create_topics(broker: Broker, request: Request) -> Steps[Any]:
    """Answer CreateTopics; each topic stands for itself."""
    reply = request.reply
    times = Counter(topic.name for topic in request.body.topics)
    left = PARTITIONS_PER_REQUEST_MAX
    results = []
    for topic in request.body.topics:
        try:
            reject_repeated(times, topic.name, "topic")
            if not request.may_create_any():
                request.authorize(Operation.CREATE, ResourceType.TOPIC, topic.name)
            plan = _planned(broker, topic)
            left = _spend(left, plan.partitions)
            _check(broker, plan)
            created = None if request.body.validate_only else (yield from _create(broker, plan))
            results.append(_created(broker, request, reply, plan, created))
        except Rejected as rejected:
            results.append(_not_created(reply, topic.name, rejected))
        yield
    return reply.CreateTopicsResponse(topics=tuple(results))


def delete_topics(broker: Broker, request: Request) -> Steps[Any]:
    """Answer DeleteTopics, by name or (v6) by id."""
    reply = request.reply
    if hasattr(request.body, "topics"):
        asked = [(topic.name, topic.topic_id) for topic in request.body.topics]
    else:
        asked = [(name, None) for name in request.body.topic_names]
    times = Counter(asked)
    results = []
    for name, topic_id in asked:
        result: dict[str, Any] = {"name": name, "topic_id": topic_id}
        try:
            reject_repeated(times, (name, topic_id), "topic")
            topic = _to_delete(broker, request, name, topic_id)
            result = {"name": topic.name, "topic_id": topic.topic_id}
            _authorize_deletion(request, topic)
            with rejecting():
                yield from broker.topics.delete_in_turns(topic.name)
            broker.groups.forget_topics((topic.name,))
            results.append(reply.DeletableTopicResult(error_code=ErrorCode.none, **result))
        except Rejected as rejected:
            error = {"error_code": rejected.code, "error_message": rejected.message}
            results.append(reply.DeletableTopicResult(**result, **error))
        yield
    return reply.DeleteTopicsResponse(responses=tuple(results))


def create_partitions(broker: Broker, request: Request) -> Steps[Any]:
    """Answer CreatePartitions."""
    reply = request.reply
    times = Counter(topic.name for topic in request.body.topics)
    left = PARTITIONS_PER_REQUEST_MAX
    results = []
    for wanted in request.body.topics:
        code, message = ErrorCode.none, None
        try:
            reject_repeated(times, wanted.name, "topic")
            request.authorize(Operation.ALTER, ResourceType.TOPIC, wanted.name)
            topic = topic_named(broker, wanted.name)
            with rejecting():
                broker.topics.check_add_partitions(topic.name, wanted.count)
            _check_added(topic, wanted)
            left = _spend(left, wanted.count - len(topic.partitions))
            if not request.body.validate_only:
                with rejecting():
                    yield from broker.topics.add_partitions_in_turns(topic.name, wanted.count)
        except Rejected as rejected:
            code, message = rejected.code, rejected.message
        results.append(
            reply.CreatePartitionsTopicResult(name=wanted.name, error_code=code, error_message=message)
        )
        yield
    return reply.CreatePartitionsResponse(results=tuple(results))


def _planned(broker: Broker, topic: Any) -> _Plan:
    """Fill in the defaults; reject numbers that cannot be, in Kafka's words (ReplicationControlManager)."""
    configs = {config.name: config.value for config in topic.configs}
    for name, value in configs.items():
        if value is None:
            raise Rejected(ErrorCode.invalid_config, f"Null value not supported for topic configs: {name}")
    if topic.assignments:
        partitions, factor = _assigned(topic)
    else:
        partitions, factor = topic.num_partitions, topic.replication_factor
    if partitions < USE_DEFAULT or partitions == 0:
        raise Rejected(
            ErrorCode.invalid_partitions, "Number of partitions was set to an invalid non-positive value."
        )
    if factor < USE_DEFAULT or factor == 0:
        raise Rejected(
            ErrorCode.invalid_replication_factor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if factor > REPLICATION_FACTOR_MAX:
        raise Rejected(
            ErrorCode.invalid_replication_factor,
            f"Replication factor must be at most {REPLICATION_FACTOR_MAX}.",
        )
    return _Plan(
        name=topic.name,
        partitions=broker.settings.num_partitions if partitions == USE_DEFAULT else partitions,
        replication_factor=broker.settings.default_replication_factor if factor == USE_DEFAULT else factor,
        configs=configs,
    )


def _assigned(topic: Any) -> tuple[int, int]:
    """Count the partitions and replicas of a manual assignment."""
    for number, meaning in (
        (topic.num_partitions, "num_partitions"),
        (topic.replication_factor, "replication factor"),
    ):
        if number != USE_DEFAULT:
            raise Rejected(
                ErrorCode.invalid_request,
                f"A manual partition assignment was specified, but {meaning} was not set to -1.",
            )
    if sorted(each.partition_index for each in topic.assignments) != list(range(len(topic.assignments))):
        raise Rejected(
            ErrorCode.invalid_replica_assignment,
            "Partitions should be a consecutive 0-based integer sequence.",
        )
    return len(topic.assignments), _replica_count([each.broker_ids for each in topic.assignments])


def _replica_count(assignments: Sequence[Sequence[int]]) -> int:
    counts = {len(broker_ids) for broker_ids in assignments}
    if 0 in counts or any(len(set(broker_ids)) < len(broker_ids) for broker_ids in assignments):
        raise Rejected(
            ErrorCode.invalid_replica_assignment,
            "Each partition needs at least one replica, and each only once.",
        )
    if len(counts) > 1:
        raise Rejected(
            ErrorCode.invalid_replica_assignment, "All partitions must have the same number of replicas."
        )
    return counts.pop()


def _spend(left: int, partitions: int) -> int:
    if partitions > left:
        raise Rejected(
            ErrorCode.policy_violation,
            f"One request may add at most {PARTITIONS_PER_REQUEST_MAX} partitions; send several.",
        )
    return left - partitions


def _check(broker: Broker, plan: _Plan) -> None:
    if plan.name in RESERVED:
        raise Rejected(ErrorCode.invalid_request, f"Topic '{plan.name}' belongs to the broker.")
    with rejecting():
        topic_configs.validate_for_clients(plan.configs, {})
        broker.topics.check_create(plan.name, partitions=plan.partitions, configs=plan.configs)
    # Kafka's metric names cannot tell "." from "_" (Topic.hasCollision).
    alike = plan.name.replace(".", "_")
    for topic in broker.topics.all():
        if topic.name.replace(".", "_") == alike:
            raise Rejected(
                ErrorCode.invalid_topic_exception,
                f"Topic '{plan.name}' collides with existing topic: {topic.name}",
            )


def _create(broker: Broker, plan: _Plan) -> Steps[Topic]:
    with rejecting():
        return (
            yield from broker.topics.create_in_turns(
                plan.name,
                partitions=plan.partitions,
                replication_factor=plan.replication_factor,
                configs=plan.configs,
            )
        )


def _created(
    broker: Broker, request: Request, reply: ResponseSchema, plan: _Plan, topic: Topic | None
) -> Any:
    made = {
        "name": plan.name,
        "topic_id": topic.topic_id if topic else None,
        "error_code": ErrorCode.none,
        "error_message": None,
    }
    tells = request.allows(Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, plan.name, audited=False)
    if not tells:
        return reply.CreatableTopicResult(
            **made, topic_config_error_code=ErrorCode.topic_authorization_failed, configs=()
        )
    entries = topic_entries(broker, plan.configs)
    return reply.CreatableTopicResult(
        **made,
        num_partitions=plan.partitions,
        replication_factor=plan.replication_factor,
        configs=tuple(_config(reply, entry) for entry in entries),
    )


def _config(reply: ResponseSchema, entry: Entry) -> Any:
    return reply.CreatableTopicConfigs(
        name=entry.name, value=entry.value, read_only=False, config_source=entry.source, is_sensitive=False
    )


def _not_created(reply: ResponseSchema, name: str, rejected: Rejected) -> Any:
    return reply.CreatableTopicResult(
        name=name, topic_id=None, error_code=rejected.code, error_message=rejected.message, configs=None
    )


def _to_delete(broker: Broker, request: Request, name: str | None, topic_id: Any) -> Topic:
    """Find the topic, where the client may know that there is one."""
    if (name is None) == (topic_id is None):
        raise Rejected(ErrorCode.invalid_request, "Name the topic by its name or by its id, and not by both.")
    if name is not None:
        if not _may_delete_any(request):
            request.authorize(Operation.DESCRIBE, ResourceType.TOPIC, name)
        return topic_named(broker, name)
    topic = broker.topics.by_id(topic_id)
    if topic is None:
        raise Rejected(ErrorCode.unknown_topic_id, "There is no topic with this id.")
    if not request.may_describe(ResourceType.TOPIC, topic.name):
        # The answer must not show its name.
        _authorize_deletion(request, topic)
    return topic


def _authorize_deletion(request: Request, topic: Topic) -> None:
    if not _may_delete_any(request):
        request.authorize(Operation.DELETE, ResourceType.TOPIC, topic.name)
    if topic.internal:
        raise Rejected(ErrorCode.invalid_request, f"Topic '{topic.name}' belongs to the broker.")


def _may_delete_any(request: Request) -> bool:
    """Tell whether all topics may be deleted: no operation of the cluster says so, but All does."""
    return request.allows(Operation.DELETE, ResourceType.CLUSTER, CLUSTER_NAME, audited=False)


def _check_added(topic: Topic, wanted: Any) -> None:
    added = wanted.count - len(topic.partitions)
    if topic.internal:
        raise Rejected(ErrorCode.invalid_request, f"Topic '{topic.name}' belongs to the broker.")
    if wanted.assignments is None:
        return
    if len(wanted.assignments) != added:
        raise Rejected(
            ErrorCode.invalid_replica_assignment,
            f"{added} partitions are added, but {len(wanted.assignments)} assignments were given.",
        )
    if _replica_count([each.broker_ids for each in wanted.assignments]) != topic.replication_factor:
        raise Rejected(
            ErrorCode.invalid_replica_assignment,
            f"The topic's replication factor is {topic.replication_factor}; give each partition as many.",
        )


APIS: Final = (
    Api(key=19, name="CreateTopics", min_version=2, max_version=7, handle=create_topics),
    Api(key=20, name="DeleteTopics", min_version=1, max_version=6, handle=delete_topics),
    Api(key=37, name="CreatePartitions", min_version=0, max_version=3, handle=create_partitions),
)
