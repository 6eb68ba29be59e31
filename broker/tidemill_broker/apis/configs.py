"""DescribeConfigs 1-4, IncrementalAlterConfigs 0-1, AlterConfigs 0-2.

Topics' configs are read and changed; the broker's own settings come from its command line and are read-only
here. Loggers, client metrics and groups have no configs in this broker; asking for them is rejected.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from tidemill_broker.apis.api import Api, Rejected
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.rejections import reject_repeated, rejecting, topic_named
from tidemill_broker.apis.request import Request
from tidemill_broker.apis.turns import Steps
from tidemill_broker.auth import authorizer
from tidemill_broker.auth.authorizer import CLUSTER_NAME
from tidemill_broker.log import configs as topic_configs
from tidemill_broker.log.configs import TOPIC_CONFIGS, ConfigType, TopicConfig
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.schema import ResponseSchema
from tidemill_broker.settings import KAFKA_SETTINGS, Setting


class ResourceType(IntEnum):
    """The kinds of things that have configs (org.apache.kafka.common.config.ConfigResource.Type)."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class Source(IntEnum):
    """Where a value comes from (DescribeConfigsResponse.ConfigSource)."""

    DYNAMIC_TOPIC_CONFIG = 1
    STATIC_BROKER_CONFIG = 4
    DEFAULT_CONFIG = 5


class Operation(IntEnum):
    """What IncrementalAlterConfigs does to one config (AlterConfigOp.OpType)."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Synonym:
    """One of the values that a config would have, strongest first."""

    name: str
    value: str | None
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One config as it is described."""

    name: str
    value: str | None
    source: Source
    type: ConfigType
    documentation: str
    synonyms: Sequence[Synonym]
    read_only: bool = False


_TYPES: Final[Mapping[str, ConfigType]] = {
    "boolean": ConfigType.BOOLEAN,
    "string": ConfigType.STRING,
    "int": ConfigType.INT,
    "long": ConfigType.LONG,
    "list": ConfigType.LIST,
}


def topic_entries(broker: Broker, overrides: Mapping[str, str]) -> list[Entry]:
    """Describe every topic config for a topic with these overrides."""
    values = broker.settings.kafka_values()
    return [_topic_entry(row, overrides, values, broker.settings.given) for row in TOPIC_CONFIGS.values()]


def _topic_entry(
    row: TopicConfig, overrides: Mapping[str, str], values: Mapping[str, Any], given: frozenset[str]
) -> Entry:
    synonyms = [
        synonym
        for name, _ in row.synonyms
        if name in KAFKA_SETTINGS
        for synonym in _synonyms(KAFKA_SETTINGS[name], values[name], given)
    ]
    if row.name in overrides:
        own = Synonym(name=row.name, value=overrides[row.name], source=Source.DYNAMIC_TOPIC_CONFIG)
        synonyms.insert(0, own)
    return Entry(
        name=row.name,
        value=topic_configs.value(row, overrides, values),
        source=synonyms[0].source if synonyms else Source.DEFAULT_CONFIG,
        type=row.type,
        documentation=row.remark,
        synonyms=synonyms,
    )


def _broker_entry(row: Setting, value: Any, given: frozenset[str]) -> Entry:
    synonyms = _synonyms(row, value, given)
    return Entry(
        name=row.name,
        value=_text(value),
        source=synonyms[0].source if synonyms else Source.DEFAULT_CONFIG,
        type=_TYPES[row.kind],
        documentation=row.doc,
        synonyms=synonyms,
        read_only=True,
    )


def _synonyms(row: Setting, value: Any, given: frozenset[str]) -> list[Synonym]:
    """List what a setting was given and what it would be, each in its own unit and only if there is one."""
    synonyms = []
    if row.name in given:
        synonyms.append(Synonym(name=row.name, value=_text(value), source=Source.STATIC_BROKER_CONFIG))
    if row.default is not None:
        synonyms.append(Synonym(name=row.name, value=_text(row.default), source=Source.DEFAULT_CONFIG))
    return synonyms


def _text(value: Any) -> str | None:
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def describe_configs(broker: Broker, request: Request) -> Steps[Any]:
    """Answer DescribeConfigs."""
    reply = request.reply
    times = Counter((resource.resource_type, resource.resource_name) for resource in request.body.resources)
    results = []
    for resource in request.body.resources:
        code, message, entries = ErrorCode.none, None, list[Entry]()
        try:
            # Kafka would answer each; here a small request must not ask for a huge answer.
            reject_repeated(times, (resource.resource_type, resource.resource_name), "resource")
            _authorize(request, authorizer.Operation.DESCRIBE_CONFIGS, resource)
            entries = _entries(broker, resource)
        except Rejected as rejected:
            code, message = rejected.code, rejected.message
        results.append(
            reply.DescribeConfigsResult(
                error_code=code,
                error_message=message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
                configs=tuple(_described(reply, request, entry) for entry in entries),
            )
        )
        yield
    return reply.DescribeConfigsResponse(results=tuple(results))


def _authorize(request: Request, operation: authorizer.Operation, resource: Any) -> None:
    """Topics and groups by their names; what is a broker's, or every client's, belongs to the cluster."""
    kind = authorizer.ResourceType
    types = {ResourceType.TOPIC: kind.TOPIC, ResourceType.GROUP: kind.GROUP}
    if resource.resource_type in types:
        request.authorize(operation, types[resource.resource_type], resource.resource_name)
    else:
        request.authorize(operation, kind.CLUSTER, CLUSTER_NAME)


def _entries(broker: Broker, resource: Any) -> list[Entry]:
    name = resource.resource_name
    if resource.resource_type == ResourceType.TOPIC:
        entries = topic_entries(broker, topic_named(broker, name).configs)
    elif resource.resource_type == ResourceType.BROKER:
        _check_broker_name(broker, name)
        values, given = broker.settings.kafka_values(), broker.settings.given
        rows = KAFKA_SETTINGS.values() if name else ()  # "" is the cluster's dynamic default: nothing is set
        entries = [_broker_entry(row, values[row.name], given) for row in rows]
    else:
        raise _no_configs(resource.resource_type)
    # Null asks for all. So does an empty list, from older librdkafka and Java clients (KAFKA-8288).
    wanted = resource.configuration_keys or None
    return entries if wanted is None else [entry for entry in entries if entry.name in wanted]


def _described(reply: ResponseSchema, request: Request, entry: Entry) -> Any:
    synonyms = entry.synonyms if request.body.include_synonyms else ()
    return reply.DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=False,
        synonyms=tuple(
            reply.DescribeConfigsSynonym(name=each.name, value=each.value, source=each.source)
            for each in synonyms
        ),
        config_type=entry.type,
        documentation=entry.documentation if getattr(request.body, "include_documentation", False) else None,
    )


def incremental_alter_configs(broker: Broker, request: Request) -> Steps[Any]:
    """Answer IncrementalAlterConfigs (KIP-339)."""
    reply = request.reply
    responses = yield from _altered(broker, request, _incremented)
    return reply.IncrementalAlterConfigsResponse(responses=responses)


def alter_configs(broker: Broker, request: Request) -> Steps[Any]:
    """Answer AlterConfigs, which replaces all overrides of a topic; aiokafka and old tools still send it."""
    reply = request.reply
    responses = yield from _altered(broker, request, _replaced)
    return reply.AlterConfigsResponse(responses=responses)


def _altered(
    broker: Broker,
    request: Request,
    change: Callable[[Mapping[str, str], Sequence[Any], Mapping[str, Any]], dict[str, str]],
) -> Steps[tuple[Any, ...]]:
    """Change each resource by itself; the change is pure, and the log validates its result."""
    reply = request.reply
    times = Counter((resource.resource_type, resource.resource_name) for resource in request.body.resources)
    responses = []
    for resource in request.body.resources:
        code, message = ErrorCode.none, None
        try:
            reject_repeated(times, (resource.resource_type, resource.resource_name), "resource")
            _authorize(request, authorizer.Operation.ALTER_CONFIGS, resource)
            _alter(broker, resource, change, validate_only=request.body.validate_only)
        except Rejected as rejected:
            code, message = rejected.code, rejected.message
        responses.append(
            reply.AlterConfigsResourceResponse(
                error_code=code,
                error_message=message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        )
        yield
    return tuple(responses)


def _alter(
    broker: Broker,
    resource: Any,
    change: Callable[[Mapping[str, str], Sequence[Any], Mapping[str, Any]], dict[str, str]],
    *,
    validate_only: bool,
) -> None:
    if resource.resource_type == ResourceType.BROKER:
        _check_broker_name(broker, resource.resource_name)
        raise Rejected(
            ErrorCode.invalid_request, "The broker's settings are given at its start, with --set name=value."
        )
    if resource.resource_type != ResourceType.TOPIC:
        raise _no_configs(resource.resource_type)
    topic = topic_named(broker, resource.resource_name)
    if topic.internal:
        # Kafka lets a super user delete all committed offsets so.
        raise Rejected(ErrorCode.invalid_request, f"Topic '{topic.name}' belongs to the broker.")
    repeated = [
        name for name, count in Counter(config.name for config in resource.configs).items() if count > 1
    ]
    if repeated:
        raise Rejected(ErrorCode.invalid_request, f"The request changes {repeated[0]} more than once.")
    configs = change(topic.configs, resource.configs, broker.settings.kafka_values())
    with rejecting():
        topic_configs.validate_for_clients(configs, topic.configs)
        if not validate_only:
            broker.topics.set_configs(topic.name, configs)


def _replaced(
    _old: Mapping[str, str], configs: Sequence[Any], _settings: Mapping[str, Any]
) -> dict[str, str]:
    return {config.name: _not_null(config) for config in configs}


def _incremented(
    old: Mapping[str, str], configs: Sequence[Any], settings: Mapping[str, Any]
) -> dict[str, str]:
    new = dict(old)
    for config in configs:
        row = TOPIC_CONFIGS.get(config.name)
        if row is None:
            raise Rejected(ErrorCode.invalid_config, f"Unknown topic config name: {config.name}")
        if config.config_operation == Operation.DELETE:
            new.pop(config.name, None)
        elif config.config_operation == Operation.SET:
            new[config.name] = _not_null(config)
        elif config.config_operation in (Operation.APPEND, Operation.SUBTRACT):
            new[config.name] = _edited_list(row, topic_configs.value(row, new, settings), config)
        else:
            raise Rejected(
                ErrorCode.invalid_request, f"There is no config operation {config.config_operation}."
            )
    return new


def _edited_list(row: TopicConfig, value: str, config: Any) -> str:
    operation = Operation(config.config_operation)
    if row.type is not ConfigType.LIST:
        raise Rejected(
            ErrorCode.invalid_config,
            f"Can't {operation.name} to key {row.name} because its type is not LIST.",
        )
    items = [item for item in value.split(",") if item]
    edits = [item.strip() for item in _not_null(config).split(",") if item.strip()]
    if operation is Operation.APPEND:
        return ",".join(items + [item for item in edits if item not in items])
    return ",".join(item for item in items if item not in edits)


def _not_null(config: Any) -> str:
    if config.value is None:
        raise Rejected(ErrorCode.invalid_request, f"Null value not supported for: {config.name}")
    return str(config.value)


def _check_broker_name(broker: Broker, name: str) -> None:
    if name not in ("", str(broker.node_id)):
        raise Rejected(
            ErrorCode.invalid_request,
            f"Unexpected broker id, expected {broker.node_id} or empty string, but received {name[:100]}",
        )


def _no_configs(resource_type: int) -> Rejected:
    return Rejected(
        ErrorCode.invalid_request,
        f"Resources of type {resource_type} have no configs here; topics and brokers do.",
    )


APIS: Final = (
    Api(key=32, name="DescribeConfigs", min_version=1, max_version=4, handle=describe_configs),
    Api(key=33, name="AlterConfigs", min_version=0, max_version=2, handle=alter_configs),
    Api(
        key=44, name="IncrementalAlterConfigs", min_version=0, max_version=1, handle=incremental_alter_configs
    ),
)
