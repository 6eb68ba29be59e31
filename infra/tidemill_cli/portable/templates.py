"""Owns `export --as cloudformation` and `--as sam`: whole templates in YAML, and a template's properties.

Pure. Authority: the CloudFormation reference of AWS::Lambda::EventSourceMapping; the SAM reference of the
events MSK and SelfManagedKafka, as aws-sam-translator reads them.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from tidemill_cli.portable.request import BOOTSTRAP_KEY, MSK_BLOCK, SELF_MANAGED_BLOCK, Request, service_of
from tidemill_cli.portable.times import epoch_seconds

Properties = dict[str, Any]

# SAM's Type of a failure destination, from which it makes the function's rights, by the ARN's service.
_DESTINATIONS: Final = {"sqs": "SQS", "sns": "SNS", "s3": "S3"}
_NOT_IN_SAM: Final = ("LoggingConfig", "Tags")
_NO_WIDTH: Final = 1 << 20


def cloudformation(request: Request) -> str:
    """Return a template with the mapping as its one resource."""
    resource = {"Type": "AWS::Lambda::EventSourceMapping", "Properties": properties(request)}
    return _yaml({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {resource_id(request): resource}})


def sam(request: Request, function: Mapping[str, Any]) -> str:
    """Return a template with the function (what Lambda replies of it) and the mapping as its event."""
    name, _, qualifier = _function_and_qualifier(request)
    kept = ("Runtime", "Handler", "Timeout", "MemorySize", "Architectures", "Environment")
    settings = {key: function[key] for key in kept if function.get(key)}
    if re.fullmatch(r"[A-Za-z][\w-]*", qualifier):
        settings["AutoPublishAlias"] = qualifier
    resource = {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            "FunctionName": name,
            "CodeUri": "./",
            **settings,
            "Events": {resource_id(request): _event(request)},
        },
    }
    return _yaml(
        {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Transform": "AWS::Serverless-2016-10-31",
            "Resources": {f"{_words(name)}Function": resource},
        }
    )


def left_out_of_sam(request: Request) -> list[str]:
    """Return the members that a SAM event has no property for."""
    block = request.get(SELF_MANAGED_BLOCK) or {}
    return [
        *(name for name in _NOT_IN_SAM if name in request),
        *(name for name in ("ConsumptionMode",) if name in block),
    ]


def properties(request: Request) -> Properties:
    """Return the properties of AWS::Lambda::EventSourceMapping."""
    found = dict(request)
    if key := found.pop("KMSKeyArn", None):
        found["KmsKeyArn"] = key
    if source := found.get("SelfManagedEventSource"):
        servers = source["Endpoints"][BOOTSTRAP_KEY]
        found["SelfManagedEventSource"] = {"Endpoints": {"KafkaBootstrapServers": servers}}
    if moment := found.get("StartingPositionTimestamp"):
        found["StartingPositionTimestamp"] = epoch_seconds(moment)
    if tags := found.get("Tags"):
        found["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return found


def resource_id(request: Request) -> str:
    """Return a name for the resource, of letters and digits only."""
    return f"{_words(request['Topics'][0])}Mapping"


def _event(request: Request) -> Properties:
    found = properties(request)
    gone = ("FunctionName", "EventSourceArn", "SelfManagedEventSource", MSK_BLOCK, SELF_MANAGED_BLOCK)
    kept = {name: value for name, value in found.items() if name not in (*gone, *_NOT_IN_SAM)}
    own: Properties = found.get(MSK_BLOCK) or found.get(SELF_MANAGED_BLOCK) or {}
    kept |= {name: own[name] for name in ("ConsumerGroupId", "SchemaRegistryConfig") if name in own}
    if "DestinationConfig" in kept:
        kept["DestinationConfig"] = _typed(kept["DestinationConfig"])
    if arn := request.get("EventSourceArn"):
        return {"Type": "MSK", "Properties": {"Stream": arn, **kept}}
    servers = found["SelfManagedEventSource"]["Endpoints"]["KafkaBootstrapServers"]
    return {"Type": "SelfManagedKafka", "Properties": {"KafkaBootstrapServers": servers, **kept}}


def _typed(config: Mapping[str, Any]) -> Properties:
    on_failure = config.get("OnFailure") or {}
    kind = _DESTINATIONS.get(service_of(on_failure.get("Destination")))
    return {**config, "OnFailure": {"Type": kind, **on_failure} if kind else on_failure}


def _function_and_qualifier(request: Request) -> tuple[str, str, str]:
    name = request["FunctionName"]
    return str(name.rpartition(":function:")[2] if name.startswith("arn:") else name).partition(":")


def _words(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", name))


def _yaml(document: Mapping[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(document, sort_keys=False, width=_NO_WIDTH)).rstrip("\n")
