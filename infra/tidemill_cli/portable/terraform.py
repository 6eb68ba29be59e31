"""Owns `export --as terraform`: the mapping as one resource in HCL. Pure.

Authority: the documentation of aws_lambda_event_source_mapping in the provider hashicorp/aws, and HCL's
native syntax for literals.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tidemill_cli.portable.request import BOOTSTRAP_KEY, MSK_BLOCK, SELF_MANAGED_BLOCK, Request
from tidemill_cli.portable.times import iso_time

# The API's members that the provider calls otherwise.
_RENAMED: Final = {
    "FunctionResponseTypes": "function_response_types",
    "KMSKeyArn": "kms_key_arn",
    "SchemaRegistryURI": "schema_registry_uri",
    "URI": "uri",
}
# Members that are blocks; of a list, its elements are blocks of this name.
_BLOCKS: Final = {
    "AccessConfigs": "access_config",
    MSK_BLOCK: "amazon_managed_kafka_event_source_config",
    "DestinationConfig": "destination_config",
    "FilterCriteria": "filter_criteria",
    "Filters": "filter",
    "LoggingConfig": "logging_config",
    "MetricsConfig": "metrics_config",
    "OnFailure": "on_failure",
    "ProvisionedPollerConfig": "provisioned_poller_config",
    "SchemaRegistryConfig": "schema_registry_config",
    "SchemaValidationConfigs": "schema_validation_config",
    SELF_MANAGED_BLOCK: "self_managed_kafka_event_source_config",
    "SelfManagedEventSource": "self_managed_event_source",
    "SourceAccessConfigurations": "source_access_configuration",
}
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def resource(request: Request) -> str:
    """Return `resource "aws_lambda_event_source_mapping" …`."""
    label = re.sub(r"\W", "_", request["Topics"][0], flags=re.ASCII)
    label = label if re.match(r"[A-Za-z_]", label) else f"_{label}"
    return "\n".join([f'resource "aws_lambda_event_source_mapping" "{label}" {{', *_body(request, "  "), "}"])


def left_out_of_terraform(request: Request) -> list[str]:
    """Return the members that the provider does not send: it takes a window of 0 as not set."""
    name = "MaximumBatchingWindowInSeconds"
    return [name] if request.get(name) == 0 else []


def _body(members: Mapping[str, Any], indent: str) -> Iterator[str]:
    """The attributes, then the blocks, as the provider's own documentation has them."""
    attributes = {_attribute(name): value for name, value in members.items() if name not in _BLOCKS}
    width = max(map(len, attributes), default=0)
    for name, value in attributes.items():
        yield f"{indent}{name:<{width}} = {_literal(value)}"
    for name, label in _BLOCKS.items():
        found = members.get(name)
        for block in found if isinstance(found, list) else [found] if found else []:
            yield f"{indent}{label} {{"
            yield from _body(_renamed(name, block), f"{indent}  ")
            yield f"{indent}}}"


def _renamed(name: str, block: Mapping[str, Any]) -> Mapping[str, Any]:
    """A block's members where they are not the API's."""
    if name == "SelfManagedEventSource":
        servers = block["Endpoints"][BOOTSTRAP_KEY]
        return {"Endpoints": {BOOTSTRAP_KEY: ",".join(servers)}}
    if name == "OnFailure":
        return {"DestinationArn": block["Destination"]}
    return block


def _attribute(name: str) -> str:
    return _RENAMED.get(name) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_literal(key)} = {_literal(item)}" for key, item in value.items()) + " }"
    return _quoted(iso_time(value))


def _quoted(text: str) -> str:
    """A string of HCL: its own escapes, and no templates."""
    escaped = "".join(
        _ESCAPES.get(each) or (each if each.isprintable() else f"\\U{ord(each):08x}") for each in text
    )
    return '"' + escaped.replace("${", "$${").replace("%{", "%%{") + '"'
