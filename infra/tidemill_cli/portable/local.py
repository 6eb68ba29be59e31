"""Owns what of a mapping changes when it comes here: its cluster and its ways in, its start, its function.

What cannot be kept is told, member by member; nothing is dropped in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from tidemill_cli.access import source_access
from tidemill_cli.clients import Endpoint
from tidemill_cli.errors import UserError
from tidemill_cli.lookup import function_name
from tidemill_cli.portable.request import (
    MSK_BLOCK,
    SELF_MANAGED_BLOCK,
    Overrides,
    Request,
    create_request,
    overridden,
    service_of,
    with_source,
)
from tidemill_local.secured.aws_setup import CA_SECRET, SCRAM_SECRET

_NETWORK: Final = ("VPC_SUBNET", "VPC_SECURITY_GROUP")
# Lambda asks a self-managed mapping for one way in at least; these mean plaintext here, and name nothing.
_PLAINTEXT: Final = (
    {"Type": "VPC_SUBNET", "URI": "subnet:subnet-local"},
    {"Type": "VPC_SECURITY_GROUP", "URI": "security_group:sg-local"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where the new mapping begins: at a time, the import's own by default, or by a position."""

    position: str = "AT_TIMESTAMP"
    timestamp: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A request for here, and what differs from the mapping that it was made of."""

    request: Request
    changes: list[str] = field(default_factory=list)


def imported(
    configuration: Any,
    tags: Mapping[str, str] | None,
    *,
    overrides: Overrides,
    start: Start,
    there: Endpoint,
) -> Imported:
    """Return the request that creates an equal mapping at the endpoint. Raises UserError for bad input."""
    original = create_request(configuration, tags)
    own = replace(overrides, function=overrides.function or _local_function(original))
    request = overridden(original, own)
    if not own.event_source_arn and not own.bootstrap:
        request = _at_own_cluster(request, there, access_given=bool(own.access))
    request = _started(request, start)
    request, rejected = _supported(request)
    return Imported(request=request, changes=[*rejected, *_changes(original, request, configuration, tags)])


def _local_function(request: Request) -> str:
    """The function's name with its qualifier: here it is the function of that name."""
    arn = request["FunctionName"]
    if not arn.startswith("arn:"):
        return str(arn)
    name = function_name({"FunctionArn": arn})
    if service_of(arn) != "lambda" or not name:
        raise UserError(f"{arn!r} is not the ARN of a function.", hint="Name a local one with --function.")
    return name


def _at_own_cluster(request: Request, there: Endpoint, *, access_given: bool) -> Request:
    if "SelfManagedEventSource" not in request:
        found = with_source(request, there.cluster_arn, ())
        entries = source_access(there)
    else:
        servers, entries = _self_managed(request, there)
        found = with_source(request, None, servers)
    if not access_given:
        found.pop("SourceAccessConfigurations", None)
        found |= {"SourceAccessConfigurations": entries} if entries else {}
    return found


def _self_managed(request: Request, there: Endpoint) -> tuple[list[str], list[dict[str, str]]]:
    """The endpoint's Kafka by its addresses, and how a mapping that names addresses enters it."""
    brokers = there.bootstrap_brokers()
    given = request.get("SourceAccessConfigurations") or []
    network = [entry for entry in given if entry.get("Type") in _NETWORK]
    if plain := brokers.get("BootstrapBrokerString"):
        return plain.split(","), network or [*map(dict, _PLAINTEXT)]
    secret, authority = there.secret_arn(SCRAM_SECRET), there.secret_arn(CA_SECRET)
    if (scram := brokers.get("BootstrapBrokerStringSaslScram")) and secret and authority:
        login = {"Type": "SASL_SCRAM_512_AUTH", "URI": secret}
        return scram.split(","), [*network, login, {"Type": "SERVER_ROOT_CA_CERTIFICATE", "URI": authority}]
    raise UserError(
        "The endpoint's Kafka has neither a plaintext nor a SCRAM listener for a self-managed mapping.",
        hint="Name one with --bootstrap and --access, or the cluster with --event-source-arn.",
    )


def _started(request: Request, start: Start) -> Request:
    found = {name: value for name, value in request.items() if name != "StartingPositionTimestamp"}
    found["StartingPosition"] = start.position
    if start.position == "AT_TIMESTAMP":
        # Lambda's API takes whole seconds.
        moment = start.timestamp or datetime.now(UTC)
        found["StartingPositionTimestamp"] = moment.replace(microsecond=0)
    return found


def _supported(request: Request) -> tuple[Request, list[str]]:
    """The request without what Tidemill rejects by name, and a line for each of these."""
    from tidemill_poller.errors import InvalidParameter, NotBuilt
    from tidemill_poller.mapping.validation import new_mapping
    from tidemill_poller.settings import Settings

    lines: list[str] = []
    while True:
        try:
            new_mapping(request, uuid="", now_ms=1 << 53, settings=Settings.model_construct())
        except NotBuilt as rejected:
            member = rejected.field.partition(" ")[0]
            shorter = _without(request, member)
            if shorter == request:
                return request, lines
            lines.append(f"not kept: {member}, which Tidemill does not support yet")
            request = shorter
        except (InvalidParameter, ValueError):
            return request, lines  # the API says it, in AWS's words
        else:
            return request, lines


def _without(request: Request, member: str) -> Request:
    found = {name: value for name, value in request.items() if name != member}
    for block in (MSK_BLOCK, SELF_MANAGED_BLOCK):
        if member in found.get(block, {}):
            found[block] = {name: value for name, value in found[block].items() if name != member}
            if not found[block]:
                del found[block]
    return found


def _changes(
    before: Request, after: Request, configuration: Mapping[str, Any], tags: Mapping[str, str] | None
) -> list[str]:
    lines = [
        f"changed: {name} {_shown(before.get(name))} is {_shown(after.get(name))} here"
        for name in (
            *("FunctionName", "EventSourceArn", "SelfManagedEventSource", "SourceAccessConfigurations"),
            *("StartingPosition", "DestinationConfig"),
        )
        if before.get(name) != after.get(name)
    ]
    if tags is None and "Tags" not in configuration:
        lines.append("not kept: Tags, which were not to be read; add them with --tag")
    if configuration.get("FilterCriteriaError") or (
        configuration.get("KMSKeyArn") and not configuration.get("FilterCriteria")
    ):
        lines.append("not kept: FilterCriteria, which are encrypted: read them with the right kms:Decrypt")
    if before.get("DestinationConfig") and before["DestinationConfig"] == after.get("DestinationConfig"):
        lines.append(f"kept: DestinationConfig {_shown(after['DestinationConfig'])}, which must exist here")
    return lines


def _shown(value: Any) -> str:
    import json

    return "(none)" if value is None else value if isinstance(value, str) else json.dumps(value)
