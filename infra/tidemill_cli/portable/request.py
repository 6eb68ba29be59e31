"""Owns the portable form of a mapping: the members of CreateEventSourceMapping that make an equal one.

Made from what Lambda replies of a mapping (EventSourceMappingConfiguration), with botocore's model for the
members that there are. Knows no endpoint and no format. Authority: AWS Lambda API reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

from tidemill_cli.errors import UserError

Request = dict[str, Any]

MSK_BLOCK: Final = "AmazonManagedKafkaEventSourceConfig"
SELF_MANAGED_BLOCK: Final = "SelfManagedKafkaEventSourceConfig"
BOOTSTRAP_KEY: Final = "KAFKA_BOOTSTRAP_SERVERS"

# Of the reply, what says how a mapping is doing and not what it is.
_STATUS: Final = frozenset(
    {
        *("UUID", "EventSourceMappingArn", "FunctionArn", "FilterCriteriaError"),
        *("LastModified", "LastProcessingResult", "ResponseMetadata", "State", "StateTransitionReason"),
    }
)
_DISABLED: Final = frozenset({"Disabled", "Disabling"})
# What an unset member is replied as. On demand Lambda rejects these members, whatever their value is.
_UNSET: Final[Mapping[str, Any]] = {
    "BisectBatchOnFunctionError": False,
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "ParallelizationFactor": 1,
    "TumblingWindowInSeconds": 0,
}
_WHOLE_REPLY: Final = "Give the whole output of `aws lambda get-event-source-mapping --uuid UUID`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the user puts in the place of a mapping's own names; None keeps them."""

    function: str | None = None
    event_source_arn: str | None = None
    bootstrap: Sequence[str] | None = None
    access: Sequence[Mapping[str, str]] | None = None
    on_failure: str | None = None


def is_kafka(configuration: Mapping[str, Any]) -> bool:
    """Return whether the mapping reads Kafka: an MSK cluster or a self-managed one."""
    arn = configuration.get("EventSourceArn")
    return service_of(arn) == "kafka" if arn else bool(configuration.get("SelfManagedEventSource"))


def service_of(arn: object) -> str:
    """Return the service that an ARN names; "" of what is no ARN."""
    parts = str(arn).split(":", 5)
    return parts[2] if len(parts) == len(("arn", "partition", "service", "region", "account", "name")) else ""


def create_request(configuration: Any, tags: Mapping[str, str] | None = None) -> Request:
    """Return the members that create a mapping equal to this one; unset members are absent.

    Raises UserError if it is not a Kafka mapping, or is damaged.
    """
    if not isinstance(configuration, dict):
        raise UserError("A mapping is a JSON object.", hint=_WHOLE_REPLY)
    _check_members(configuration)
    _check_source(configuration)
    request = {
        name: kept
        for name in create_members()
        if name != "Tags"
        and (kept := _pruned(configuration.get(name))) not in (None, {}, [])
        and kept != _UNSET.get(name)
    }
    request["FunctionName"] = _required(configuration, "FunctionArn")
    request["Topics"] = _required(configuration, "Topics")
    if configuration.get("State") in _DISABLED:
        request["Enabled"] = False
    if found := {**(configuration.get("Tags") or {}), **(tags or {})}:
        request["Tags"] = found
    check_types(request)
    _normalise_start(request)
    return _without_default_group(request, configuration.get("UUID"))


@cache
def create_members() -> tuple[str, ...]:
    """Return the members of CreateEventSourceMapping, in the order of the API's model."""
    return tuple(_create_shape().members)


def check_types(request: Request) -> None:
    """Raise UserError if a member is not of the type that the API's model says."""
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(request, _create_shape())
    if report.has_errors():
        said = " ".join(report.generate_report().split())
        raise UserError(f"The mapping's JSON is not AWS's: {said}.", hint=_WHOLE_REPLY)


def overridden(request: Request, overrides: Overrides) -> Request:
    """Return the request with the user's names."""
    if overrides.event_source_arn and overrides.bootstrap:
        raise UserError("A mapping reads one cluster: give --event-source-arn or --bootstrap, not both.")
    found = dict(request)
    if overrides.function:
        found["FunctionName"] = overrides.function
    if overrides.event_source_arn or overrides.bootstrap:
        found = with_source(found, overrides.event_source_arn, overrides.bootstrap or ())
    if overrides.access:
        found["SourceAccessConfigurations"] = list(overrides.access)
    if overrides.on_failure is not None:
        found["DestinationConfig"] = {"OnFailure": {"Destination": overrides.on_failure}}
    return found


def with_source(request: Request, arn: str | None, bootstrap: Sequence[str]) -> Request:
    """Return the request with another cluster; its group and its schema registry move to the right block."""
    own, other = (MSK_BLOCK, SELF_MANAGED_BLOCK) if arn else (SELF_MANAGED_BLOCK, MSK_BLOCK)
    gone = {"EventSourceArn", "SelfManagedEventSource", own, other}
    found = {name: value for name, value in request.items() if name not in gone}
    if arn:
        if service_of(arn) != "kafka":
            raise UserError(
                f"{arn!r} is not the ARN of an MSK cluster.", hint="`aws kafka list-clusters-v2`."
            )
        found["EventSourceArn"] = arn
    else:
        found["SelfManagedEventSource"] = {"Endpoints": {BOOTSTRAP_KEY: list(bootstrap)}}
    if block := request.get(own) or request.get(other):
        found[own] = block
    return found


def _create_shape() -> Any:
    from botocore.session import get_session

    return get_session().get_service_model("lambda").operation_model("CreateEventSourceMapping").input_shape


def _check_members(configuration: Mapping[str, Any]) -> None:
    known = {*create_members(), *_STATUS}
    for name in configuration:
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            raise UserError(
                f"{name!r} is no member of an event source mapping.",
                hint=f"Did you mean {close[0]}?"
                if close
                else "Remove it from the JSON, or install a newer boto3 if AWS has added it.",
            )


def _check_source(configuration: Mapping[str, Any]) -> None:
    if configuration.get("State") == "Deleting":
        raise UserError(f"Mapping {configuration.get('UUID')} is being deleted.", hint="Choose another one.")
    if is_kafka(configuration):
        return
    arn = configuration.get("EventSourceArn")
    if not arn:
        raise UserError(
            "The mapping has neither EventSourceArn nor SelfManagedEventSource, so it reads no Kafka.",
            hint=_WHOLE_REPLY,
        )
    if not (service := service_of(arn)):
        raise UserError(f"EventSourceArn {arn!r} is no ARN.", hint=_WHOLE_REPLY)
    raise UserError(
        f"The mapping reads {service} ({arn}), and Tidemill reads Kafka only.",
        hint="Choose a mapping of an MSK cluster or of a self-managed Kafka.",
    )


def _required(configuration: Mapping[str, Any], name: str) -> Any:
    found = configuration.get(name) or (configuration.get("FunctionName") if name == "FunctionArn" else None)
    if not found:
        raise UserError(f"The mapping has no {name}.", hint=_WHOLE_REPLY)
    return found


def _pruned(value: Any) -> Any:
    """The value without members that are null or empty: replies have them where nothing is set."""
    if isinstance(value, dict):
        kept = {name: _pruned(member) for name, member in value.items()}
        return {name: member for name, member in kept.items() if member not in (None, "", {}, [])}
    if isinstance(value, list):
        return [_pruned(member) for member in value]
    return value


def _normalise_start(request: Request) -> None:
    from botocore.utils import parse_timestamp

    given = request.get("StartingPositionTimestamp")
    if given is not None and not isinstance(given, datetime):
        request["StartingPositionTimestamp"] = parse_timestamp(given)


def _without_default_group(request: Request, uuid: object) -> Request:
    """The request without a consumer group that is the mapping's own UUID: the new one has its own."""
    for name in (MSK_BLOCK, SELF_MANAGED_BLOCK):
        block = dict(request.get(name) or {})
        if uuid and block.get("ConsumerGroupId") == uuid:
            del block["ConsumerGroupId"]
        request = {member: value for member, value in request.items() if member != name}
        if block:
            request[name] = block
    return request
