"""From an API call to a Mapping: what Create and Update accept, with Lambda's defaults and error texts.

Pure: the time and the settings are arguments. Ranges, patterns and enumerations of single fields are the
API model's and were checked before (tidemill_awsapi); here are the rules that the model cannot say.
Those of failure destinations and access types stand in their own tables (`destinations.table`,
`kafka_auth.access_types`). A text
in quotes after "AWS:" was seen on the real service; the others are ours, where AWS's are unknown.
What is not built is rejected by name: no field is accepted and ignored (docs/parity.md lists them).
"""

from __future__ import annotations

import re
from collections import abc
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from tidemill_poller.arn import parse_arn
from tidemill_poller.errors import InvalidParameter, MappingInUse
from tidemill_poller.mapping.model import (
    MSK_BLOCK,
    SELF_MANAGED_BLOCK,
    UNLIMITED,
    USER_INITIATED,
    Mapping,
    MskSource,
    Provisioned,
    SelfManagedSource,
    SourceAccess,
    StartingPosition,
    State,
)
from tidemill_poller.mapping.rejections import camel, not_built, unsupported
from tidemill_poller.settings import Settings

Params = abc.Mapping[str, Any]

BOOTSTRAP_KEY: Final = "KAFKA_BOOTSTRAP_SERVERS"

_NOT_FOR_KAFKA: Final = (
    "ParallelizationFactor",
    "TumblingWindowInSeconds",
    "ScalingConfig",
    "Queues",
    "DocumentDBEventSourceConfig",
)
_PROVISIONED_ONLY: Final = {
    "MaximumRetryAttempts": "maximum_retry_attempts",
    "MaximumRecordAgeInSeconds": "maximum_record_age_s",
    "BisectBatchOnFunctionError": "bisect_batch_on_function_error",
    "FunctionResponseTypes": "report_batch_item_failures",
}
"""AWS offers these with provisioned mode only (kafka-scaling-modes); field -> attribute."""

_PLAIN_FIELDS: Final = {
    "FunctionName": "function_arn",
    "Enabled": "enabled",
    "BatchSize": "batch_size",
    "MaximumBatchingWindowInSeconds": "batching_window_s",
    "MaximumRetryAttempts": "maximum_retry_attempts",
    "MaximumRecordAgeInSeconds": "maximum_record_age_s",
    "BisectBatchOnFunctionError": "bisect_batch_on_function_error",
}
_DEFAULTS: Final = {
    "maximum_retry_attempts": UNLIMITED,
    "maximum_record_age_s": UNLIMITED,
    "bisect_batch_on_function_error": False,
    "report_batch_item_failures": False,
}
_RECORD_AGE_S_MIN: Final = 60
_POLLERS_MAX: Final = 2000
"""For Kafka; the model's 10000 is for SQS."""

_MSK_CLUSTER: Final = re.compile(r"cluster/[^/]+/[A-Za-z0-9-]+")
_MSK_VPC_CONNECTION: Final = "vpc-connection/"
_OTHER_SOURCES: Final = frozenset({"dynamodb", "kinesis", "mq", "rds", "sqs"})


def new_mapping(params: Params, *, uuid: str, now_ms: int, settings: Settings) -> Mapping:
    """The mapping that a CreateEventSourceMapping call asks for, in state Creating.

    Its `function_arn` is the FunctionName as given until the caller puts the resolved one in.

    Raises InvalidParameter, with Lambda's text where it is known, if the call is not accepted.
    """
    _reject_what_kafka_lacks(params)
    source = _source(params)
    block = _own_block(params, source)
    position, timestamp_ms = _starting_position(params, now_ms)
    draft = Mapping(
        uuid=uuid,
        function_arn=params["FunctionName"],
        source=source,
        topic=_topic(params),
        consumer_group_id=block.get("ConsumerGroupId") or uuid,
        starting_position=position,
        starting_position_timestamp_ms=timestamp_ms,
        last_modified_ms=now_ms,
    )
    return _checked(draft, params, was_provisioned=False, settings=settings)


def updated_mapping(mapping: Mapping, params: Params, *, now_ms: int, settings: Settings) -> Mapping:
    """The mapping after an UpdateEventSourceMapping call, in its transitional state; the version is the same.

    A field that the call leaves out keeps its value. With a FunctionName in the call, `function_arn` is that
    name until the caller puts the resolved one in.

    Raises InvalidParameter as `new_mapping` does, and MappingInUse if the mapping is in a transition.
    """
    if mapping.state.transitional:
        raise MappingInUse("update")
    _reject_what_kafka_lacks(params)
    if _own_block(params, mapping.source).get("ConsumerGroupId") is not None:
        name = MSK_BLOCK if isinstance(mapping.source, MskSource) else SELF_MANAGED_BLOCK
        # AWS: rejected even when unchanged.
        raise InvalidParameter(f"Unsupported '{camel(name)}.consumerGroupId' parameter")
    was_provisioned = mapping.provisioned is not None
    changed = _checked(mapping, params, was_provisioned=was_provisioned, settings=settings)
    return replace(
        changed,
        state=_state_after_update(mapping, changed),
        state_transition_reason=USER_INITIATED,
        last_modified_ms=now_ms,
    )


def deleted_mapping(mapping: Mapping, *, now_ms: int) -> Mapping:
    """The mapping in state Deleting. Any other state allows it, so that nothing stuck is there for ever.

    Raises MappingInUse if it is being deleted already.
    """
    if mapping.state is State.DELETING:
        raise MappingInUse("delete")
    return replace(
        mapping, state=State.DELETING, state_transition_reason=USER_INITIATED, last_modified_ms=now_ms
    )


def _state_after_update(before: Mapping, after: Mapping) -> State:
    if before.enabled == after.enabled:
        return State.UPDATING
    return State.ENABLING if after.enabled else State.DISABLING


def _reject_what_kafka_lacks(params: Params) -> None:
    for field in _NOT_FOR_KAFKA:
        if params.get(field) is not None:
            unsupported(field)
    if params.get("KMSKeyArn"):  # "" means AWS's own key, which is what there is
        not_built("KMSKeyArn")
    if (params.get("LoggingConfig") or {}).get("SystemLogLevel"):
        not_built("LoggingConfig")
    if (params.get("MetricsConfig") or {}).get("Metrics"):
        not_built("MetricsConfig")


def _source(params: Params) -> MskSource | SelfManagedSource:
    arn = params.get("EventSourceArn")
    endpoints = (params.get("SelfManagedEventSource") or {}).get("Endpoints") or {}
    if arn and endpoints:
        raise InvalidParameter("Give EventSourceArn or SelfManagedEventSource, not both.")
    if arn:
        return _msk_source(arn)
    servers = endpoints.get(BOOTSTRAP_KEY)
    if not servers:
        raise InvalidParameter("Unrecognized event source.")  # AWS, for a call with neither
    for server in servers:
        if not 0 < int(server.rpartition(":")[2]) <= 65535:  # noqa: PLR2004 - the range of a TCP port
            raise InvalidParameter(f"'{server}' in SelfManagedEventSource has no valid port: 1 to 65535.")
    return SelfManagedSource(bootstrap_servers=tuple(servers))


def _msk_source(text: str) -> MskSource:
    arn = parse_arn(text)
    if arn is None:
        raise InvalidParameter("Unrecognized event source.")
    if arn.service == "kafka" and arn.region and arn.account and _MSK_CLUSTER.fullmatch(arn.resource):
        return MskSource(arn=text)
    if arn.service == "kafka" and arn.resource.startswith(_MSK_VPC_CONNECTION):
        not_built("EventSourceArn of an MSK VPC connection")
    if arn.service in _OTHER_SOURCES:
        raise InvalidParameter(
            f"Tidemill maps Kafka topics only, not {arn.service}: give an MSK cluster's ARN as"
            " EventSourceArn, or SelfManagedEventSource."
        )
    raise InvalidParameter("Unrecognized event source.")


def _own_block(params: Params, source: MskSource | SelfManagedSource) -> Params:
    """The source's own configuration block; {} when there is none."""
    own, other = (
        (MSK_BLOCK, SELF_MANAGED_BLOCK) if isinstance(source, MskSource) else (SELF_MANAGED_BLOCK, MSK_BLOCK)
    )
    if params.get(other) is not None:
        unsupported(other)
    block: Params = params.get(own) or {}
    if block.get("SchemaRegistryConfig"):  # {} removes it, so that is no news
        not_built("SchemaRegistryConfig")
    if block.get("ConsumptionMode") not in (None, "Stream"):
        not_built("ConsumptionMode Queue")
    return block


def _topic(params: Params) -> str:
    topics = params.get("Topics")
    if not topics:
        raise InvalidParameter("Required 'topics' parameter is missing.")
    return str(topics[0])


def _starting_position(params: Params, now_ms: int) -> tuple[StartingPosition, int | None]:
    # Optional, whatever the guide says: a create without it was seen to reply TRIM_HORIZON.
    position = StartingPosition(params.get("StartingPosition") or StartingPosition.TRIM_HORIZON)
    timestamp: datetime | None = params.get("StartingPositionTimestamp")
    if position is not StartingPosition.AT_TIMESTAMP:
        if timestamp is not None:
            raise InvalidParameter("StartingPositionTimestamp is only for StartingPosition AT_TIMESTAMP.")
        return position, None
    if timestamp is None:
        raise InvalidParameter("Need to specify a timestamp")  # AWS
    timestamp_ms = round(timestamp.timestamp() * 1000)
    # Kafka gives negative timestamps a meaning of their own (ListOffsets: -1 latest, -2 earliest).
    if not 0 <= timestamp_ms <= now_ms:
        raise InvalidParameter("StartingPositionTimestamp must be between 1970 and now.")
    return position, timestamp_ms


def _checked(base: Mapping, params: Params, *, was_provisioned: bool, settings: Settings) -> Mapping:
    """`base` with what the call sets, after every rule about the two together."""
    mapping = replace(base, **_changes(base, params, settings))
    _check_record_age(mapping)
    if settings.parity_require_provisioned and mapping.provisioned is None:
        _check_gate(mapping, params, was_provisioned=was_provisioned)
    if (
        settings.parity_require_source_access
        and isinstance(mapping.source, SelfManagedSource)
        and not mapping.access
    ):
        raise InvalidParameter("Required 'sourceAccessConfigurations' parameter is missing.")  # AWS
    return mapping


def _changes(base: Mapping, params: Params, settings: Settings) -> dict[str, Any]:
    changes = {
        attribute: params[field]
        for field, attribute in _PLAIN_FIELDS.items()
        if params.get(field) is not None
    }
    changes["provisioned"] = _provisioned(params.get("ProvisionedPollerConfig"), base.provisioned)
    if params.get("FunctionResponseTypes") is not None:
        changes["report_batch_item_failures"] = bool(params["FunctionResponseTypes"])
    if params.get("FilterCriteria") is not None:
        changes["filter_patterns"] = _patterns(params["FilterCriteria"], settings.filters_max)
    if params.get("DestinationConfig") is not None:
        changes["on_failure"] = _destination(params["DestinationConfig"], base.on_failure)
    if params.get("SourceAccessConfigurations") is not None:
        changes["access"] = tuple(
            SourceAccess(type=one.get("Type") or "", uri=one.get("URI") or "")
            for one in params["SourceAccessConfigurations"]
        )
    return changes


def _provisioned(config: Params | None, current: Provisioned | None) -> Provisioned | None:
    """What the call makes of provisioned mode: {} leaves it, members that are not named keep their value."""
    if config is None:
        return current
    named = {
        attribute: config[member]
        for member, attribute in (
            ("MinimumPollers", "minimum_pollers"),
            ("MaximumPollers", "maximum_pollers"),
            ("PollerGroupName", "group_name"),
        )
        if config.get(member) is not None
    }
    if not named:
        return None
    after = replace(current or Provisioned(), **named)
    if after.maximum_pollers > _POLLERS_MAX:
        raise InvalidParameter(
            f"MaximumPollers of a Kafka event source mapping must be at most {_POLLERS_MAX}."
        )
    if after.maximum_pollers < after.minimum_pollers:
        raise InvalidParameter(
            f"MaximumPollers ({after.maximum_pollers}) must not be less than"
            f" MinimumPollers ({after.minimum_pollers})."
        )
    return after


def _destination(config: Params, current: str | None) -> str | None:
    """Return the on-failure destination after the call: "" removes it, one that is not named stays."""
    if (config.get("OnSuccess") or {}).get("Destination"):
        # AWS's own text, capitals and missing quotes and all.
        raise InvalidParameter("Unsupported DestinationConfig parameter for given event source mapping type.")
    named: str | None = (config.get("OnFailure") or {}).get("Destination")
    return current if named is None else named or None


def _patterns(criteria: Params, filters_max: int) -> tuple[str, ...]:
    filters = criteria.get("Filters") or []
    if len(filters) > filters_max:
        raise InvalidParameter(
            f"FilterCriteria has {len(filters)} filters; at most {filters_max} are allowed."
        )
    patterns = [one.get("Pattern") for one in filters]
    if None in patterns:
        raise InvalidParameter("Invalid filter pattern definition.")
    return tuple(str(pattern) for pattern in patterns)


def _check_record_age(mapping: Mapping) -> None:
    if mapping.maximum_record_age_s != UNLIMITED and mapping.maximum_record_age_s < _RECORD_AGE_S_MIN:
        raise InvalidParameter("MaximumRecordAgeInSeconds must be -1, or from 60 to 604800.")


def _check_gate(mapping: Mapping, params: Params, *, was_provisioned: bool) -> None:
    """Reject the fields of provisioned mode in a mapping that is (or would be) on demand.

    On demand the field itself is rejected, its default too: AWS does so with every field of another mode. The
    call that leaves provisioned mode may, and must, bring such fields back to their defaults.
    """
    for field, attribute in _PROVISIONED_ONLY.items():
        named = params.get(field) is not None and not was_provisioned
        if named or getattr(mapping, attribute) != _DEFAULTS[attribute]:
            unsupported(field)
