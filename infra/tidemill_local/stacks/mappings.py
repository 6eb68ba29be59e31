"""Owns `AWS::Lambda::EventSourceMapping`: made, changed and deleted by the Lambda API of mappings.

A mapping is created when it is Enabled or Disabled, and deleted when it is gone, as CloudFormation waits for
them. Its UUID, and with it its consumer group, stays while nothing of `replaced_by` changes: its progress
survives the replacement of its function.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from tidemill_local.errors import ResourceFailed
from tidemill_local.stacks.clients import NOT_FOUND, Clients, code_of, operation
from tidemill_local.stacks.functions import ignoring_absence, retag
from tidemill_local.stacks.properties import parameters, tags_of
from tidemill_local.stacks.resource import Change, Creation, Made, Properties, ResourceType

_STABLE: Final = frozenset({"Enabled", "Disabled"})
_WAIT_S: Final = 300.0
_LOOK_EVERY_S: Final = 0.2
_RENAMED: Final = {"KmsKeyArn": "KMSKeyArn"}
# The cluster's addresses have an API name that templates spell in their own way.
_ENDPOINTS: Final = {"KafkaBootstrapServers": "KAFKA_BOOTSTRAP_SERVERS"}
_KAFKA_BATCH: Final = 100
# What an update says to remove a setting: Lambda's defaults for Kafka.
_DEFAULTS: Final[Mapping[str, Any]] = {
    "BatchSize": _KAFKA_BATCH,
    "BisectBatchOnFunctionError": False,
    "DestinationConfig": {"OnFailure": {"Destination": ""}},
    "Enabled": True,
    "FilterCriteria": {},
    "FunctionResponseTypes": [],
    "KMSKeyArn": "",
    "LoggingConfig": {},
    "MaximumBatchingWindowInSeconds": 0,
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "MetricsConfig": {"Metrics": []},
    "ProvisionedPollerConfig": {},
    "ScalingConfig": {},
    "SourceAccessConfigurations": [],
}
_KAFKA_CONFIGS: Final = ("AmazonManagedKafkaEventSourceConfig", "SelfManagedKafkaEventSourceConfig")


def _create(creation: Creation) -> Made:
    client = creation.clients.awslambda
    request = _request(client, "CreateEventSourceMapping", creation.properties)
    request.pop("Tags", None)
    if tags := tags_of(creation.properties):
        request["Tags"] = tags
    found = client.create_event_source_mapping(**request)
    try:
        _wait(lambda: _state(client, found["UUID"]), f"mapping {found['UUID']} to be enabled")
    except BaseException:
        # What fails is not the stack's: nothing would ever delete it.
        _delete(creation.clients, found["UUID"], creation.properties)
        raise
    return _made(found)


def _update(change: Change) -> Made:
    if any(_consumer_group(change.old, name) != _consumer_group(change.new, name) for name in _KAFKA_CONFIGS):
        return _create(change.creation)
    client = change.clients.awslambda
    before, after = (
        _request(client, "UpdateEventSourceMapping", properties) for properties in (change.old, change.new)
    )
    removed = {key: _DEFAULTS[key] for key in before.keys() - after.keys() if key in _DEFAULTS}
    wanted = {key: value for key, value in after.items() if before.get(key) != value} | removed
    found = client.get_event_source_mapping(UUID=change.physical_id)
    if wanted:
        found = client.update_event_source_mapping(UUID=change.physical_id, **wanted)
        _wait(lambda: _state(client, change.physical_id), f"mapping {change.physical_id} to be updated")
    retag(client, found["EventSourceMappingArn"], change)
    return _made(found)


def _delete(clients: Clients, physical_id: str, _properties: Properties) -> None:
    client = clients.awslambda
    ignoring_absence(client.delete_event_source_mapping, UUID=physical_id)
    _wait(lambda: _is_gone(client, physical_id), f"mapping {physical_id} to be deleted")


def _request(client: Any, name: str, properties: Properties) -> dict[str, Any]:
    renamed = {_RENAMED.get(key, key): value for key, value in properties.items()}
    source = renamed.get("SelfManagedEventSource")
    if isinstance(source, Mapping) and isinstance(source.get("Endpoints"), Mapping):
        endpoints = {_ENDPOINTS.get(key, key): value for key, value in source["Endpoints"].items()}
        renamed["SelfManagedEventSource"] = {**source, "Endpoints": endpoints}
    return parameters(operation(client, name), renamed)


def _consumer_group(properties: Properties, name: str) -> object:
    return (properties.get(name) or {}).get("ConsumerGroupId")


def _made(found: Mapping[str, Any]) -> Made:
    return Made(
        physical_id=found["UUID"],
        attributes={"Id": found["UUID"], "EventSourceMappingArn": found["EventSourceMappingArn"]},
    )


def _state(client: Any, uuid: str) -> bool:
    return client.get_event_source_mapping(UUID=uuid)["State"] in _STABLE


def _is_gone(client: Any, uuid: str) -> bool:
    try:
        client.get_event_source_mapping(UUID=uuid)
    except ClientError as error:
        if code_of(error) in NOT_FOUND:
            return True
        raise
    return False


def _wait(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not is_so():
        if time.monotonic() > deadline:
            raise ResourceFailed(f"Waited {_WAIT_S:.0f} s for {what}: see the poller's log.")
        time.sleep(_LOOK_EVERY_S)


EVENT_SOURCE_MAPPING: Final = ResourceType(
    name="AWS::Lambda::EventSourceMapping",
    required=frozenset({"FunctionName"}),
    optional=frozenset(
        {
            *(
                "AmazonManagedKafkaEventSourceConfig",
                "BatchSize",
                "BisectBatchOnFunctionError",
                "DestinationConfig",
            ),
            *(
                "DocumentDBEventSourceConfig",
                "Enabled",
                "EventSourceArn",
                "FilterCriteria",
                "FunctionResponseTypes",
            ),
            *("KmsKeyArn", "LoggingConfig", "MaximumBatchingWindowInSeconds", "MaximumRecordAgeInSeconds"),
            *(
                "MaximumRetryAttempts",
                "MetricsConfig",
                "ParallelizationFactor",
                "ProvisionedPollerConfig",
                "Queues",
            ),
            *("ScalingConfig", "SelfManagedEventSource", "SelfManagedKafkaEventSourceConfig"),
            *(
                "SourceAccessConfigurations",
                "StartingPosition",
                "StartingPositionTimestamp",
                "Tags",
                "Topics",
            ),
            *("TumblingWindowInSeconds",),
        }
    ),
    create=_create,
    update=_update,
    delete=_delete,
    # Topics: no API changes them.
    replaced_by=frozenset(
        {
            "EventSourceArn",
            "SelfManagedEventSource",
            "StartingPosition",
            "StartingPositionTimestamp",
            "Topics",
        }
    ),
    tagged=True,
)
